//! A list in first-match order as a decision tree, so that finding the first match costs about the same for ten entries as
//! for ten thousand.
//!
//! Each inner node cuts one field at borders of its entries' conditions. Between two borders an entry holds for the whole
//! field, not at all, or, where a node is cut coarsely, still has to be tested; an entry with nothing left to test ends its
//! list. Equal lists share a node. Where a tree would outgrow its budget or the kernel's jump depth, a list stays a list:
//! slower, never wrong. Entries that only measure end nothing: all of them that match are met, in order. Nothing here knows nft; `branch` writes it.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use policy::PortSet;
use policy::address::{IPV4_FIRST, IPV4_LAST};
use policy::protocol::has_ports;

use super::header::{Conditions, Entry, Target, with_ports};
use super::list::{Address, Family};

/// Lists of at most this many entries are not cut.
pub(super) const LEAF: usize = 8;
/// Address conditions of more ranges than this are tested in the leaf, not cut.
const CUTTABLE: usize = 512;
/// Pieces of a field where it cannot be cut at every border.
const COARSE: usize = 16;
/// Entries that a tree may hold for each entry of its list, and at least.
const BUDGET_PER_ENTRY: usize = 6;
const BUDGET_FLOOR: usize = 2_048;

/// A list as a tree.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Child,
}

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Child {
    /// Nothing matches.
    End,
    /// This matches.
    Goto(Target),
    /// Ask this node.
    Node(usize),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) known: Known,
    pub(super) body: Body,
}

/// What every packet at a node is known to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Known {
    pub(super) family: Option<Family>,
    protocol: bool,
    /// Its protocol has ports.
    ports: bool,
}

#[derive(Debug)]
pub(super) enum Body {
    /// Entries to test in order.
    Leaf(Vec<Open>),
    Split(Split),
}

/// An entry and what of it is still to be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Open {
    pub(super) entry: u32,
    pub(super) open: Conditions,
}

/// One field, cut.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) field: Field,
    /// Inclusive ranges of the field, ascending.
    pub(super) arms: Vec<(u128, u128, Child)>,
    /// For every other value.
    pub(super) otherwise: Child,
}

/// A field that a node can cut. The family is 4 or 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Field {
    Protocol,
    Family,
    Port,
    SourcePort,
    From,
    To,
}

impl Field {
    const fn condition(self) -> Conditions {
        match self {
            Self::Protocol => Conditions::PROTOCOL,
            Self::Family => Conditions::FROM.with(Conditions::TO),
            Self::Port => Conditions::PORT,
            Self::SourcePort => Conditions::SOURCE_PORT,
            Self::From => Conditions::FROM,
            Self::To => Conditions::TO,
        }
    }
}

/// A field cut into pieces: their starts, and the entries in each.
struct Pieces {
    field: Field,
    starts: Vec<u128>,
    lists: Vec<Vec<Open>>,
}

impl Pieces {
    fn longest(&self) -> usize {
        self.lists.iter().map(Vec::len).max().unwrap_or_default()
    }

    /// What the pieces cost: equal lists become one node.
    fn total(&self) -> usize {
        self.lists
            .iter()
            .collect::<HashSet<_>>()
            .into_iter()
            .map(Vec::len)
            .sum()
    }
}

impl Tree {
    /// Builds the tree of a list; no way through it passes more than `depth` cuts.
    pub(super) fn build(entries: &[Entry], depth: usize) -> Self {
        let mut builder = Builder {
            entries,
            nodes: Vec::new(),
            known: HashMap::new(),
            budget: BUDGET_FLOOR.max(entries.len() * BUDGET_PER_ENTRY),
        };
        let list = (0u32..)
            .zip(entries)
            .map(|(entry, what)| Open {
                entry,
                open: what.header.conditions(),
            })
            .collect();
        let root = builder.child(list, Known::default(), depth);
        Self {
            nodes: builder.nodes,
            root,
        }
    }
}

struct Builder<'a> {
    entries: &'a [Entry],
    nodes: Vec<Node>,
    known: HashMap<(Vec<Open>, Known, usize), usize>,
    budget: usize,
}

