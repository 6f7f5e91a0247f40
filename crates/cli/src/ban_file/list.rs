//! A list of addresses, prefixes and ranges, one on each line: the lists that feeds are made of.

use std::collections::HashSet;

use policy::AddressSet;
use policy::list::{self, ListFormat};

use super::{Bad, Found, Wish, open_ended};
use crate::prefix::IpNetOrAddress;

/// More than this is no list of bans.
const MOST: usize = 1_000_000;

/// Reads it; one bad line costs itself alone.
pub(super) fn read(bytes: &[u8], wish: Wish) -> Found {
    // As of a feed: what is too wide is a bad line, and not banned in pieces that are narrow enough.
    let list = list::read(bytes, ListFormat::Auto, true, MOST);
    let mut bad = Bad {
        count: list.bad_count,
        first: list
            .bad
            .iter()
            .map(|bad| format!("line {}: {}", bad.line, bad.what))
            .collect(),
    };
    if list.is_cut {
        bad.add(|| format!("only the first {MOST} lines are read"));
    }
    let mut seen = HashSet::new();
    let mut bans = Vec::new();
    for range in list.ranges {
        // Not merged: each line is a ban of its own, and can be lifted by itself.
        for prefix in AddressSet::from_ranges([range]).prefixes() {
            if seen.insert(prefix) {
                let prefix = IpNetOrAddress(prefix).to_string();
                bans.push(open_ended(prefix, None, wish));
            }
        }
    }
    Found::full("a list of addresses", bans, bad)
}
