//! The rules of one direction as a decision tree, so that finding the first match costs about the same for ten rules as for
//! ten thousand.
//!
//! Every kind of protocol has trees of its own. Each inner node cuts one field (destination port, source or destination address,
//! source port) at the borders of its rules, so that within a child every rule either holds for the whole of that field or not at all. A rule that has no
//! condition left ends its list. Equal lists share a node. Rules that leave open what others name would stand in every piece of
//! a cut, so rules are grouped by the fields that they name, one tree for each group (EffiCuts, SIGCOMM 2010), and the
//! earliest match of all trees decides. Where a tree would outgrow its budget, a list stays a list, which is slower and never
//! wrong: a leaf's rules are matched in full.

mod borders;
mod build;
mod ranks;

use policy::address::{IPV4_FIRST, IPV4_LAST};
use policy::{AddressMatch, Plan, Rule, RuleId};

use self::borders::{Border, Borders};
use crate::facts::Facts;

/// The first-match index of one direction.
#[derive(Debug)]
pub(crate) struct Index {
    /// Protocols that the same rules name are of one kind; so a tree asks for no protocol.
    kinds: Box<[u8; 256]>,
    /// For each kind, where each tree begins.
    trees: Vec<Vec<u32>>,
    nodes: Vec<Node>,
    /// The rules of all leaves, each leaf's together.
    entries: Vec<Entry>,
}

/// What a child number says: a node, or with this bit the place of a leaf in the entries. Leaves are most of a tree, and so
/// cost a packet no look at a node.
const LEAF_BIT: u32 = 1 << 31;
/// So many trees are walked together; rules seldom name more different sets of fields.
const AT_ONCE: usize = 4;
/// The leaf without rules.
const EMPTY: u32 = u32::MAX;

#[derive(Debug)]
enum Node {
    /// Packets without ports go to `without`.
    Port {
        source: bool,
        ports: Cut<u16, 32>,
        without: u32,
    },
    Address {
        source: bool,
        v4: Cut<u32, 16>,
        v6: Cut<u128, 8>,
    },
}

/// A rule in a leaf, with what is left to be asked of a packet that got there, close together: a rule itself is far from the
/// next one in memory.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: RuleId,
    /// The one range of IPv4 sources, when it is one and was not cut.
    source: (u32, u32),
    /// The one range of destination ports, when it is one and was not cut.
    port: (u16, u16),
    flags: u8,
}

impl Entry {
    /// The port is not asked here.
    const ANY_PORT: u8 = 1;
    /// The source is not asked here.
    const ANY_SOURCE: u8 = 2;
    /// There is more to ask than fits here: the rule itself has to be looked at.
    const MORE: u8 = 4;
    /// The last of its leaf.
    const LAST: u8 = 8;

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Without a branch: which of the conditions fails is nothing that a processor can foresee.
    #[inline]
    fn may_match(&self, facts: &Facts<'_>) -> bool {
        let (port, source) = (facts.port.unwrap_or_default(), facts.source as u32);
        let port_fits = facts.port.is_some() & (self.port.0 <= port) & (port <= self.port.1);
        let source_fits = (facts.source >> 32 == IPV4_FIRST >> 32)
            & (self.source.0 <= source)
            & (source <= self.source.1);
        (port_fits | self.has(Self::ANY_PORT)) & (source_fits | self.has(Self::ANY_SOURCE))
    }
}

/// Borders and what lies between them: from each border up to the next goes to the child of the same place.
#[derive(Debug)]
struct Cut<T, const WIDTH: usize> {
    borders: Borders<T, WIDTH>,
    children: Box<[u32]>,
}

impl<T: Border, const WIDTH: usize> Cut<T, WIDTH> {
    fn new(pieces: impl Iterator<Item = (T, u32)>) -> Self {
        let (starts, children): (Vec<T>, Vec<u32>) = pieces.unzip();
        Self {
            borders: Borders::new(&starts),
            children: children.into(),
        }
    }

    #[inline]
    fn find(&self, value: T) -> u32 {
        self.children
            .get(self.borders.place(value))
            .copied()
            .unwrap_or(EMPTY)
    }
}