impl Builder<'_> {
    fn entry(&self, open: Open) -> &Entry {
        &self.entries[open.entry as usize]
    }

    fn child(&mut self, mut list: Vec<Open>, known: Known, depth: usize) -> Child {
        if let Some(last) = list.iter().position(|open| open.open.is_empty()) {
            list.truncate(last + 1);
        }
        match list.first() {
            None => return Child::End,
            Some(&first) if first.open.is_empty() => return Child::Goto(self.entry(first).target),
            Some(_) => {}
        }
        let key = (list, known, depth);
        if let Some(&node) = self.known.get(&key) {
            return Child::Node(node);
        }
        let body = self
            .split(&key.0, known, depth)
            .map_or_else(|| Body::Leaf(key.0.clone()), Body::Split);
        self.nodes.push(Node { known, body });
        self.known.insert(key, self.nodes.len() - 1);
        Child::Node(self.nodes.len() - 1)
    }

    fn split(&mut self, list: &[Open], known: Known, depth: usize) -> Option<Split> {
        if list.len() <= LEAF || depth == 0 {
            return None;
        }
        let pieces = self.best_cut(list, known)?;
        let Pieces {
            field,
            starts,
            lists,
        } = pieces;
        let mut arms: Vec<(u128, u128, Child)> = Vec::new();
        for (at, list) in lists.into_iter().enumerate() {
            let first = starts[at];
            let last = starts
                .get(at + 1)
                .map_or(limit(field, known), |next| next - 1);
            let child = self.child(list, known_in(field, first, known), depth - 1);
            match arms.last_mut() {
                Some((_, end, before)) if *before == child => *end = last,
                _ => arms.push((first, last, child)),
            }
        }
        // What most pieces have in common need not be written out.
        let mut count: HashMap<Child, usize> = HashMap::new();
        for (_, _, child) in &arms {
            *count.entry(*child).or_default() += 1;
        }
        let otherwise = count
            .into_iter()
            .max_by_key(|&(child, count)| (count, Reverse(child)))
            .map_or(Child::End, |(child, _)| child);
        arms.retain(|(_, _, child)| *child != otherwise);
        Some(Split {
            field,
            arms,
            otherwise,
        })
    }

    /// The cut whose longest list is shortest, where one makes it shorter at all. Protocol and family come first: ports and
    /// addresses can only be cut where they are known.
    fn best_cut(&mut self, list: &[Open], known: Known) -> Option<Pieces> {
        let asks = |condition| list.iter().any(|open| open.open.has(condition));
        let forced = if !known.protocol && asks(Conditions::PROTOCOL) {
            Some(Field::Protocol)
        } else if known.family.is_none() && asks(Field::Family.condition()) {
            Some(Field::Family)
        } else {
            None
        };
        if let Some(field) = forced {
            let pieces = self.cut(list, field, known)?;
            return self.pay(pieces);
        }
        let best = [Field::Port, Field::From, Field::To, Field::SourcePort]
            .into_iter()
            .filter(|field| asks(field.condition()))
            .filter(|field| match field {
                Field::Port | Field::SourcePort => known.ports,
                _ => known.family.is_some(),
            })
            .filter_map(|field| self.cut(list, field, known))
            .min_by_key(|pieces| (pieces.longest(), pieces.total()))?;
        if best.longest() * 5 > list.len() * 4 {
            return None;
        }
        self.pay(best)
    }

    fn pay(&mut self, pieces: Pieces) -> Option<Pieces> {
        self.budget = self.budget.checked_sub(pieces.total())?;
        Some(pieces)
    }

    fn cut(&self, list: &[Open], field: Field, known: Known) -> Option<Pieces> {
        let spans: Vec<Option<Vec<(u128, u128)>>> = list
            .iter()
            .map(|&open| self.spans(open, field, known))
            .collect();
        let mut starts: Vec<u128> = vec![first_value(field, known.family)];
        if field == Field::Protocol {
            // Whether there are ports must be the same for all of a piece.
            starts.extend(
                with_ports()
                    .iter()
                    .map(u128::from)
                    .flat_map(|protocol| [protocol, protocol + 1]),
            );
        }
        let end = limit(field, known);
        for &(first, last) in spans.iter().flatten().flatten() {
            starts.push(first);
            if last < end {
                starts.push(last + 1);
            }
        }
        starts.sort_unstable();
        starts.dedup();
        if field == Field::Family {
            // There is no family 5 between them.
            starts = vec![4, 6];
        }
        let few = matches!(field, Field::Protocol | Field::Family);
        let patience = if few {
            usize::MAX
        } else {
            32 * list.len() + 1_024
        };
        if let Some(lists) = self.distribute(list, &spans, field, known, &starts, patience) {
            return Some(Pieces {
                field,
                starts,
                lists,
            });
        }
        let step = starts.len().div_ceil(COARSE);
        let starts: Vec<u128> = starts.into_iter().step_by(step).collect();
        let lists = self.distribute(list, &spans, field, known, &starts, usize::MAX)?;
        Some(Pieces {
            field,
            starts,
            lists,
        })
    }

    /// Gives each piece its entries, in order. `None` when that takes more than `patience` steps.
    fn distribute(
        &self,
        list: &[Open],
        spans: &[Option<Vec<(u128, u128)>>],
        field: Field,
        known: Known,
        starts: &[u128],
        mut patience: usize,
    ) -> Option<Vec<Vec<Open>>> {
        let end = limit(field, known);
        let piece_end = |piece: usize| starts.get(piece + 1).map_or(end, |next| next - 1);
        let everywhere = [(0, u128::MAX)];
        let mut lists: Vec<Vec<Open>> = vec![Vec::new(); starts.len()];
        for (&open, spans) in list.iter().zip(spans) {
            for &(first, last) in spans.as_deref().unwrap_or(&everywhere) {
                let begin = starts
                    .partition_point(|&start| start <= first)
                    .saturating_sub(1);
                for (piece, list) in lists.iter_mut().enumerate().skip(begin) {
                    if starts[piece] > last {
                        break;
                    }
                    patience = patience.checked_sub(1)?;
                    let covers = first <= starts[piece] && piece_end(piece) <= last;
                    let left = match spans {
                        Some(_) if field == Field::Family => self.in_family(open, starts[piece]),
                        Some(_) if covers => open.open.without(field.condition()),
                        _ => open.open,
                    };
                    let closed = list.last().is_some_and(|before| before.open.is_empty());
                    let again = list.last().is_some_and(|before| before.entry == open.entry);
                    if !closed && !again {
                        list.push(Open {
                            entry: open.entry,
                            open: left,
                        });
                    }
                }
            }
        }
        Some(lists)
    }

    /// What is left to test of an entry once the family (4 or 6) is known.
    fn in_family(&self, open: Open, family: u128) -> Conditions {
        let family = if family == 4 { Family::V4 } else { Family::V6 };
        let header = &self.entry(open).header;
        [
            (&header.from, Conditions::FROM),
            (&header.to, Conditions::TO),
        ]
        .into_iter()
        .filter(|(address, _)| address.set().is_some_and(|set| family.all(set)))
        .fold(open.open, |left, (_, condition)| left.without(condition))
    }

    /// The ranges of the field in which the entry can match; `None` when the field is not asked or cannot be cut.
    fn spans(&self, open: Open, field: Field, known: Known) -> Option<Vec<(u128, u128)>> {
        if !open.open.has(field.condition()) {
            return None;
        }
        let header = &self.entry(open).header;
        let ports = |ports: &PortSet| {
            ports
                .ranges()
                .iter()
                .map(|&(first, last)| (u128::from(first), u128::from(last)))
                .collect()
        };
        let address = |address: &Address| {
            let ranges = known.family?.ranges(address.set()?);
            (ranges.len() <= CUTTABLE).then_some(ranges)
        };
        match field {
            Field::Protocol => Some(
                header
                    .protocols
                    .iter()
                    .map(|protocol| (u128::from(protocol), u128::from(protocol)))
                    .collect(),
            ),
            Field::Family => Some(
                [(Family::V4, 4), (Family::V6, 6)]
                    .into_iter()
                    .filter(|(family, _)| header.reaches(*family))
                    .map(|(_, number)| (number, number))
                    .collect(),
            ),
            Field::Port => Some(ports(&header.port)),
            Field::SourcePort => Some(ports(&header.source_port)),
            Field::From => address(&header.from),
            Field::To => address(&header.to),
        }
    }
}

/// The largest value of a field.
const fn limit(field: Field, known: Known) -> u128 {
    match field {
        Field::Protocol => u8::MAX as u128,
        Field::Family => 6,
        Field::Port | Field::SourcePort => u16::MAX as u128,
        Field::From | Field::To => match known.family {
            Some(Family::V4) => IPV4_LAST,
            _ => u128::MAX,
        },
    }
}

/// What is known of the packets in a piece of a field, of which one value is given.
fn known_in(field: Field, value: u128, known: Known) -> Known {
    match field {
        Field::Protocol => Known {
            protocol: true,
            ports: u8::try_from(value).is_ok_and(has_ports),
            ..known
        },
        Field::Family => Known {
            family: Some(if value == 4 { Family::V4 } else { Family::V6 }),
            ..known
        },
        _ => known,
    }
}

/// The smallest value of a field: the keys of IPv4 do not begin at 0.
const fn first_value(field: Field, family: Option<Family>) -> u128 {
    match (field, family) {
        (Field::From | Field::To, Some(Family::V4)) => IPV4_FIRST,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
