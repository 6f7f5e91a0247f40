//! The shield: bans and feeds, of which protected addresses and this host's traffic with itself are exempt, and packets that
//! cannot be.
//!
//! Packets that come in are judged by source before connection tracking, so that a flood of them costs little. Packets that
//! leave and those that pass through are judged by destination, where the chains of their direction begin. What cannot be is
//! looked for after connection tracking, and not in established flows: the kernel takes no packet with such flags for part of
//! a flow, and none with such addresses gets one.

use std::rc::Rc;

use engine::Impossible;
use policy::{AddressSet, Direction, SetId};

use super::list::{Family, SUBNET, Side};
use super::table::Set;
use super::writer::Writer;
use crate::tag::{Cause, Outcome};

/// Before connection tracking (−200), after defragmentation (−400).
pub(super) const PRIORITY: i32 = -300;
/// After connection tracking, before `mangle` (−150), and before routing drops what cannot be without a word.
const MARTIAN_PRIORITY: i32 = -190;
/// The chain that packets come to first, in every ruleset of ours.
pub(super) const CHAIN: &str = "shield";

/// Which flags of a segment exclude each other: all but those that connection tracking takes for part of a flow
/// (`tcp_valid_flags` in net/netfilter/nf_conntrack_proto_tcp.c).
pub(super) const IMPOSSIBLE_FLAGS: &str = "tcp flags & (fin|syn|rst|ack|urg) != { syn, syn|urg, syn|ack, rst, rst|ack, fin|ack, fin|ack|urg, ack, ack|urg } goto drop_tcp_flags";

/// The ban sets and their keys. Host bans and bans of IPv6 `/64` are looked up by hash, all others by range.
pub(super) const BAN_SETS: [BanSet; 5] = [
    BanSet {
        name: "ban4",
        family: Family::V4,
        bits: Some(32),
    },
    BanSet {
        name: "bannet4",
        family: Family::V4,
        bits: None,
    },
    BanSet {
        name: "ban6",
        family: Family::V6,
        bits: Some(128),
    },
    BanSet {
        name: "ban6_64",
        family: Family::V6,
        bits: Some(64),
    },
    BanSet {
        name: "bannet6",
        family: Family::V6,
        bits: None,
    },
];

/// A set of bans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BanSet {
    pub(super) name: &'static str,
    pub(super) family: Family,
    /// The prefix length of all of its bans; `None` for an interval set.
    pub(super) bits: Option<u8>,
}

impl BanSet {
    fn lookup(self, side: Side) -> String {
        match self.bits {
            Some(64) => format!("{} == @{}", self.key(side), self.name),
            _ => format!("{} @{}", self.key(side), self.name),
        }
    }

    /// That the address is not in it.
    fn exclusion(self, side: Side) -> String {
        format!("{} != @{}", self.key(side), self.name)
    }

    fn key(self, side: Side) -> String {
        let field = format!("{} {}", self.family.header(), side.field());
        match self.bits {
            Some(64) => format!("{field} & {SUBNET}"),
            _ => field,
        }
    }

    /// The size of the set for so many bans.
    pub(super) fn size(self, capacity: u32) -> u32 {
        match self.bits {
            Some(_) => capacity.max(1),
            // Both ends of a range may count as elements.
            None => capacity.max(1).saturating_mul(2),
        }
    }

    fn definition(self, capacity: u32) -> Set {
        let flags = if self.bits.is_some() {
            "dynamic,timeout"
        } else {
            "interval,timeout"
        };
        Set {
            name: self.name.to_owned(),
            keyword: "set",
            attributes: vec![
                format!("type {}", self.family.key_type()),
                format!("size {}", self.size(capacity)),
                format!("flags {flags}"),
            ],
            elements: None,
        }
    }
}