impl Index {
    /// The first rule, in order, whose header fields match; `matches` is asked of rules that have more conditions than
    /// the tree holds, and answers for all of them.
    #[inline]
    pub(crate) fn first(
        &self,
        facts: &Facts<'_>,
        mut matches: impl FnMut(RuleId) -> bool,
    ) -> Option<RuleId> {
        let mut best: Option<RuleId> = None;
        for trees in self.trees(facts).chunks(AT_ONCE) {
            // All leaves are found before the first is read: the ways there do not depend on each other.
            let mut leaves = [usize::MAX; AT_ONCE];
            for (leaf, &root) in leaves.iter_mut().zip(trees) {
                *leaf = self.leaf_place(root, facts);
            }
            for place in leaves.into_iter().take(trees.len()) {
                for entry in self.leaf(place) {
                    if best.is_some_and(|best| best < entry.id) {
                        break;
                    }
                    if entry.may_match(facts) && (!entry.has(Entry::MORE) || matches(entry.id)) {
                        best = Some(entry.id);
                        break;
                    }
                }
            }
        }
        best
    }

    /// Where the leaves begin whose rules could match, one for each tree at most.
    pub(crate) fn leaf_places(&self, facts: &Facts<'_>) -> impl Iterator<Item = usize> {
        self.trees(facts)
            .iter()
            .map(|&root| self.leaf_place(root, facts))
            .filter(|&place| place < self.entries.len())
    }

    /// The rules of the leaf that begins there, in order.
    pub(crate) fn rules_at(&self, place: usize) -> impl Iterator<Item = RuleId> {
        self.leaf(place).map(|entry| entry.id)
    }

    /// One rule of a leaf, by the leaf's place and its own place in it.
    pub(crate) fn rule_at(&self, place: usize) -> Option<RuleId> {
        self.entries.get(place).map(|entry| entry.id)
    }

    /// Every leaf with its place.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = (usize, Vec<RuleId>)> {
        let mut place = 0;
        let lists = self.entries.split_inclusive(|entry| entry.has(Entry::LAST));
        lists.map(move |list| {
            let begin = place;
            place += list.len();
            (begin, list.iter().map(|entry| entry.id).collect())
        })
    }

    #[inline]
    fn trees(&self, facts: &Facts<'_>) -> &[u32] {
        let kind = self.kinds[usize::from(facts.protocol)];
        self.trees.get(usize::from(kind)).map_or(&[], Vec::as_slice)
    }

    #[inline]
    fn leaf(&self, first: usize) -> impl Iterator<Item = &Entry> {
        let mut rest = self.entries.get(first..).unwrap_or_default().iter();
        let mut ended = false;
        std::iter::from_fn(move || {
            let entry = rest.next().filter(|_| !ended)?;
            ended = entry.has(Entry::LAST);
            Some(entry)
        })
    }

    /// Where the packet's leaf begins in the entries; beyond them for the empty one.
    #[inline]
    fn leaf_place(&self, root: u32, facts: &Facts<'_>) -> usize {
        let mut at = root;
        while at & LEAF_BIT == 0 {
            let Some(node) = self.nodes.get(at as usize) else {
                return usize::MAX;
            };
            at = match node {
                Node::Port {
                    source,
                    ports,
                    without,
                } => match if *source {
                    facts.source_port
                } else {
                    facts.port
                } {
                    None => *without,
                    Some(port) => ports.find(port),
                },
                Node::Address { source, v4, v6 } => {
                    let key = if *source {
                        facts.source
                    } else {
                        facts.destination
                    };
                    if (IPV4_FIRST..=IPV4_LAST).contains(&key) {
                        v4.find(key as u32)
                    } else {
                        v6.find(key)
                    }
                }
            };
        }
        (at & !LEAF_BIT) as usize
    }
}

/// Whether the rule's header fields match; its expiry and content are not asked.
#[inline]
pub(crate) fn header_matches(rule: &Rule, facts: &Facts<'_>, plan: &Plan) -> bool {
    header_matches_anywhere(rule, facts, plan)
        && rule
            .interface
            .as_ref()
            .is_none_or(|wanted| wanted.matches(facts.interface))
}

/// Whether they match but for the interface, which is not asked.
#[inline]
pub(crate) fn header_matches_anywhere(rule: &Rule, facts: &Facts<'_>, plan: &Plan) -> bool {
    rule.directions.contains(facts.direction)
        && rule.protocols.contains(facts.protocol)
        && rule.port.matches(facts.port)
        && rule.source_port.matches(facts.source_port)
        && address_matches(&rule.from, facts.source, plan)
        && address_matches(&rule.to, facts.destination, plan)
}

#[inline]
fn address_matches(wanted: &AddressMatch, key: u128, plan: &Plan) -> bool {
    match wanted {
        AddressMatch::Any => true,
        AddressMatch::Of { inline, sets } => {
            inline.contains_key(key)
                || sets
                    .iter()
                    .any(|set| plan.sets[set.0 as usize].addresses.contains_key(key))
        }
    }
}
