//! Address lists: what of them is written into the rule itself, and what becomes a set of its own that all rules share.
//!
//! Large lists are split into single addresses (a hash set) and ranges (an interval set), since a hash costs half of what an
//! interval tree does.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use policy::address::{IPV4_FIRST, IPV4_LAST};
use policy::{AddressMatch, AddressSet, Plan, SetId};

use super::table::{Set, Table, comment_text};

/// Lists of at most this many ranges of a family are written into the rule.
const INLINE: usize = 8;
/// Lists of more ranges than this are split into single addresses and ranges.
const SPLIT: usize = 1_000;
/// A condition on more lists than this is looked up in one list that holds them all.
const ALTERNATIVES: usize = 2;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

/// The mask of an IPv6 `/64`, which is what one customer has at least (RFC 6177).
pub(super) const SUBNET: &str = "ffff:ffff:ffff:ffff::";

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// `v4`, `v6`: part of set and chain names.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }

    /// The name of the header in nft: `ip`, `ip6`.
    pub(super) const fn header(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// The source as it is counted and banned, in nft: the address, for IPv6 its `/64`.
    pub(super) fn counted_source(self) -> String {
        let source = format!("{} {}", self.header(), Side::Source.field());
        match self {
            Self::V4 => source,
            Self::V6 => format!("{source} & {SUBNET}"),
        }
    }

    /// The name in `meta nfproto`.
    pub(super) const fn nfproto(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// The type of a set's key.
    pub(super) const fn key_type(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }

    /// The family of an address by its key.
    #[cfg(test)]
    pub(super) const fn of(key: u128) -> Self {
        if key >= IPV4_FIRST && key <= IPV4_LAST {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// The ranges of keys of this family in a set. Those of IPv6 go on through the keys of IPv4 where the set does on both
    /// sides: no IPv6 packet has such an address, and `::/0` stays one range.
    pub(super) fn ranges(self, set: &AddressSet) -> Vec<(u128, u128)> {
        let key = |address: Ipv4Addr| IPV4_FIRST | u128::from(address.to_bits());
        match self {
            Self::V4 => set
                .ipv4_ranges()
                .map(|(first, last)| (key(first), key(last)))
                .collect(),
            Self::V6 => {
                let mut ranges: Vec<(u128, u128)> = Vec::new();
                for (first, last) in set.ipv6_ranges() {
                    let (first, last) = (first.to_bits(), last.to_bits());
                    match ranges.last_mut() {
                        Some((_, end)) if *end == IPV4_FIRST - 1 && first == IPV4_LAST + 1 => {
                            *end = last
                        }
                        _ => ranges.push((first, last)),
                    }
                }
                ranges
            }
        }
    }

    /// Whether a set holds an address of this family.
    pub(super) fn any(self, set: &AddressSet) -> bool {
        match self {
            Self::V4 => set.has_ipv4(),
            Self::V6 => set.has_ipv6(),
        }
    }

    /// Whether a set holds every address of this family.
    pub(super) fn all(self, set: &AddressSet) -> bool {
        match self {
            Self::V4 => self.ranges(set) == [(IPV4_FIRST, IPV4_LAST)],
            Self::V6 => self.ranges(set) == [(0, u128::MAX)],
        }
    }

    /// A range of keys as nft writes it: an address, a prefix, or two addresses with a dash.
    pub(super) fn text(self, first: u128, last: u128) -> String {
        let bits: u32 = match self {
            Self::V4 => 32,
            Self::V6 => 128,
        };
        let address = |key: u128| match self {
            Self::V4 => Ipv4Addr::from_bits(key as u32).to_string(),
            Self::V6 => Ipv6Addr::from_bits(key).to_string(),
        };
        let span = last - first; // one less than the count, so that ::/0 does not overflow
        let host_bits = 128 - span.leading_zeros();
        let is_prefix = span & span.wrapping_add(1) == 0 && first & span == 0;
        match (span, is_prefix) {
            (0, _) => address(first),
            (_, true) => format!("{}/{}", address(first), bits - host_bits),
            (_, false) => format!("{}-{}", address(first), address(last)),
        }
    }
}

/// Which address of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Side {
    Source,
    Destination,
}

impl Side {
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Source => "saddr",
            Self::Destination => "daddr",
        }
    }
}

/// A condition on an address.
#[derive(Clone, Debug)]
pub(super) enum Address {
    Any,
    /// In one of the lists.
    Of {
        parts: Vec<Rc<AddressSet>>,
        /// All of them in one.
        all: Rc<AddressSet>,
    },
}

impl Address {
    /// All addresses that match; `None` for any.
    pub(super) fn set(&self) -> Option<&AddressSet> {
        match self {
            Self::Any => None,
            Self::Of { all, .. } => Some(all),
        }
    }
}

/// How an address condition is tested within one family.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// No address of the family matches.
    Never,
    /// Every address of the family matches.
    Always,
    /// One of these nft expressions must hold.
    Either(Vec<String>),
}

