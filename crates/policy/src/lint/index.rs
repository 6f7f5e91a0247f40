//! Which rules could match a packet, without asking each: every rule is filed under the most telling thing that it asks for.

use std::collections::HashMap;

use super::region::{DESTINATION, PORT, Point, SOURCE};
use crate::address::{IPV4_FIRST, IPV4_LAST, address_key};
use crate::plan::{AddressMatch, Plan, Rule};

/// A rule with more prefixes than this is not filed under them.
const MOST_PREFIXES: usize = 16;
/// A rule with more ports than this is not filed under them.
const MOST_PORTS: u32 = 64;

#[derive(Default)]
pub(super) struct Index {
    ports: HashMap<u16, Vec<usize>>,
    sources: Prefixes,
    destinations: Prefixes,
    /// Rules that ask for nothing telling.
    rest: Vec<usize>,
}

#[derive(Default)]
struct Prefixes {
    /// Lengths in use, over 128 bits.
    lengths: Vec<u8>,
    rules: HashMap<(u8, u128), Vec<usize>>,
}

impl Prefixes {
    fn file(&mut self, prefixes: &[(u8, u128)], place: usize) {
        for &(length, key) in prefixes {
            if !self.lengths.contains(&length) {
                self.lengths.push(length);
            }
            self.rules.entry((length, key)).or_default().push(place);
        }
    }

    fn under(&self, key: u128) -> impl Iterator<Item = &[usize]> {
        self.lengths.iter().filter_map(move |&length| {
            let begin = key & mask(length);
            self.rules.get(&(length, begin)).map(Vec::as_slice)
        })
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(length))
        .unwrap_or_default()
}

impl Index {
    /// Files every rule; the lists hold their places in ascending order.
    pub(super) fn new(plan: &Plan) -> Self {
        let mut index = Self::default();
        for (place, rule) in plan.rules.iter().enumerate() {
            index.file(rule, place);
        }
        index
    }

    fn file(&mut self, rule: &Rule, place: usize) {
        let sources = prefixes(&rule.from);
        let destinations = prefixes(&rule.to);
        let ports: u32 = rule
            .port
            .ranges()
            .iter()
            .map(|&(first, last)| u32::from(last - first) + 1)
            .sum();
        // How many bits of a packet have to be right.
        let bits = |prefixes: &Option<Vec<(u8, u128)>>| {
            let lengths = prefixes.as_ref().map(|all| all.iter().map(telling_bits));
            lengths.and_then(Iterator::min).unwrap_or(0)
        };
        let port_bits = if (1..=MOST_PORTS).contains(&ports) {
            16 - ports.ilog2()
        } else {
            0
        };
        let (source_bits, destination_bits) = (bits(&sources), bits(&destinations));
        let most = source_bits.max(destination_bits).max(port_bits);
        if most < 4 {
            self.rest.push(place);
        } else if most == source_bits {
            self.sources.file(&sources.unwrap_or_default(), place);
        } else if most == destination_bits {
            self.destinations
                .file(&destinations.unwrap_or_default(), place);
        } else {
            for &(first, last) in rule.port.ranges() {
                for port in first..=last {
                    self.ports.entry(port).or_default().push(place);
                }
            }
        }
    }

    /// The first rule before `end` that satisfies `is_it`, of those that could match the point; counts what it asks.
    pub(super) fn first(
        &self,
        point: &Point,
        end: usize,
        work: &mut u64,
        mut is_it: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let mut best = end;
        let ports = u16::try_from(point[PORT])
            .ok()
            .and_then(|port| self.ports.get(&port));
        let lists = self
            .sources
            .under(point[SOURCE])
            .chain(self.destinations.under(point[DESTINATION]))
            .chain(ports.map(Vec::as_slice))
            .chain([self.rest.as_slice()]);
        for list in lists {
            for &place in list {
                if place >= best {
                    break;
                }
                *work += 1;
                if is_it(place) {
                    best = place;
                }
            }
        }
        (best < end).then_some(best)
    }
}

/// The prefixes of a condition without named sets, over 128 bits; `None` when there are too many, or any address will do.
fn prefixes(condition: &AddressMatch) -> Option<Vec<(u8, u128)>> {
    let AddressMatch::Of { inline, sets } = condition else {
        return None;
    };
    if !sets.is_empty() || inline.ranges().len() > MOST_PREFIXES {
        return None;
    }
    let all: Vec<(u8, u128)> = inline
        .prefixes()
        .take(MOST_PREFIXES + 1)
        .map(|prefix| {
            let begin = address_key(prefix.network());
            let is_ipv4 = (IPV4_FIRST..=IPV4_LAST).contains(&begin);
            let length = prefix.prefix_len()
                + if is_ipv4 && prefix.max_prefix_len() == 32 {
                    96
                } else {
                    0
                };
            (length, begin)
        })
        .collect();
    (!all.is_empty() && all.len() <= MOST_PREFIXES).then_some(all)
}

/// How telling a prefix is: of IPv6 addresses only the upper half differs between networks.
fn telling_bits(&(length, begin): &(u8, u128)) -> u32 {
    if (IPV4_FIRST..=IPV4_LAST).contains(&begin) && length >= 96 {
        u32::from(length) - 96
    } else {
        u32::from(length) / 2
    }
}
