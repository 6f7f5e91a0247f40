//! Bans as a script for `nft -f`: two sets with timeouts, for a machine that has no Portcullis.

use std::fmt::Write as _;

use daemon::api::Ban;
use policy::AddressSet;
use policy::address::{IPV4_FIRST, IPV4_LAST, prefix_range};

/// Elements in one statement.
const AT_ONCE: usize = 1_000;

/// A stretch of addresses that is banned for a time in seconds; `None`: for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    first: u128,
    last: u128,
    left: Option<u64>,
}

/// The script. It adds to its sets and takes nothing away; they drop nothing before a rule of the reader's own names them.
pub(super) fn write(bans: &[Ban]) -> String {
    let mut text = String::from(
        "#!/usr/sbin/nft -f\n\
         # Bans of Portcullis, with the time that each had left. A rule makes use of them, such as\n\
         #   nft add chain inet portcullis_bans in '{ type filter hook input priority -10; }'\n\
         #   nft add rule inet portcullis_bans in ip saddr @banned4 drop\n\
         #   nft add rule inet portcullis_bans in ip6 saddr @banned6 drop\n\
         add table inet portcullis_bans\n",
    );
    let stretches = disjoint(bans);
    for (set, kind, is_ipv4) in [
        ("banned4", "ipv4_addr", true),
        ("banned6", "ipv6_addr", false),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "add set inet portcullis_bans {set} {{ type {kind}; flags interval, timeout; }}"
        );
        let elements: Vec<String> = stretches
            .iter()
            .filter(|stretch| (IPV4_FIRST..=IPV4_LAST).contains(&stretch.first) == is_ipv4)
            .flat_map(|stretch| elements(*stretch))
            .collect();
        for some in elements.chunks(AT_ONCE) {
            let _ = writeln!(
                text,
                "add element inet portcullis_bans {set} {{ {} }}",
                some.join(", ")
            );
        }
    }
    text
}

fn elements(stretch: Stretch) -> Vec<String> {
    let timeout = match stretch.left {
        Some(seconds) => format!(" timeout {seconds}s"),
        None => String::new(),
    };
    AddressSet::from_ranges([(stretch.first, stretch.last)])
        .prefixes()
        .map(|prefix| format!("{}{timeout}", crate::prefix::IpNetOrAddress(prefix)))
        .collect()
}

/// No address twice: nftables refuses overlapping elements. Where bans overlap, the one that lasts longest counts.
fn disjoint(bans: &[Ban]) -> Vec<Stretch> {
    // None, for good, is longer than every number.
    let longer =
        |a: Option<u64>, b: Option<u64>| a.map_or(u64::MAX, |a| a) > b.map_or(u64::MAX, |b| b);
    let mut all: Vec<Stretch> = bans
        .iter()
        .map(|ban| {
            let (first, last) = prefix_range(ban.prefix);
            Stretch {
                first,
                last,
                left: ban.remaining_s,
            }
        })
        .collect();
    // Two prefixes are apart or one holds the other: outer ones come first.
    all.sort_by_key(|stretch| (stretch.first, u128::MAX - stretch.last));
    let mut out: Vec<Stretch> = Vec::with_capacity(all.len());
    let mut open: Vec<Stretch> = Vec::new();
    // The first address that is not written yet.
    let mut next = 0_u128;
    let mut close = |top: Stretch, until: u128, next: &mut u128| {
        let first = top.first.max(*next);
        if first <= until {
            out.push(Stretch {
                first,
                last: until,
                ..top
            });
            *next = until.saturating_add(1);
        }
    };
    for stretch in all {
        while let Some(top) = open.pop_if(|top| top.last < stretch.first) {
            close(top, top.last, &mut next);
        }
        if let Some(outer) = open.last() {
            if !longer(stretch.left, outer.left) {
                continue;
            }
            if stretch.first > 0 {
                close(*outer, stretch.first - 1, &mut next);
            }
        }
        open.push(stretch);
    }
    while let Some(top) = open.pop() {
        close(top, top.last, &mut next);
    }
    out
}