/// All lists of a plan, each once.
#[derive(Debug)]
pub(super) struct Lists<'p> {
    plan: &'p Plan,
    /// Every list by its content, so that equal lists share a set.
    known: HashMap<Rc<AddressSet>, usize>,
    names: Vec<Name>,
    named_sets: Vec<Option<Rc<AddressSet>>>,
    /// Conditions resolved before, by their parts.
    conditions: HashMap<(AddressSet, Vec<SetId>), Address>,
    /// Set names by list and family, of those that are sets.
    defined: HashMap<(usize, Family), Vec<String>>,
    anonymous: usize,
}

#[derive(Debug)]
struct Name {
    name: String,
    remark: Option<String>,
}

impl<'p> Lists<'p> {
    pub(super) fn new(plan: &'p Plan) -> Self {
        Self {
            plan,
            known: HashMap::new(),
            names: Vec::new(),
            named_sets: vec![None; plan.sets.len()],
            conditions: HashMap::new(),
            defined: HashMap::new(),
            anonymous: 0,
        }
    }

    /// The condition that a rule puts on an address.
    pub(super) fn condition(&mut self, wanted: &AddressMatch) -> Address {
        let AddressMatch::Of { inline, sets } = wanted else {
            return Address::Any;
        };
        let key = (inline.clone(), sets.clone());
        if let Some(known) = self.conditions.get(&key) {
            return known.clone();
        }
        let mut parts: Vec<Rc<AddressSet>> = Vec::new();
        if !inline.is_empty() {
            parts.push(self.share(inline));
        }
        for &set in sets {
            parts.push(self.named(set));
        }
        parts.retain(|part| !part.is_empty());
        let all = match parts.as_slice() {
            [only] => Rc::clone(only),
            _ => {
                let union = parts
                    .iter()
                    .fold(AddressSet::default(), |all, part| all.union(part));
                self.share(&union)
            }
        };
        if parts.len() > ALTERNATIVES {
            parts = vec![Rc::clone(&all)];
        }
        let condition = Address::Of { parts, all };
        self.conditions.insert(key, condition.clone());
        condition
    }

    /// A named set of the plan.
    pub(super) fn named(&mut self, set: SetId) -> Rc<AddressSet> {
        let at = set.0 as usize;
        if let Some(known) = &self.named_sets[at] {
            return Rc::clone(known);
        }
        let shared = self.share(&self.plan.sets[at].addresses);
        self.name(
            &shared,
            format!("set_{at}"),
            Some(format!("@{}", self.plan.sets[at].name)),
        );
        self.named_sets[at] = Some(Rc::clone(&shared));
        shared
    }

    /// The shared copy of a list.
    pub(super) fn share(&mut self, list: &AddressSet) -> Rc<AddressSet> {
        if let Some((known, _)) = self.known.get_key_value(list) {
            return Rc::clone(known);
        }
        let shared = Rc::new(list.clone());
        self.known.insert(Rc::clone(&shared), self.names.len());
        self.names.push(Name {
            name: String::new(),
            remark: None,
        });
        shared
    }

    /// Gives a list a name; the first one stays.
    pub(super) fn name(&mut self, list: &Rc<AddressSet>, name: String, remark: Option<String>) {
        if let Some(&at) = self.known.get(list)
            && self.names[at].name.is_empty()
        {
            self.names[at] = Name { name, remark };
        }
    }

    /// The test of a condition within a family.
    pub(super) fn test(
        &mut self,
        wanted: &Address,
        side: Side,
        family: Family,
        table: &mut Table,
    ) -> Test {
        let Address::Of { parts, all } = wanted else {
            return Test::Always;
        };
        if !family.any(all) {
            return Test::Never;
        }
        if family.all(all) {
            return Test::Always;
        }
        let either = parts
            .iter()
            .flat_map(|part| self.lookups(part, side, family, table))
            .collect();
        Test::Either(either)
    }

    /// `ip saddr …` expressions, one of which must hold for an address of the list; empty when the family has none.
    pub(super) fn lookups(
        &mut self,
        list: &Rc<AddressSet>,
        side: Side,
        family: Family,
        table: &mut Table,
    ) -> Vec<String> {
        if family.all(list) {
            return vec![format!("meta nfproto {}", family.nfproto())];
        }
        let field = format!("{} {}", family.header(), side.field());
        let operands = self.operands(list, family, table);
        operands
            .into_iter()
            .map(|operand| format!("{field} {operand}"))
            .collect()
    }

    /// `ip saddr != …` expressions, all of which hold for an address that is not in the list; `None` when the list holds
    /// every address of the family.
    pub(super) fn exclusions(
        &mut self,
        list: &Rc<AddressSet>,
        side: Side,
        family: Family,
        table: &mut Table,
    ) -> Option<Vec<String>> {
        if family.all(list) {
            return None;
        }
        let field = format!("{} {}", family.header(), side.field());
        let operands = self.operands(list, family, table);
        Some(
            operands
                .into_iter()
                .map(|operand| format!("{field} != {operand}"))
                .collect(),
        )
    }

