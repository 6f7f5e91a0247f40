//! Which rules name a host: asked once for each host that a client asks for, however many rules there are.

use std::collections::HashMap;
use std::net::IpAddr;

use policy::names::Reach;
use policy::{Action, AskedHost, HostField, HostPattern, Plan, Rule, RuleId};

use super::asked::Asked;

/// The rules with `sni` or `http_host`, by what they name.
#[derive(Debug, Default)]
pub(crate) struct HostRules {
    by_field: [Named; 2],
}

/// The rules of one field. Every list ascends.
#[derive(Debug, Default)]
struct Named {
    every: Vec<RuleId>,
    itself: HashMap<Box<str>, Vec<RuleId>>,
    below: HashMap<Box<str>, Vec<RuleId>>,
    addresses: HashMap<IpAddr, Vec<RuleId>>,
    /// Most labels of a name in `below`: of a longer name only so many at its end are looked up.
    labels: usize,
}

impl HostRules {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut rules = Self::default();
        for rule in &plan.rules {
            let Some((field, hosts)) = rule.content.as_ref().and_then(|content| content.hosts())
            else {
                continue;
            };
            let named = &mut rules.by_field[field as usize];
            hosts.iter().for_each(|host| named.add(host, rule.id));
        }
        rules
    }

    /// The rules that name the host, in order.
    pub(crate) fn naming(&self, field: HostField, host: &AskedHost<'_>) -> Vec<RuleId> {
        let named = &self.by_field[field as usize];
        named.naming(host, named.every.clone())
    }
}

impl HostRules {
    /// The rule that decides a packet which asks for these hosts and in which a rule for patterns was `found`: the first of those that
    /// apply, for each host by itself. One that stops goes before those that let pass, so that no host passes beside another.
    /// With it the host for which it matched, if it did for one.
    pub(crate) fn first<'a>(
        &self,
        asked: &'a [Asked],
        found: Option<RuleId>,
        plan: &Plan,
        applies: impl Fn(&Rule) -> bool,
    ) -> (Option<RuleId>, Option<&'a Asked>) {
        let mut decided = None;
        for asked in asked {
            let host = AskedHost::new(&asked.host);
            let rules = if asked.is_path {
                self.by_field[asked.field as usize].naming(&host, Vec::new())
            } else {
                self.naming(asked.field, &host)
            };
            let mut rules = rules.into_iter().map(|id| &plan.rules[id.0 as usize]);
            let named = rules.find(|rule| {
                found.is_none_or(|found| rule.id < found)
                    && (!asked.is_doubtful || stops(rule))
                    && applies(rule)
            });
            let Some(id) = named.map(|rule| rule.id).or(found) else {
                continue;
            };
            let one = (Some(id), named.map(|_| asked));
            if stops(&plan.rules[id.0 as usize]) {
                return one;
            }
            decided.get_or_insert(one);
        }
        decided.unwrap_or((found, None))
    }

    /// Whether no rule names hosts.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_field.iter().all(|named| {
            named.every.is_empty()
                && named.itself.is_empty()
                && named.below.is_empty()
                && named.addresses.is_empty()
        })
    }
}

impl Named {
    fn add(&mut self, host: &HostPattern, rule: RuleId) {
        let pattern = match host {
            HostPattern::Address(address) => {
                return self.addresses.entry(*address).or_default().push(rule);
            }
            HostPattern::Name(pattern) if pattern.name().is_empty() => {
                return self.every.push(rule);
            }
            HostPattern::Name(pattern) => pattern,
        };
        let name = pattern.name();
        if pattern.reach() != Reach::Below {
            self.itself.entry(name.into()).or_default().push(rule);
        }
        if pattern.reach() != Reach::Itself {
            self.labels = self.labels.max(name.split('.').count());
            self.below.entry(name.into()).or_default().push(rule);
        }
    }

    /// The rules that name the host, beside those already found, in order.
    fn naming(&self, host: &AskedHost<'_>, mut found: Vec<RuleId>) -> Vec<RuleId> {
        match host {
            AskedHost::Name(name) => self.find(name, &mut found),
            AskedHost::Address(address) => {
                found.extend(self.addresses.get(address).into_iter().flatten());
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn find(&self, name: &str, found: &mut Vec<RuleId>) {
        found.extend(self.itself.get(name).into_iter().flatten());
        let dots = name.bytes().enumerate().rev();
        let dots = dots.filter_map(|(at, byte)| (byte == b'.').then_some(at));
        for dot in dots.take(self.labels) {
            found.extend(self.below.get(&name[dot + 1..]).into_iter().flatten());
        }
    }
}

/// Whether the rule stops what it matches. What can be read in several ways is stopped by any of its readings, and let pass by
/// none.
pub(crate) fn stops(rule: &Rule) -> bool {
    !matches!(rule.action, Action::Allow | Action::Limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::Content;

    fn rules(lists: &[&[&str]]) -> HostRules {
        let mut rules = HostRules::default();
        for (place, hosts) in lists.iter().enumerate() {
            let field = HostField::HttpHost;
            let hosts = hosts.iter().map(|text| HostPattern::parse(text, field));
            let content =
                Content::of_hosts(field, hosts.map(|host| host.expect("a host")).collect());
            let (_, hosts) = content.hosts().expect("hosts");
            for host in hosts {
                rules.by_field[field as usize].add(host, RuleId(place as u32));
            }
        }
        rules
    }

    #[test]
    fn all_rules_of_a_name_are_found_and_no_others() {
        let lists: &[&[&str]] = &[
            &["a.example"],
            &["*.example", "b.test"],
            &[".a.example"],
            &["*"],
            &["192.0.2.1", "2001:db8::1"],
            &["*.deep.er.a.example"],
        ];
        let index = rules(lists);
        for host in [
            "a.example",
            "A.EXAMPLE.",
            "b.a.example",
            "example",
            "b.test",
            "c.b.test",
            "192.0.2.1",
            "[2001:db8::1]",
            "192.0.2.2",
            "x.deep.er.a.example",
            "w.v.u.t.s.r.q.p.o.n.m.l.k.x.deep.er.a.example",
            "a b",
        ] {
            let asked = AskedHost::new(host.as_bytes());
            let found = index.naming(HostField::HttpHost, &asked);
            let plainly: Vec<RuleId> = (0..lists.len())
                .filter(|&place| {
                    lists[place].iter().any(|text| {
                        let pattern = HostPattern::parse(text, HostField::HttpHost);
                        pattern.expect("a host").matches(&asked)
                    })
                })
                .map(|place| RuleId(place as u32))
                .collect();
            assert_eq!(found, plainly, "{host}");
            assert_eq!(index.naming(HostField::Sni, &asked), []);
        }
    }
}
