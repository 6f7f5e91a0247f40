//! The shield: before connection tracking, so that it holds for established flows too and costs little when it drops.
//!
//! Order: this host's traffic with itself is exempt; protected addresses are exempt from bans and feeds; bans; feeds;
//! addresses that cannot be; TCP flags that cannot be. Packets that come in are judged by source in `prerouting`, packets that
//! leave by destination in `output`, and packets that pass through by destination too, in `forward`.

use std::rc::Rc;

use engine::Impossible;
use policy::AddressSet;

use super::list::{Family, SUBNET, Side};
use super::table::Set;
use super::writer::Writer;
use crate::tag::{Cause, Outcome};

/// Before connection tracking (−200), after defragmentation (−400).
const PRIORITY: i32 = -300;

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
        let field = format!("{} {}", self.family.header(), side.field());
        match self.bits {
            Some(64) => format!("{field} & {SUBNET} == @{}", self.name),
            _ => format!("{field} @{}", self.name),
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
    writer.table.base_chain(
        "shield",
        "prerouting",
        PRIORITY,
        vec![
            "iif \"lo\" goto tcp_flags".to_owned(),
            "meta nfproto vmap { ipv4 : goto shield_v4, ipv6 : goto shield_v6 }".to_owned(),
        ],
    );
    writer.table.base_chain(
        "shield_out",
        "output",
        PRIORITY,
        vec![
            "oif \"lo\" goto tcp_flags".to_owned(),
            "meta nfproto vmap { ipv4 : goto shield_out_v4, ipv6 : goto shield_out_v6 }".to_owned(),
        ],
    );
    writer.table.base_chain(
        "shield_forward",
        "forward",
        PRIORITY,
        vec![
            "meta nfproto vmap { ipv4 : goto shield_forward_v4, ipv6 : goto shield_forward_v6 }"
                .to_owned(),
        ],
    );
    let feeds: Vec<(policy::SetId, Rc<AddressSet>)> = writer
        .plan
        .feeds
        .iter()
        .map(|&feed| (feed, writer.lists.named(feed)))
        .collect();
    for family in Family::BOTH {
        let suffix = family.suffix();
        for (chain, side, next) in [
            ("shield", Side::Source, format!("goto martian_{suffix}")),
            ("shield_out", Side::Destination, "goto tcp_flags".to_owned()),
            ("shield_forward", Side::Destination, "accept".to_owned()),
        ] {
            let rules = lookups(writer, &feeds, family, side, &next);
            writer.table.chain(format!("{chain}_{suffix}"), rules);
        }
    }
    martians(writer);
    let flags = "tcp flags & (fin|syn|rst|ack|urg) != { syn, syn|urg, syn|ack, rst, rst|ack, fin|ack, fin|ack|urg, ack, ack|urg }";
    writer
        .table
        .chain("tcp_flags", vec![format!("{flags} goto drop_tcp_flags")]);
    drops(writer, &feeds);
}

/// Protected, banned, in a feed, neither.
fn lookups(
    writer: &mut Writer<'_>,
    feeds: &[(policy::SetId, Rc<AddressSet>)],
    family: Family,
    side: Side,
    next: &str,
) -> Vec<String> {
    let protected = Rc::clone(&writer.protected);
    let mut rules: Vec<String> = writer
        .lists
        .lookups(&protected, side, family, &mut writer.table)
        .into_iter()
        .map(|held| format!("{held} {next}"))
        .collect();
    let bans = BAN_SETS.iter().filter(|set| set.family == family);
    rules.extend(bans.map(|set| format!("{} goto drop_banned", set.lookup(side))));
    for (feed, list) in feeds {
        let held = writer.lists.lookups(list, side, family, &mut writer.table);
        rules.extend(
            held.into_iter()
                .map(|held| format!("{held} goto drop_feed_{}", feed.0)),
        );
    }
    rules.push(next.to_owned());
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
            "goto tcp_flags",
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
            "goto tcp_flags",
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

fn drops(writer: &mut Writer<'_>, feeds: &[(policy::SetId, Rc<AddressSet>)]) {
    let mut causes = vec![
        ("drop_banned".to_owned(), Cause::Banned),
        (
            "drop_tcp_flags".to_owned(),
            Cause::Impossible(Impossible::TcpFlags),
        ),
        (
            "drop_martian_source".to_owned(),
            Cause::Impossible(Impossible::MartianSource),
        ),
        (
            "drop_martian_destination".to_owned(),
            Cause::Impossible(Impossible::MartianDestination),
        ),
    ];
    causes.extend(
        feeds
            .iter()
            .map(|(feed, _)| (format!("drop_feed_{}", feed.0), Cause::Feed(*feed))),
    );
    for (name, cause) in causes {
        let rules = writer.refusal(Outcome::Drop, cause);
        writer.table.chain(name, rules);
    }
}