pub(super) fn write(writer: &mut Writer<'_>) {
    for set in BAN_SETS {
        writer.table.set(set.definition(writer.plan.ban.capacity));
    }
    let feeds = feeds(writer);
    // Most packets are clean, and one rule costs less than a chain.
    let mut shield: Vec<String> = (Family::BOTH.iter())
        .filter_map(|family| clean(writer, &feeds, *family, Way::In))
        .map(|clean| format!("{clean} accept"))
        .collect();
    shield.extend(by_family("goto", Way::In.chain()));
    writer
        .table
        .base_chain(CHAIN, "prerouting", PRIORITY, shield);
    for family in Family::BOTH {
        for way in Way::ALL {
            let mut rules = lookups(writer, &feeds, family, way);
            if way != Way::In
                && let Some(clean) = clean(writer, &feeds, family, way)
            {
                rules.insert(0, format!("{clean} return"));
            }
            let name = format!("{}_{}", way.chain(), family.suffix());
            writer.table.chain(name, rules);
        }
    }
    let mut martian = vec![
        "ct state established,related accept".to_owned(),
        "iif \"lo\" accept".to_owned(),
    ];
    martian.extend(by_family("goto", "martian"));
    writer
        .table
        .base_chain("martian", "prerouting", MARTIAN_PRIORITY, martian);
    martians(writer);
    drops(writer, &feeds);
}

/// The feeds of the plan.
fn feeds(writer: &mut Writer<'_>) -> Vec<(SetId, Rc<AddressSet>)> {
    let feeds = writer.plan.feeds.iter();
    feeds
        .map(|&feed| (feed, writer.lists.named(feed)))
        .collect()
}

/// What holds for packets of a direction that their destination need not be looked at any more, one condition for each family,
/// with a blank behind it.
pub(super) fn clean_destinations(writer: &mut Writer<'_>, direction: Direction) -> Vec<String> {
    let way = match direction {
        Direction::In => return vec![String::new()],
        Direction::Out => Way::Out,
        Direction::Forward => Way::Forward,
    };
    let feeds = feeds(writer);
    (Family::BOTH.iter())
        .filter_map(|family| clean(writer, &feeds, *family, way))
        .map(|clean| format!("{clean} "))
        .collect()
}

/// The rules that send packets of a direction by the lookups of their destination.
pub(super) fn destination(direction: Direction) -> Vec<String> {
    match direction {
        Direction::In => Vec::new(),
        Direction::Out => by_family("jump", Way::Out.chain()),
        Direction::Forward => by_family("jump", Way::Forward.chain()),
    }
}

/// To the chain of the packet's family. Two comparisons cost less than a lookup.
fn by_family(how: &str, chain: &str) -> Vec<String> {
    let rule = |family: Family| {
        let (nfproto, suffix) = (family.nfproto(), family.suffix());
        format!("meta nfproto {nfproto} {how} {chain}_{suffix}")
    };
    Family::BOTH.map(rule).to_vec()
}

/// Where bans and feeds are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Where all packets come in, by source.
    In,
    /// Where this host's own leave, by destination.
    Out,
    /// Where packets pass through, by destination.
    Forward,
}

impl Way {
    const ALL: [Self; 3] = [Self::In, Self::Out, Self::Forward];

    const fn chain(self) -> &'static str {
        match self {
            Self::In => CHAIN,
            Self::Out => "shield_out",
            Self::Forward => "shield_forward",
        }
    }

    const fn side(self) -> Side {
        match self {
            Self::In => Side::Source,
            Self::Out | Self::Forward => Side::Destination,
        }
    }

    /// The chain that drops, beginning with `name`.
    fn drop(self, name: &str) -> String {
        match self {
            Self::In | Self::Forward => name.to_owned(),
            Self::Out => format!("{name}_out"),
        }
    }
}

/// That an address is neither banned nor in a feed, in one rule; `None` where a feed holds every address.
fn clean(
    writer: &mut Writer<'_>,
    feeds: &[(SetId, Rc<AddressSet>)],
    family: Family,
    way: Way,
) -> Option<String> {
    let side = way.side();
    let bans = BAN_SETS.iter().filter(|set| set.family == family);
    let mut conditions: Vec<String> = bans.map(|set| set.exclusion(side)).collect();
    for (_, list) in feeds {
        conditions.extend((writer.lists).exclusions(list, side, family, &mut writer.table)?);
    }
    Some(conditions.join(" "))
}

