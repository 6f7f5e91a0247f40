//! The chains that decide by flow state, and what stands behind them: the rate detector, rules, essentials, defaults.

use std::num::NonZeroU32;
use std::rc::Rc;

use engine::Essential;
use policy::{Action, DefaultAction, Direction, RateUnit, Response, Rule};

use super::branch::Branch;
use super::header::{Entry, Header, Target};
use super::inspect;
use super::list::{Family, Side};
use super::question;
use super::rate::meter;
use super::rule::{Content, meter_set};
use super::shield;
use super::writer::Writer;
use crate::tag::{Cause, Outcome};

/// Just before the priority at which most other rulesets filter, 0.
const PRIORITY: i32 = -40;
/// Cuts on the way through the rules. The kernel allows 16 chains one behind the other (`NFT_JUMP_STACK_SIZE`), and counts
/// `goto` too; beside the cuts there are at most six.
const RULE_CUTS: usize = 6;
/// Cuts on the way through what established packets pass: two such trees stand one behind the other.
const ESTABLISHED_CUTS: usize = 3;

/// Up to so many rules that measure packets, rules that no packet can share with them are left out of what packets pass.
const COMPARED: usize = 64;

struct Hook {
    direction: Direction,
    chain: &'static str,
    hook: &'static str,
}

const HOOKS: [Hook; 3] = [
    Hook {
        direction: Direction::In,
        chain: "inbound",
        hook: "input",
    },
    Hook {
        direction: Direction::Out,
        chain: "outbound",
        hook: "output",
    },
    Hook {
        direction: Direction::Forward,
        chain: "forward",
        hook: "forward",
    },
];

pub(super) fn write(writer: &mut Writer<'_>) {
    rate_sets(writer);
    let content = Content::of(writer);
    let hands_up = inspect::hands_up(writer);
    for hook in HOOKS {
        let direction = hook.direction;
        let mut rules = question::answers(writer, direction);
        if hands_up {
            rules.push(inspect::FORGET_MARKS.to_owned());
        }
        // Before established flows pass: a ban cuts them too.
        rules.extend(shield::destination(direction));
        rules.extend(question::jump(writer, direction));
        let established = established(writer, direction, content);
        // First and by itself, as most packets are of this kind and a comparison costs less than a lookup.
        rules.push(format!("ct state established {established}"));
        rules.push(
            "ct state vmap { related : goto related, invalid : goto drop_invalid }".to_owned(),
        );
        rules.push(shield::IMPOSSIBLE_FLAGS.to_owned());
        rules.extend(rate_tests(writer, direction));
        rules.push(format!("goto rules_{direction}"));
        writer
            .table
            .base_chain(hook.chain, hook.hook, PRIORITY, rules);
        rule_branch(writer, direction, content);
        let end = format!("goto default_{direction}");
        if writer.plan.essentials {
            let mut rules = essentials(direction);
            rules.push(end);
            writer.table.chain(format!("essentials_{direction}"), rules);
        }
    }
    let related = vec![
        writer.log_accepted(Cause::Related, false),
        "accept".to_owned(),
    ];
    writer.table.chain("related", related);
    let mut invalid = vec![shield::IMPOSSIBLE_FLAGS.to_owned()];
    invalid.extend(writer.refusal(Outcome::Drop, Cause::Invalid));
    writer.table.chain("drop_invalid", invalid);
    if writer.plan.essentials {
        for kind in Essential::ALL {
            let cause = Cause::Essential(*kind);
            let rules = if *kind == Essential::Loopback {
                vec![writer.table.counter(&cause.counter()), "accept".to_owned()]
            } else {
                writer.acceptance(cause, false)
            };
            writer.table.chain(cause.counter(), rules);
        }
    }
    for direction in Direction::ALL {
        let cause = Cause::Default(direction);
        let rules = match writer.plan.default.of(direction) {
            DefaultAction::Allow => writer.acceptance(cause, false),
            DefaultAction::Deny => writer.refusal(Outcome::Drop, cause),
            DefaultAction::Reject => writer.refusal(Outcome::Reject, cause),
        };
        writer.table.chain(format!("default_{direction}"), rules);
    }
    writer.table.chain(
        "refuse",
        vec![
            "meta l4proto tcp reject with tcp reset".to_owned(),
            "reject with icmpx admin-prohibited".to_owned(),
        ],
    );
    if hands_up {
        inspect::write(writer);
    }
    question::write(writer);
}

