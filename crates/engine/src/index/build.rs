//! Builds the index: which field to cut where, and what stays a list.

use std::collections::HashMap;

use policy::address::{IPV4_FIRST, IPV4_LAST};
use policy::{AddressMatch, Direction, Plan, PortSet, Rule, RuleId};

use super::{Cut, EMPTY, Entry, Index, LEAF_BIT, Node};

/// Lists of at most this many rules are not cut further: to ask them all costs less than another step down the tree.
const LEAF: usize = 8;
/// So few rules are not grouped.
const UNGROUPED: usize = 16;
/// Named sets with more ranges than this are looked up in the leaf, not cut.
const CUTTABLE_RANGES: usize = 512;
/// Rule references that a tree may hold for each rule, and at least.
const BUDGET_PER_RULE: usize = 64;
const BUDGET_FLOOR: usize = 65_536;
/// TCP and UDP come first, while the budget lasts.
const COMMON: [u8; 2] = [6, 17];

impl Index {
    /// Builds the index of the rules that cover `direction` and that `wanted` names.
    pub(crate) fn build(plan: &Plan, direction: Direction, wanted: impl Fn(&Rule) -> bool) -> Self {
        let rules: Vec<RuleId> = plan
            .rules
            .iter()
            .filter(|rule| rule.directions.contains(direction) && wanted(rule))
            .map(|rule| rule.id)
            .collect();
        let budget = BUDGET_FLOOR.max(rules.len() * BUDGET_PER_RULE);
        let mut builder = Builder {
            plan,
            nodes: Vec::new(),
            entries: Vec::new(),
            known: HashMap::new(),
            budget,
        };
        let mut kinds: HashMap<Vec<RuleId>, u8> = HashMap::new();
        let mut index = Self {
            kinds: Box::new([0; 256]),
            trees: Vec::new(),
            nodes: Vec::new(),
            entries: Vec::new(),
        };
        for protocol in COMMON.into_iter().chain(0..=u8::MAX) {
            let named: Vec<RuleId> = rules
                .iter()
                .copied()
                .filter(|&id| builder.rule(id).protocols.contains(protocol))
                .collect();
            let next = index.trees.len() as u8;
            let kind = *kinds.entry(named).or_insert_with_key(|named| {
                index.trees.push(builder.trees(named));
                next
            });
            index.kinds[usize::from(protocol)] = kind;
        }
        Self {
            nodes: builder.nodes,
            entries: builder.entries,
            ..index
        }
    }
}

/// The range of a set that is one range of IPv4.
fn one_ipv4_range(wanted: &AddressMatch) -> Option<(u32, u32)> {
    match wanted {
        AddressMatch::Of { inline, sets } if sets.is_empty() => match inline.ranges() {
            [(first, last)] if *first >= IPV4_FIRST && *last <= IPV4_LAST => {
                Some((*first as u32, *last as u32))
            }
            _ => None,
        },
        AddressMatch::Any | AddressMatch::Of { .. } => None,
    }
}

/// A field that a node can cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Field {
    Port,
    SourcePort,
    Source,
    Destination,
}

impl Field {
    const ALL: [Self; 4] = [
        Self::Port,
        Self::Source,
        Self::Destination,
        Self::SourcePort,
    ];
}

/// The fields that were cut on the way to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Fields(u8);

impl Fields {
    fn contains(self, field: Field) -> bool {
        self.0 >> field as u8 & 1 == 1
    }

    fn with(self, field: Field) -> Self {
        Self(self.0 | 1 << field as u8)
    }
}

struct Builder<'a> {
    plan: &'a Plan,
    nodes: Vec<Node>,
    entries: Vec<Entry>,
    known: HashMap<(Vec<RuleId>, Fields), u32>,
    budget: usize,
}