/// Protected, banned, in a feed, neither.
fn lookups(
    writer: &mut Writer<'_>,
    feeds: &[(SetId, Rc<AddressSet>)],
    family: Family,
    way: Way,
) -> Vec<String> {
    let side = way.side();
    let protected = Rc::clone(&writer.protected);
    let mut rules: Vec<String> = writer
        .lists
        .lookups(&protected, side, family, &mut writer.table)
        .into_iter()
        .map(|held| format!("{held} return"))
        .collect();
    let banned = way.drop("drop_banned");
    let bans = BAN_SETS.iter().filter(|set| set.family == family);
    rules.extend(bans.map(|set| format!("{} goto {banned}", set.lookup(side))));
    for (feed, list) in feeds {
        let held = writer.lists.lookups(list, side, family, &mut writer.table);
        let listed = way.drop(&format!("drop_feed_{}", feed.0));
        rules.extend(held.into_iter().map(|held| format!("{held} goto {listed}")));
    }
    rules
}

/// Addresses that nobody outside can have, or be reached at from outside (RFC 6890, RFC 1122 §3.2.1.3).
fn martians(writer: &mut Writer<'_>) {
    let chain = |writer: &mut Writer<'_>, name: &str, rules: &[&str]| {
        writer
            .table
            .chain(name, rules.iter().map(|&rule| rule.to_owned()).collect());
    };
    chain(
        writer,
        "martian_v4",
        &[
            "ip saddr vmap { 0.0.0.0/8 : goto nobody_v4, 127.0.0.0/8 : goto drop_martian_source, \
         224.0.0.0/4 : goto drop_martian_source, 255.255.255.255 : goto drop_martian_source }",
            "ip daddr { 0.0.0.0/8, 127.0.0.0/8 } goto drop_martian_destination",
        ],
    );
    // A host without an address asks for one (RFC 2131 §4.1).
    chain(
        writer,
        "nobody_v4",
        &[
            "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept",
            "goto drop_martian_source",
        ],
    );
    chain(
        writer,
        "martian_v6",
        &[
            "ip6 saddr vmap { :: : goto nobody_v6, ::1 : goto drop_martian_source, ff00::/8 : goto drop_martian_source }",
            "ip6 daddr ::/127 goto drop_martian_destination",
        ],
    );
    // A host asks whether an address is taken, or for multicast, before it has one (RFC 4862 §5.4.2, RFC 3590).
    chain(
        writer,
        "nobody_v6",
        &[
            "meta l4proto != icmpv6 goto drop_martian_source",
            "ip6 daddr ::/127 goto drop_martian_destination",
            "accept",
        ],
    );
}

fn drops(writer: &mut Writer<'_>, feeds: &[(SetId, Rc<AddressSet>)]) {
    let mut listed = vec![("drop_banned".to_owned(), Cause::Banned)];
    listed.extend(
        feeds
            .iter()
            .map(|(feed, _)| (format!("drop_feed_{}", feed.0), Cause::Feed(*feed))),
    );
    for (name, cause) in listed {
        let refusal = writer.refusal(Outcome::Drop, cause);
        // What this host says to itself is exempt. To look here, and not at each packet, saves most of them the question.
        for (way, itself) in [
            (Way::In, "iif \"lo\" return"),
            (Way::Out, "oif \"lo\" return"),
        ] {
            let rules = std::iter::once(itself.to_owned()).chain(refusal.clone());
            writer.table.chain(way.drop(&name), rules.collect());
        }
    }
    for kind in [
        Impossible::TcpFlags,
        Impossible::MartianSource,
        Impossible::MartianDestination,
    ] {
        let cause = Cause::Impossible(kind);
        let rules = writer.refusal(Outcome::Drop, cause);
        writer
            .table
            .chain(format!("drop_{}", cause.counter()), rules);
    }
}