/// The rules of a direction, then what stands after them.
fn rule_branch(writer: &mut Writer<'_>, direction: Direction, content: Content) {
    let mut entries = Vec::new();
    for rule in writer
        .plan
        .rules
        .iter()
        .filter(|rule| rule.directions.contains(direction))
    {
        if rule.content.is_some() && content == Content::Skip {
            continue;
        }
        let bans = matches!(rule.action, Action::Ban(_)) && rule.content.is_none();
        let target = if bans && direction == Direction::Out {
            Target::RuleOut(rule.id)
        } else {
            Target::Rule(rule.id)
        };
        entries.extend(Header::of(rule, &mut writer.lists).map(|header| Entry {
            header,
            target,
            remark: rule.name.clone(),
        }));
    }
    let after = if writer.plan.essentials {
        "essentials"
    } else {
        "default"
    };
    let (name, end) = (
        format!("rules_{direction}"),
        format!("goto {after}_{direction}"),
    );
    branch(writer, &name, &entries, direction, RULE_CUTS, &end);
}

fn branch(
    writer: &mut Writer<'_>,
    name: &str,
    entries: &[Entry],
    direction: Direction,
    depth: usize,
    end: &str,
) {
    Branch {
        name,
        entries,
        direction,
        depth,
        end,
    }
    .write(&mut writer.lists, &mut writer.table);
}

/// Writes what packets of established flows pass; gives the verdict that leads there.
fn established(writer: &mut Writer<'_>, direction: Direction, content: Content) -> String {
    let (mut metered, mut last_meter) = (Vec::new(), 0);
    let meters: Vec<&Rule> = (writer.plan.rules.iter())
        .filter(|rule| rule.directions.contains(direction) && rule.measures_every_packet())
        .collect();
    let stands_before_a_meter = |rule: &Rule| {
        meters.len() > COMPARED
            || (meters.iter()).any(|meter| rule.id < meter.id && rule.may_meet(meter))
    };
    let (mut watched, mut unsettled) = (Vec::new(), Vec::new());
    for rule in writer
        .plan
        .rules
        .iter()
        .filter(|rule| rule.directions.contains(direction))
    {
        let Some(header) = Header::of(rule, &mut writer.lists) else {
            continue;
        };
        let entry = |target| Entry {
            header: header.clone(),
            target,
            remark: rule.name.clone(),
        };
        if rule.measures_every_packet() {
            metered.push(entry(Target::Meter(rule.id)));
            last_meter = metered.len();
        } else if rule.lets_pass() && stands_before_a_meter(rule) {
            metered.push(entry(Target::Unmeasured));
        }
        if let Some(wanted) = rule.content.as_ref().filter(|_| content != Content::Skip) {
            unsettled.push(entry(Target::Rule(rule.id)));
            if wanted.every_packet {
                watched.push(entry(Target::Rule(rule.id)));
            }
        }
    }
    metered.truncate(last_meter);
    let mut next = "accept".to_owned();
    if !unsettled.is_empty() {
        let mut settled = "accept".to_owned();
        if !watched.is_empty() {
            let name = format!("watched_{direction}");
            branch(
                writer,
                &name,
                &watched,
                direction,
                ESTABLISHED_CUTS,
                "accept",
            );
            settled = format!("goto {name}");
        }
        let name = format!("unsettled_{direction}");
        branch(
            writer,
            &name,
            &unsettled,
            direction,
            ESTABLISHED_CUTS,
            "accept",
        );
        let rules = vec![
            format!("{} {settled}", inspect::IS_SETTLED),
            format!("goto {name}"),
        ];
        next = format!("content_{direction}");
        writer.table.chain(next.clone(), rules);
        next = format!("goto {next}");
    }
    let counted = writer
        .plan
        .detect
        .rate
        .as_ref()
        .is_some_and(|rate| rate.established);
    let mut rules = if counted {
        rate_tests(writer, direction)
    } else {
        Vec::new()
    };
    if !metered.is_empty() {
        // The first rule that matches is the one that let the flow pass, and measures it or does not.
        let name = format!("metered_{direction}");
        branch(
            writer,
            &name,
            &metered,
            direction,
            ESTABLISHED_CUTS,
            "return",
        );
        rules.push(format!("jump {name}"));
    }
    if rules.is_empty() {
        return next;
    }
    rules.push(next);
    let name = format!("established_{direction}");
    writer.table.chain(name.clone(), rules);
    format!("goto {name}")
}

