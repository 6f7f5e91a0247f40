//! The chains that decide by flow state, and what stands behind them: the detectors that count packets, rules, essentials, defaults.

use engine::Essential;
use engine::refusal::{Codes, REFUSALS, Refusal};
use policy::{Action, DefaultAction, Direction, Rule};

use super::branch::Branch;
use super::flood;
use super::header::{Entry, Header, Target};
use super::inspect;
use super::question;
use super::rule::Content;
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

/// An ICMP error by which a host says that it does not serve what it was asked for.
fn condition(
    Refusal {
        protocol,
        kind,
        codes,
    }: Refusal,
) -> String {
    let header = if protocol == policy::protocol::ICMP {
        "icmp"
    } else {
        "icmpv6"
    };
    match codes {
        Codes::All => format!("{header} type {kind}"),
        Codes::Only(code) => format!("{header} type {kind} {header} code {code}"),
        Codes::AllBut(code) => format!("{header} type {kind} {header} code != {code}"),
    }
}

pub(super) fn write(writer: &mut Writer<'_>) {
    flood::write(writer);
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
        rules.extend(question::copies(writer, direction));
        let established = established(writer, direction, content);
        if let Some(meter) = flood::of_icmp(writer, direction) {
            // Two comparisons cost less than a lookup, and most packets need nothing else.
            rules.push(format!(
                "meta l4proto != icmp meta l4proto != ipv6-icmp ct state established {established}"
            ));
            rules.push(meter);
        }
        let related = match direction {
            Direction::In => "related",
            Direction::Out | Direction::Forward => "refusals",
        };
        // First and by itself, as most packets are of this kind and a comparison costs less than a lookup.
        rules.push(format!("ct state established {established}"));
        rules.push(format!(
            "ct state vmap {{ related : goto {related}, invalid : goto drop_invalid }}"
        ));
        rules.push(shield::IMPOSSIBLE_FLAGS.to_owned());
        rules.extend(flood::of_unanswered(writer, direction));
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
    let refusals =
        REFUSALS.map(|refusal| format!("{} {}", condition(refusal), writer.log_refusal()));
    let onwards = std::iter::once("goto related".to_owned());
    writer
        .table
        .chain("refusals", refusals.into_iter().chain(onwards).collect());
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
    let mut rules = flood::of_established(writer, direction);
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