    fn operands(
        &mut self,
        list: &Rc<AddressSet>,
        family: Family,
        table: &mut Table,
    ) -> Vec<String> {
        let ranges = family.ranges(list);
        match ranges.as_slice() {
            [] => Vec::new(),
            [(first, last)] => vec![family.text(*first, *last)],
            few if few.len() <= INLINE => {
                let elements: Vec<String> = few
                    .iter()
                    .map(|&(first, last)| family.text(first, last))
                    .collect();
                vec![format!("{{ {} }}", elements.join(", "))]
            }
            many => self
                .define(list, family, many, table)
                .iter()
                .map(|name| format!("@{name}"))
                .collect(),
        }
    }

    /// The names of the sets that hold the list.
    fn define(
        &mut self,
        list: &Rc<AddressSet>,
        family: Family,
        ranges: &[(u128, u128)],
        table: &mut Table,
    ) -> Vec<String> {
        let at = self.known.get(list).copied().unwrap_or_else(|| {
            let at = self.names.len();
            self.known.insert(Rc::clone(list), at);
            self.names.push(Name {
                name: String::new(),
                remark: None,
            });
            at
        });
        if let Some(names) = self.defined.get(&(at, family)) {
            return names.clone();
        }
        if self.names[at].name.is_empty() {
            self.names[at].name = format!("list_{}", self.anonymous);
            self.anonymous += 1;
        }
        let name = format!("{}_{}", self.names[at].name, family.suffix());
        let (singles, spans): (Vec<_>, Vec<_>) =
            ranges.iter().partition(|(first, last)| first == last);
        let mut pieces = Vec::new();
        if spans.is_empty() {
            pieces.push((name, false, singles));
        } else if ranges.len() <= SPLIT || singles.is_empty() {
            pieces.push((name, true, ranges.to_vec()));
        } else {
            pieces.push((name.clone(), false, singles));
            pieces.push((format!("{name}_net"), true, spans));
        }
        let mut names = Vec::new();
        for (name, interval, ranges) in pieces {
            let mut attributes = vec![format!("type {}", family.key_type())];
            if interval {
                attributes.push("flags interval".to_owned());
            }
            attributes.extend(self.names[at].remark.as_deref().map(comment_text));
            table.set(Set {
                name: name.clone(),
                keyword: "set",
                attributes,
                elements: Some(
                    ranges
                        .iter()
                        .map(|&(first, last)| family.text(first, last))
                        .collect(),
                ),
            });
            names.push(name);
        }
        self.defined.insert((at, family), names.clone());
        names
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use ipnet::IpNet;

    #[test]
    fn ranges_are_written_as_nft_reads_them() {
        let set: AddressSet = ["0.0.0.0/0", "::/0"]
            .iter()
            .map(|text| text.parse::<IpNet>().unwrap())
            .collect();
        assert!(Family::V4.all(&set) && Family::V6.all(&set));
        let v4 = |last: u128| Family::V4.text(IPV4_FIRST | 0x0a00_0000, IPV4_FIRST | last);
        assert_eq!(v4(0x0a00_0000), "10.0.0.0");
        assert_eq!(v4(0x0aff_ffff), "10.0.0.0/8");
        assert_eq!(v4(0x0aff_fffe), "10.0.0.0-10.255.255.254");
        assert_eq!(Family::V4.text(IPV4_FIRST, IPV4_LAST), "0.0.0.0/0");
        assert_eq!(Family::V6.text(0, 1), "::/127");
        assert_eq!(Family::V6.text(0, u128::MAX), "::/0");
        assert_eq!(Family::V6.text(1, 2), "::1-::2");
    }

    #[test]
    fn large_lists_are_split_and_shared() {
        let plan = Plan::default();
        let mut lists = Lists::new(&plan);
        let mut table = Table::default();
        let many: AddressSet = (0..2_000u32)
            .map(|n| {
                IpNet::new(
                    Ipv4Addr::from_bits(n << 12).into(),
                    if n % 2 == 0 { 32 } else { 24 },
                )
                .unwrap()
            })
            .collect();
        let list = lists.share(&many);
        let first = lists.lookups(&list, Side::Source, Family::V4, &mut table);
        assert_eq!(first, ["ip saddr @list_0_v4", "ip saddr @list_0_v4_net"]);
        let again = lists.share(&many.clone());
        assert_eq!(
            lists
                .exclusions(&again, Side::Destination, Family::V4, &mut table)
                .unwrap(),
            ["ip daddr != @list_0_v4", "ip daddr != @list_0_v4_net"]
        );
        assert!(
            lists
                .lookups(&list, Side::Source, Family::V6, &mut table)
                .is_empty()
        );
        let expected = table.render(&[], "").expected;
        assert_eq!(
            expected.sets.values().copied().collect::<Vec<_>>(),
            [Some(1_000), Some(1_000)]
        );
    }
}