/// The meters of the `rate` detector and what happens to packets over it.
fn rate_sets(writer: &mut Writer<'_>) {
    let Some(rate) = &writer.plan.detect.rate else {
        return;
    };
    let packets = NonZeroU32::new(rate.packets).unwrap_or(NonZeroU32::MIN);
    let meter = meter(packets, rate.window, packets, RateUnit::Packets);
    for family in Family::BOTH {
        let name = format!("rate_{}", family.suffix());
        writer.table.set(meter_set(
            &name,
            family,
            writer.plan.limits.sources,
            meter.memory,
        ));
    }
    match rate.response {
        Response::Alert => {}
        Response::Limit => {
            let rules = writer.refusal(Outcome::Drop, Cause::Rate);
            writer.table.chain("over_rate", rules);
        }
        Response::Ban => {
            let mut rules = writer.ban_source(rate.ban);
            rules.extend(writer.refusal(Outcome::Ban, Cause::Rate));
            writer.table.chain("over_rate", rules);
        }
    }
}

/// The rules that measure the source. A source for which the full meter has no room is not measured: the rules decide.
/// Counted by address for IPv4, by `/64` for IPv6; sources to be ignored are not counted, protected ones are but not dropped.
fn rate_tests(writer: &mut Writer<'_>, direction: Direction) -> Vec<String> {
    let Some(rate) = writer
        .plan
        .detect
        .rate
        .as_ref()
        .filter(|_| direction != Direction::Out)
    else {
        return Vec::new();
    };
    let packets = NonZeroU32::new(rate.packets).unwrap_or(NonZeroU32::MIN);
    let meter = meter(packets, rate.window, packets, RateUnit::Packets);
    let ignored = writer.lists.share(&rate.ignore);
    writer.lists.name(
        &ignored,
        "rate_ignore".to_owned(),
        Some("sources that the rate detector does not count".to_owned()),
    );
    let protected = Rc::clone(&writer.protected);
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let key = family.counted_source();
        let mut outside = |list| {
            let lists = &mut writer.lists;
            lists.exclusions(list, Side::Source, family, &mut writer.table)
        };
        let alerts = rate.response == Response::Alert;
        let counted = outside(&ignored);
        let dropped = if alerts {
            Some(Vec::new())
        } else {
            outside(&protected)
        };
        // Where nobody is counted, or nobody would be dropped, there is nothing to measure.
        let (Some(counted), Some(dropped)) = (counted, dropped) else {
            continue;
        };
        let mut parts = vec!["iif != \"lo\"".to_owned()];
        parts.extend(counted);
        parts.push(format!(
            "update @rate_{} {{ {key} limit rate over {} }}",
            family.suffix(),
            meter.terms
        ));
        if alerts {
            parts.push(writer.table.counter(&Cause::Rate.counter()));
            parts.push(writer.log_refused(Outcome::Alert, Cause::Rate));
        } else {
            parts.extend(dropped);
            parts.push("goto over_rate".to_owned());
        }
        rules.push(parts.join(" "));
    }
    rules
}

/// What a network needs under any default (see [`Essential`]).
fn essentials(direction: Direction) -> Vec<String> {
    let mut rules: Vec<&str> = Vec::new();
    match direction {
        Direction::In => rules.push("iif \"lo\" goto loopback"),
        Direction::Out => rules.push("oif \"lo\" goto loopback"),
        Direction::Forward => {}
    }
    rules.extend([
        "icmpv6 type 133-137 ip6 hoplimit 255 goto neighbour_discovery",
        "icmpv6 type { 130, 131, 132, 143 } ip6 saddr { ::, fe80::/10 } goto multicast_listener",
        "icmpv6 type 2 goto path_mtu",
        "icmp type 3 icmp code 4 goto path_mtu",
    ]);
    match direction {
        Direction::In => rules.extend([
            "meta nfproto ipv4 udp sport 67 udp dport 68 goto dhcp",
            "ip6 saddr fe80::/10 udp sport 547 udp dport 546 goto dhcpv6",
        ]),
        Direction::Out => rules.extend([
            "meta nfproto ipv4 udp sport 68 udp dport 67 goto dhcp",
            "meta nfproto ipv6 udp sport 546 udp dport 547 goto dhcpv6",
        ]),
        Direction::Forward => {}
    }
    rules.into_iter().map(str::to_owned).collect()
}
