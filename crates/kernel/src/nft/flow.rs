//! The chains that decide by flow state, and what stands behind them: the detectors that count packets, rules, essentials, defaults.

use engine::Essential;
use engine::refusal::{Codes, REFUSALS, Refusal};
use policy::{Action, DefaultAction, Direction, Rule};

use super::branch::Branch;
use super::flood;
use super::forged;
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

/// Up to so many rules that measure packets or look into them, rules that no packet can share with them are left out of what packets
/// pass.
const COMPARED: usize = 64;

/// Holds for a SYN by which a connection begins.
pub(super) const BEGINS: &str = "tcp flags & (fin|syn|rst|ack) == syn";
/// Holds for all other TCP segments.
const BEGINS_NOT: &str = "tcp flags & (fin|syn|rst|ack) != syn";
/// What packets of established flows are, one by one; but for a SYN of the side that began the connection. Connection tracking lets that
/// pass as a part of the one that it knows, as behind a reset by the server (`nf_conntrack_tcp_packet`, "Ignored packets"), and whoever
/// answers it begins another: the rules decide about each.
const ESTABLISHED: [&str; 4] = [
    BEGINS_NOT,
    "meta l4proto != tcp",
    "ct direction reply",
    // Rules would not let it in: it is related to what they have let in.
    "ct status expected",
];
/// And what most of them are.
const ESTABLISHED_MOSTLY: [&str; 2] = [BEGINS_NOT, "meta l4proto udp"];

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
        let mut rules = forged::passes(writer, direction);
        if hands_up {
            rules.push(inspect::FORGET_MARKS.to_owned());
        }
        let established = established(writer, direction, content);
        let icmp = flood::of_icmp(writer, direction);
        let questions = question::jump(writer, direction);
        let copies = question::copies(writer, direction);
        if questions.is_none() && copies.is_none() {
            // Comparisons cost less than a lookup, and most packets need nothing else.
            let clean = shield::clean_destinations(writer, direction);
            for is in ESTABLISHED_MOSTLY {
                let passes = |clean| format!("{is} {clean}ct state established {established}");
                rules.extend(clean.iter().map(passes));
            }
        }
        rules.extend(inspect::begins(writer));
        // Before established flows pass: a ban cuts them too.
        rules.extend(shield::destination(direction));
        rules.extend(questions);
        rules.extend(copies);
        rules.extend(icmp);
        let related = match direction {
            Direction::In => "related",
            Direction::Out | Direction::Forward => "refusals",
        };
        // By itself, as most packets are of this kind and a comparison costs less than a lookup.
        rules.extend(ESTABLISHED.map(|is| format!("{is} ct state established {established}")));
        rules.extend(inspect::begins_again(writer));
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
    let related = writer.acceptance_uncounted(Cause::Related, false);
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
            // A reset would end, to connection tracking, the connection that there is, and anybody can send a SYN in its name.
            format!("ct state established {BEGINS} drop"),
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
    let mut rules = flood::of_established(writer, direction);
    let metered = first_of(writer, direction, Target::Unmeasured, |rule| {
        (rule.measures_every_packet()).then_some(Target::Meter(rule.id))
    });
    if !metered.is_empty() {
        // The first rule that matches is the one that let the flow pass, and measures it or does not.
        let name = format!("metered_{direction}");
        let end = "return";
        branch(writer, &name, &metered, direction, ESTABLISHED_CUTS, end);
        rules.push(format!("jump {name}"));
    }
    rules.extend(inspect::openings(writer));
    let next = looked_at(writer, direction, content);
    if rules.is_empty() {
        return next;
    }
    rules.push(next);
    let name = format!("established_{direction}");
    writer.table.chain(name.clone(), rules);
    format!("goto {name}")
}

/// Writes which packets of established flows a content rule has to see; gives the verdict that leads there.
fn looked_at(writer: &mut Writer<'_>, direction: Direction, content: Content) -> String {
    if content == Content::Skip {
        return "accept".to_owned();
    }
    let asks = |rule: &Rule| rule.content.is_some().then_some(Target::Rule(rule.id));
    let asks_always = |rule: &Rule| {
        let content = rule.content.as_ref();
        asks(rule).filter(|_| content.is_some_and(|content| content.every_packet))
    };
    let unsettled = asked(writer, direction, "unsettled", asks);
    if unsettled.is_empty() {
        return "accept".to_owned();
    }
    let watched = asked(writer, direction, "watched", asks_always);
    let mut rules = Vec::new();
    if watched.is_empty() {
        rules.push(format!("{} accept", inspect::IS_SETTLED));
    }
    rules.extend((watched.iter()).map(|way| format!("{} {way}", inspect::IS_SETTLED)));
    rules.extend(unsettled);
    let name = format!("content_{direction}");
    writer.table.chain(name.clone(), rules);
    format!("goto {name}")
}

/// Writes the list of content rules that are to be asked; gives the rules that lead there, none where there is nothing to ask. Of what
/// the side sends that began the flow, those behind the rule that let it pass are not asked; of answers all are.
fn asked(
    writer: &mut Writer<'_>,
    direction: Direction,
    name: &str,
    asks: impl Fn(&Rule) -> Option<Target>,
) -> Vec<String> {
    let first = first_of(writer, direction, Target::Passed, asks);
    let mut all = first.clone();
    all.retain(|entry| entry.target != Target::Passed);
    if all.is_empty() {
        return Vec::new();
    }
    let mut write = |name: &str, entries: &[Entry]| {
        branch(writer, name, entries, direction, ESTABLISHED_CUTS, "accept");
        format!("goto {name}")
    };
    let name = format!("{name}_{direction}");
    let mut ways = Vec::new();
    if all.len() < first.len() {
        let answers = write(&format!("{name}_answers"), &all);
        ways.push(format!("ct direction reply {answers}"));
    }
    ways.push(write(&name, &first));
    ways
}

/// The rules for which `wanted` gives a target, and between them those that let flows pass before one of them is reached, with the
/// target `passed`.
fn first_of(
    writer: &mut Writer<'_>,
    direction: Direction,
    passed: Target,
    wanted: impl Fn(&Rule) -> Option<Target>,
) -> Vec<Entry> {
    let of_direction = |rule: &&Rule| rule.directions.contains(direction);
    let sought = |rule: &&Rule| of_direction(rule) && wanted(rule).is_some();
    let plan = writer.plan;
    let sought: Vec<&Rule> = plan.rules.iter().filter(sought).collect();
    let stands_before = |rule: &Rule| {
        sought.len() > COMPARED
            || (sought.iter()).any(|later| rule.id < later.id && rule.may_meet(later))
    };
    let (mut entries, mut last) = (Vec::new(), 0);
    for rule in plan.rules.iter().filter(of_direction) {
        let target = match wanted(rule) {
            Some(target) => target,
            None if rule.lets_pass() && stands_before(rule) => passed,
            None => continue,
        };
        let Some(header) = Header::of(rule, &mut writer.lists) else {
            continue;
        };
        entries.push(Entry {
            header,
            target,
            remark: rule.name.clone(),
        });
        if target != passed {
            last = entries.len();
        }
    }
    entries.truncate(last);
    entries
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