impl Builder<'_> {
    fn rule(&self, id: RuleId) -> &Rule {
        &self.plan.rules[id.0 as usize]
    }

    /// The trees of rules of one kind of protocol.
    fn trees(&mut self, rules: &[RuleId]) -> Vec<u32> {
        self.groups(rules)
            .into_iter()
            .map(|group| self.node(group, Fields::default()))
            .collect()
    }

    /// Rules that name the same fields together, each group in order; few rules stay one group.
    fn groups(&self, rules: &[RuleId]) -> Vec<Vec<RuleId>> {
        if rules.len() <= UNGROUPED {
            return vec![rules.to_vec()];
        }
        let mut groups: Vec<(Fields, Vec<RuleId>)> = Vec::new();
        for &id in rules {
            let rule = self.rule(id);
            let named = Field::ALL
                .into_iter()
                .filter(|&field| !self.is_free(rule, field) && self.is_cuttable(rule, field))
                .fold(Fields::default(), Fields::with);
            match groups.iter_mut().find(|(fields, _)| *fields == named) {
                Some((_, group)) => group.push(id),
                None => groups.push((named, vec![id])),
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }

    fn node(&mut self, mut rules: Vec<RuleId>, cut: Fields) -> u32 {
        // What follows a rule that asks for nothing more is never reached.
        if let Some(last) = rules.iter().position(|&id| self.decides(id, cut)) {
            rules.truncate(last + 1);
        }
        let list = (rules, cut);
        if let Some(&known) = self.known.get(&list) {
            return known;
        }
        let (rules, _) = &list;
        let child = match self.best_cut(rules, cut) {
            Some(parts) if self.budget > parts.weight() => {
                self.budget -= parts.weight();
                let node = self.inner(parts, cut);
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
            _ => self.new_leaf(rules, cut),
        };
        self.known.insert(list, child);
        child
    }

    fn new_leaf(&mut self, rules: &[RuleId], cut: Fields) -> u32 {
        let mut leaf: Vec<Entry> = rules.iter().map(|&id| self.entry(id, cut)).collect();
        let Some(end) = leaf.last_mut() else {
            return EMPTY;
        };
        end.flags |= Entry::LAST;
        let first = self.entries.len() as u32;
        self.entries.extend(leaf);
        first | LEAF_BIT
    }

    fn inner(&mut self, parts: Parts, cut: Fields) -> Node {
        let field = parts.field;
        let cut = cut.with(field);
        let mut children = parts
            .lists
            .into_iter()
            .map(|list| self.node(list, cut))
            .collect::<Vec<u32>>();
        match parts.borders {
            Starts::Port(starts) => {
                // The last list is that of packets without ports.
                let without = children.pop().unwrap_or(EMPTY);
                Node::Port {
                    source: field == Field::SourcePort,
                    ports: Cut::new(starts.into_iter().zip(children)),
                    without,
                }
            }
            Starts::Address(starts) => {
                let family =
                    |v4: bool| {
                        starts.iter().copied().zip(children.iter().copied()).filter(
                            move |(start, _)| (IPV4_FIRST..=IPV4_LAST).contains(start) == v4,
                        )
                    };
                Node::Address {
                    source: field == Field::Source,
                    v4: Cut::new(family(true).map(|(start, child)| (start as u32, child))),
                    v6: Cut::new(family(false)),
                }
            }
        }
    }

    /// What is left to be asked of a packet that came through these cuts.
    fn entry(&self, id: RuleId, cut: Fields) -> Entry {
        let rule = self.rule(id);
        let open = |field: Field| {
            !(self.is_free(rule, field) || cut.contains(field) && self.is_cuttable(rule, field))
        };
        let port = match (open(Field::Port), rule.port.ranges()) {
            (true, [one]) => Some(*one),
            _ => None,
        };
        let source = open(Field::Source).then(|| one_ipv4_range(&rule.from));
        let mut flags = 0;
        let mut flag = |flag: u8, set: bool| flags |= if set { flag } else { 0 };
        flag(Entry::ANY_PORT, port.is_none());
        flag(Entry::ANY_SOURCE, source.flatten().is_none());
        flag(
            Entry::MORE,
            rule.content.is_some()
                || rule.expires.is_some()
                || rule.interface.is_some()
                || (open(Field::Port) && port.is_none())
                || open(Field::SourcePort)
                || open(Field::Destination)
                || source == Some(None),
        );
        Entry {
            id,
            source: source.flatten().unwrap_or_default(),
            port: port.unwrap_or_default(),
            flags,
        }
    }

    /// Whether the rule matches whatever reaches a node behind these cuts.
    fn decides(&self, id: RuleId, cut: Fields) -> bool {
        let rule = self.rule(id);
        rule.content.is_none()
            && rule.expires.is_none()
            && rule.interface.is_none()
            && Field::ALL.into_iter().all(|field| {
                self.is_free(rule, field) || (cut.contains(field) && self.is_cuttable(rule, field))
            })
    }

    fn is_free(&self, rule: &Rule, field: Field) -> bool {
        match field {
            Field::Port => rule.port.is_any(),
            Field::SourcePort => rule.source_port.is_any(),
            Field::Source => rule.from == AddressMatch::Any,
            Field::Destination => rule.to == AddressMatch::Any,
        }
    }

    fn is_cuttable(&self, rule: &Rule, field: Field) -> bool {
        let small = |wanted: &AddressMatch| match wanted {
            AddressMatch::Any => true,
            AddressMatch::Of { inline: _, sets } => sets.iter().all(|set| {
                self.plan.sets[set.0 as usize].addresses.ranges().len() <= CUTTABLE_RANGES
            }),
        };
        match field {
            Field::Port | Field::SourcePort => true,
            Field::Source => small(&rule.from),
            Field::Destination => small(&rule.to),
        }
    }

    /// The cut whose longest list is shortest, where one makes it shorter at all.
    fn best_cut(&self, rules: &[RuleId], cut: Fields) -> Option<Parts> {
        if rules.len() <= LEAF {
            return None;
        }
        Field::ALL
            .into_iter()
            .filter(|&field| !cut.contains(field))
            .filter(|&field| rules.iter().any(|&id| !self.is_free(self.rule(id), field)))
            .filter_map(|field| self.parts(rules, field))
            .min_by_key(|parts| (parts.expected(), parts.weight()))
            .filter(|parts| parts.expected() < rules.len())
    }

    fn parts(&self, rules: &[RuleId], field: Field) -> Option<Parts> {
        match field {
            Field::Port | Field::SourcePort => {
                let ports = |id: RuleId| {
                    if field == Field::Port {
                        &self.rule(id).port
                    } else {
                        &self.rule(id).source_port
                    }
                };
                let spans = rules.iter().map(|&id| match ports(id) {
                    PortSet::Any => vec![(0, u128::from(u16::MAX))],
                    PortSet::Of(ranges) => ranges
                        .iter()
                        .map(|&(first, last)| (u128::from(first), u128::from(last)))
                        .collect(),
                });
                let (starts, mut lists) =
                    sweep(rules, spans, &[], u128::from(u16::MAX), self.budget)?;
                lists.push(
                    rules
                        .iter()
                        .copied()
                        .filter(|&id| ports(id).is_any())
                        .collect(),
                );
                Some(Parts {
                    field,
                    borders: Starts::Port(starts.into_iter().map(|start| start as u16).collect()),
                    lists,
                })
            }
            Field::Source | Field::Destination => {
                let spans = rules.iter().map(|&id| {
                    let rule = self.rule(id);
                    let wanted = if field == Field::Source {
                        &rule.from
                    } else {
                        &rule.to
                    };
                    if self.is_cuttable(rule, field) {
                        wanted.resolve(&self.plan.sets).ranges().to_vec()
                    } else {
                        vec![(0, u128::MAX)]
                    }
                });
                let (starts, lists) = sweep(
                    rules,
                    spans,
                    &[IPV4_FIRST, IPV4_LAST + 1],
                    u128::MAX,
                    self.budget,
                )?;
                Some(Parts {
                    field,
                    borders: Starts::Address(starts),
                    lists,
                })
            }
        }
    }
}

/// A cut: its borders and the rules between them.
struct Parts {
    field: Field,
    borders: Starts,
    lists: Vec<Vec<RuleId>>,
}

enum Starts {
    Port(Vec<u16>),
    Address(Vec<u128>),
}

impl Parts {
    fn weight(&self) -> usize {
        self.lists.iter().map(|list| list.len() + 1).sum()
    }

    /// What a packet that falls between any two borders with the same chance meets, rounded up.
    fn expected(&self) -> usize {
        let mut lists: Vec<usize> = self.lists.iter().map(Vec::len).collect();
        lists.sort_unstable();
        let longest = lists.last().copied().unwrap_or_default();
        let mean = lists.iter().sum::<usize>() / lists.len().max(1);
        mean.midpoint(longest) + 1
    }
}

/// Cuts `0..=end` at the borders of all spans; gives the starts and the rules that hold in each piece, in rule order.
/// `None` when the pieces would hold more references than `budget`.
fn sweep(
    rules: &[RuleId],
    spans: impl Iterator<Item = Vec<(u128, u128)>>,
    borders: &[u128],
    end: u128,
    budget: usize,
) -> Option<(Vec<u128>, Vec<Vec<RuleId>>)> {
    let mut begins: Vec<(u128, usize)> = Vec::new();
    let mut ends: Vec<(u128, usize)> = Vec::new();
    let mut starts: Vec<u128> = vec![0];
    starts.extend(borders.iter().filter(|&&border| border <= end));
    for (place, ranges) in spans.enumerate() {
        for (first, last) in ranges {
            begins.push((first, place));
            starts.push(first);
            if last < end {
                ends.push((last + 1, place));
                starts.push(last + 1);
            }
        }
    }
    starts.sort_unstable();
    starts.dedup();
    begins.sort_unstable();
    ends.sort_unstable();
    let (mut begins, mut ends) = (begins.into_iter().peekable(), ends.into_iter().peekable());
    // A rule may have several ranges, but they are disjoint: it holds at most once at a time.
    let mut holding: std::collections::BTreeSet<usize> = std::collections::BTreeSet::new();
    let (mut lists, mut total) = (Vec::with_capacity(starts.len()), 0);
    for &start in &starts {
        while let Some((_, place)) = ends.next_if(|&(at, _)| at <= start) {
            holding.remove(&place);
        }
        while let Some((_, place)) = begins.next_if(|&(at, _)| at <= start) {
            holding.insert(place);
        }
        total += holding.len() + 1;
        if total > budget {
            return None;
        }
        lists.push(holding.iter().map(|&place| rules[place]).collect());
    }
    Some((starts, lists))
}
