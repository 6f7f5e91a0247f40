//! The rules of one direction as a decision tree, so that finding the first match costs about the same for ten rules as for
//! ten thousand.
//!
//! Each inner node cuts one field (protocol, destination port, source or destination address, source port) at the borders of
//! its rules, so that within a child every rule either holds for the whole of that field or not at all. A rule that has no
//! condition left ends its list. Equal lists share a node. Rules that leave open what others name would stand in every piece of
//! a cut, so rules are grouped by the fields that they name, one tree for each group (EffiCuts, SIGCOMM 2010), and the
//! earliest match of all trees decides. Where a tree would outgrow its budget, a list stays a list, which is slower and never
//! wrong: a leaf's rules are matched in full.

use std::collections::HashMap;

use policy::address::{IPV4_FIRST, IPV4_LAST};
use policy::{AddressMatch, Direction, Plan, PortSet, Rule, RuleId};

use crate::facts::Facts;

/// Lists of at most this many rules are not cut further: to ask them all costs less than another step down the tree.
const LEAF: usize = 4;
/// So few rules are not grouped.
const UNGROUPED: usize = 16;
/// Named sets with more ranges than this are looked up in the leaf, not cut.
const CUTTABLE_RANGES: usize = 512;
/// Rule references that a tree may hold for each rule, and at least.
const BUDGET_PER_RULE: usize = 64;
const BUDGET_FLOOR: usize = 65_536;

/// The first-match index of one direction.
#[derive(Debug, Default)]
pub(crate) struct Index {
    nodes: Vec<Node>,
    /// The rules of all leaves, each leaf's together.
    entries: Vec<Entry>,
    /// Where each tree begins, and its first rule; by first rule.
    trees: Vec<(RuleId, u32)>,
}

/// What a child number says: a node, or with this bit the place of a leaf in the entries. Leaves are most of a tree, and so
/// cost a packet no look at a node.
const LEAF_BIT: u32 = 1 << 31;
/// The leaf without rules.
const EMPTY: u32 = u32::MAX;

#[derive(Debug)]
enum Node {
    Protocol(Box<[u32; 256]>),
    /// `starts[i]..starts[i + 1]` goes to `children[i]`; packets without ports to `without`.
    Port {
        source: bool,
        starts: Box<[u16]>,
        children: Box<[u32]>,
        without: u32,
    },
    Address {
        source: bool,
        v4: Cut<u32>,
        v6: Cut<u128>,
    },
}

/// A rule in a leaf, with what is left to be asked of a packet that got there, close together: a rule itself is far from the
/// next one in memory.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: RuleId,
    /// The one protocol, when it is one and was not cut.
    protocol: Option<u8>,
    /// Whether there is more to ask than fits here: the rule itself has to be looked at.
    more: bool,
    /// The one range of destination ports, when it is one and was not cut.
    port: Option<(u16, u16)>,
    /// The one range of IPv4 sources, when it is one and was not cut.
    source: Option<(u32, u32)>,
    /// Whether it is the last of its leaf.
    last: bool,
}

impl Entry {
    #[inline]
    fn may_match(&self, facts: &Facts<'_>) -> bool {
        self.protocol
            .is_none_or(|protocol| protocol == facts.protocol)
            && self.port.is_none_or(|(first, last)| {
                facts.port.is_some_and(|port| first <= port && port <= last)
            })
            && self.source.is_none_or(|(first, last)| {
                facts.source >> 32 == IPV4_FIRST >> 32
                    && (first..=last).contains(&(facts.source as u32))
            })
    }
}

/// The range of a set that is one range of IPv4.
fn one_ipv4_range(wanted: &AddressMatch) -> Option<(u32, u32)> {
    match wanted {
        AddressMatch::Of { inline, sets } if sets.is_empty() => match inline.ranges() {
            [(first, last)] if *first >= IPV4_FIRST && *last <= IPV4_LAST => {
                Some((*first as u32, *last as u32))
            }
            _ => None,
        },
        AddressMatch::Any | AddressMatch::Of { .. } => None,
    }
}

/// Borders and what lies between them; the first border is the least value.
#[derive(Debug)]
struct Cut<T> {
    starts: Box<[T]>,
    children: Box<[u32]>,
}

impl<T: Ord + Copy> Cut<T> {
    #[inline]
    fn find(&self, value: T) -> u32 {
        let after = self.starts.partition_point(|&start| start <= value);
        self.children[after.saturating_sub(1)]
    }
}

impl Index {
    /// Builds the index of the rules that cover `direction` and that `wanted` names.
    pub(crate) fn build(plan: &Plan, direction: Direction, wanted: impl Fn(&Rule) -> bool) -> Self {
        let rules: Vec<RuleId> = plan
            .rules
            .iter()
            .filter(|rule| rule.directions.contains(direction) && wanted(rule))
            .map(|rule| rule.id)
            .collect();
        let budget = BUDGET_FLOOR.max(rules.len() * BUDGET_PER_RULE);
        let mut builder = Builder {
            plan,
            nodes: Vec::new(),
            entries: Vec::new(),
            known: HashMap::new(),
            budget,
        };
        let trees = builder
            .groups(rules)
            .into_iter()
            .filter_map(|group| Some((*group.first()?, builder.node(group, Fields::default()))))
            .collect();
        Self {
            nodes: builder.nodes,
            entries: builder.entries,
            trees,
        }
    }

    /// The first rule, in order, whose header fields match; `matches` is asked of rules that have more conditions than
    /// the tree holds, and answers for all of them.
    #[inline]
    pub(crate) fn first(
        &self,
        facts: &Facts<'_>,
        mut matches: impl FnMut(RuleId) -> bool,
    ) -> Option<RuleId> {
        let mut best: Option<RuleId> = None;
        for &(first, root) in &self.trees {
            if best.is_some_and(|best| best < first) {
                break;
            }
            let found = self
                .leaf(root, facts)
                .take_while(|entry| best.is_none_or(|best| entry.id < best))
                .find(|entry| entry.may_match(facts) && (!entry.more || matches(entry.id)))
                .map(|entry| entry.id);
            best = found.or(best);
        }
        best
    }

    /// Every rule that could match, in order of each tree.
    pub(crate) fn candidates(&self, facts: &Facts<'_>) -> impl Iterator<Item = RuleId> {
        self.trees
            .iter()
            .flat_map(|&(_, root)| self.leaf(root, facts))
            .map(|entry| entry.id)
    }

    #[inline]
    fn leaf(&self, root: u32, facts: &Facts<'_>) -> impl Iterator<Item = &Entry> {
        let first = self.leaf_place(root, facts);
        let mut rest = self.entries.get(first..).unwrap_or_default().iter();
        let mut ended = false;
        std::iter::from_fn(move || {
            let entry = rest.next().filter(|_| !ended)?;
            ended = entry.last;
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
                Node::Protocol(children) => children[usize::from(facts.protocol)],
                Node::Port {
                    source,
                    starts,
                    children,
                    without,
                } => match if *source {
                    facts.source_port
                } else {
                    facts.port
                } {
                    None => *without,
                    Some(port) => {
                        let after = starts.partition_point(|&start| start <= port);
                        children[after.saturating_sub(1)]
                    }
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
    rule.directions.contains(facts.direction)
        && rule.protocols.contains(facts.protocol)
        && rule.port.matches(facts.port)
        && rule.source_port.matches(facts.source_port)
        && address_matches(&rule.from, facts.source, plan)
        && address_matches(&rule.to, facts.destination, plan)
        && rule
            .interface
            .as_ref()
            .is_none_or(|wanted| wanted.matches(facts.interface))
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

/// A field that a node can cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Field {
    Protocol,
    Port,
    SourcePort,
    Source,
    Destination,
}

impl Field {
    const ALL: [Self; 5] = [
        Self::Protocol,
        Self::Port,
        Self::Source,
        Self::Destination,
        Self::SourcePort,
    ];
}

/// The fields that were cut on the way to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Fields(u8);

impl Fields {
    fn contains(self, field: Field) -> bool {
        self.0 >> field as u8 & 1 == 1
    }

    fn with(self, field: Field) -> Self {
        Self(self.0 | 1 << field as u8)
    }
}

struct Builder<'a> {
    plan: &'a Plan,
    nodes: Vec<Node>,
    entries: Vec<Entry>,
    known: HashMap<(Vec<RuleId>, Fields), u32>,
    budget: usize,
}

impl Builder<'_> {
    fn rule(&self, id: RuleId) -> &Rule {
        &self.plan.rules[id.0 as usize]
    }

    /// Rules that name the same fields together, each group in order; few rules stay one group.
    fn groups(&self, rules: Vec<RuleId>) -> Vec<Vec<RuleId>> {
        if rules.len() <= UNGROUPED {
            return vec![rules];
        }
        let mut groups: Vec<(Fields, Vec<RuleId>)> = Vec::new();
        for id in rules {
            let rule = self.rule(id);
            let named = Field::ALL
                .into_iter()
                .filter(|&field| {
                    field != Field::Protocol
                        && !self.is_free(rule, field)
                        && self.is_cuttable(rule, field)
                })
                .fold(Fields::default(), Fields::with);
            match groups.iter_mut().find(|(fields, _)| *fields == named) {
                Some((_, group)) => group.push(id),
                None => groups.push((named, vec![id])),
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }

    fn node(&mut self, mut rules: Vec<RuleId>, cut: Fields) -> u32 {
        // What follows a rule that asks for nothing more is never reached.
        if let Some(last) = rules.iter().position(|&id| self.decides(id, cut)) {
            rules.truncate(last + 1);
        }
        let list = (rules, cut);
        if let Some(&known) = self.known.get(&list) {
            return known;
        }
        let (rules, _) = &list;
        let child = match self.best_cut(rules, cut) {
            Some(parts) if self.budget > parts.weight() => {
                self.budget -= parts.weight();
                let node = self.inner(parts, cut);
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
            _ => self.new_leaf(rules, cut),
        };
        self.known.insert(list, child);
        child
    }

    fn new_leaf(&mut self, rules: &[RuleId], cut: Fields) -> u32 {
        let mut leaf: Vec<Entry> = rules.iter().map(|&id| self.entry(id, cut)).collect();
        let Some(end) = leaf.last_mut() else {
            return EMPTY;
        };
        end.last = true;
        let first = self.entries.len() as u32;
        self.entries.extend(leaf);
        first | LEAF_BIT
    }

    fn inner(&mut self, parts: Parts, cut: Fields) -> Node {
        let field = parts.field;
        let cut = cut.with(field);
        let mut children = parts
            .lists
            .into_iter()
            .map(|list| self.node(list, cut))
            .collect::<Vec<u32>>();
        match parts.borders {
            Borders::Protocol => {
                let mut table = Box::new([0; 256]);
                table.copy_from_slice(&children);
                Node::Protocol(table)
            }
            Borders::Port(starts) => {
                // The last list is that of packets without ports.
                let without = children.pop().unwrap_or(EMPTY);
                Node::Port {
                    source: field == Field::SourcePort,
                    starts: starts.into(),
                    children: children.into(),
                    without,
                }
            }
            Borders::Address(starts) => {
                let family = |v4: bool| {
                    starts
                        .iter()
                        .zip(&children)
                        .filter(move |(start, _)| (IPV4_FIRST..=IPV4_LAST).contains(*start) == v4)
                };
                Node::Address {
                    source: field == Field::Source,
                    v4: Cut {
                        starts: family(true).map(|(start, _)| *start as u32).collect(),
                        children: family(true).map(|(_, child)| *child).collect(),
                    },
                    v6: Cut {
                        starts: family(false).map(|(start, _)| *start).collect(),
                        children: family(false).map(|(_, child)| *child).collect(),
                    },
                }
            }
        }
    }

    /// What is left to be asked of a packet that came through these cuts.
    fn entry(&self, id: RuleId, cut: Fields) -> Entry {
        let rule = self.rule(id);
        let open = |field: Field| {
            !(self.is_free(rule, field) || cut.contains(field) && self.is_cuttable(rule, field))
        };
        let mut protocols = rule.protocols.iter();
        let protocol = match (open(Field::Protocol), protocols.next(), protocols.next()) {
            (true, Some(one), None) => Some(one),
            _ => None,
        };
        let port = match (open(Field::Port), rule.port.ranges()) {
            (true, [one]) => Some(*one),
            _ => None,
        };
        let source = open(Field::Source).then(|| one_ipv4_range(&rule.from));
        let more = rule.content.is_some()
            || rule.expires.is_some()
            || rule.interface.is_some()
            || (open(Field::Protocol) && protocol.is_none())
            || (open(Field::Port) && port.is_none())
            || open(Field::SourcePort)
            || open(Field::Destination)
            || source == Some(None);
        Entry {
            id,
            protocol,
            more,
            port,
            source: source.flatten(),
            last: false,
        }
    }

    /// Whether the rule matches whatever reaches a node behind these cuts.
    fn decides(&self, id: RuleId, cut: Fields) -> bool {
        let rule = self.rule(id);
        rule.content.is_none()
            && rule.expires.is_none()
            && rule.interface.is_none()
            && Field::ALL.into_iter().all(|field| {
                self.is_free(rule, field) || (cut.contains(field) && self.is_cuttable(rule, field))
            })
    }

    fn is_free(&self, rule: &Rule, field: Field) -> bool {
        match field {
            Field::Protocol => rule.protocols.is_any(),
            Field::Port => rule.port.is_any(),
            Field::SourcePort => rule.source_port.is_any(),
            Field::Source => rule.from == AddressMatch::Any,
            Field::Destination => rule.to == AddressMatch::Any,
        }
    }

    fn is_cuttable(&self, rule: &Rule, field: Field) -> bool {
        let small = |wanted: &AddressMatch| match wanted {
            AddressMatch::Any => true,
            AddressMatch::Of { inline: _, sets } => sets.iter().all(|set| {
                self.plan.sets[set.0 as usize].addresses.ranges().len() <= CUTTABLE_RANGES
            }),
        };
        match field {
            Field::Protocol | Field::Port | Field::SourcePort => true,
            Field::Source => small(&rule.from),
            Field::Destination => small(&rule.to),
        }
    }

    /// The cut whose longest list is shortest, where one makes it shorter at all.
    fn best_cut(&self, rules: &[RuleId], cut: Fields) -> Option<Parts> {
        if rules.len() <= LEAF {
            return None;
        }
        Field::ALL
            .into_iter()
            .filter(|&field| !cut.contains(field))
            .filter(|&field| rules.iter().any(|&id| !self.is_free(self.rule(id), field)))
            .filter_map(|field| self.parts(rules, field))
            .min_by_key(|parts| (parts.expected(), parts.weight()))
            .filter(|parts| parts.expected() < rules.len())
    }

    fn parts(&self, rules: &[RuleId], field: Field) -> Option<Parts> {
        match field {
            Field::Protocol => {
                let lists = (0..=u8::MAX)
                    .map(|protocol| {
                        rules
                            .iter()
                            .copied()
                            .filter(|&id| self.rule(id).protocols.contains(protocol))
                            .collect()
                    })
                    .collect();
                Some(Parts {
                    field,
                    borders: Borders::Protocol,
                    lists,
                })
            }
            Field::Port | Field::SourcePort => {
                let ports = |id: RuleId| {
                    if field == Field::Port {
                        &self.rule(id).port
                    } else {
                        &self.rule(id).source_port
                    }
                };
                let spans = rules.iter().map(|&id| match ports(id) {
                    PortSet::Any => vec![(0, u128::from(u16::MAX))],
                    PortSet::Of(ranges) => ranges
                        .iter()
                        .map(|&(first, last)| (u128::from(first), u128::from(last)))
                        .collect(),
                });
                let (starts, mut lists) =
                    sweep(rules, spans, &[], u128::from(u16::MAX), self.budget)?;
                lists.push(
                    rules
                        .iter()
                        .copied()
                        .filter(|&id| ports(id).is_any())
                        .collect(),
                );
                Some(Parts {
                    field,
                    borders: Borders::Port(starts.into_iter().map(|start| start as u16).collect()),
                    lists,
                })
            }
            Field::Source | Field::Destination => {
                let spans = rules.iter().map(|&id| {
                    let rule = self.rule(id);
                    let wanted = if field == Field::Source {
                        &rule.from
                    } else {
                        &rule.to
                    };
                    if self.is_cuttable(rule, field) {
                        wanted.resolve(&self.plan.sets).ranges().to_vec()
                    } else {
                        vec![(0, u128::MAX)]
                    }
                });
                let (starts, lists) = sweep(
                    rules,
                    spans,
                    &[IPV4_FIRST, IPV4_LAST + 1],
                    u128::MAX,
                    self.budget,
                )?;
                Some(Parts {
                    field,
                    borders: Borders::Address(starts),
                    lists,
                })
            }
        }
    }
}

/// A cut: its borders and the rules between them.
struct Parts {
    field: Field,
    borders: Borders,
    lists: Vec<Vec<RuleId>>,
}

enum Borders {
    Protocol,
    Port(Vec<u16>),
    Address(Vec<u128>),
}

impl Parts {
    fn weight(&self) -> usize {
        self.lists.iter().map(|list| list.len() + 1).sum()
    }

    /// What a packet that falls between any two borders with the same chance meets, rounded up; for protocols those that
    /// rules name.
    fn expected(&self) -> usize {
        let mut lists: Vec<usize> = self.lists.iter().map(Vec::len).collect();
        lists.sort_unstable();
        if matches!(self.borders, Borders::Protocol) {
            return lists.last().copied().unwrap_or_default();
        }
        let longest = lists.last().copied().unwrap_or_default();
        let mean = lists.iter().sum::<usize>() / lists.len().max(1);
        mean.midpoint(longest) + 1
    }
}

/// Cuts `0..=end` at the borders of all spans; gives the starts and the rules that hold in each piece, in rule order.
/// `None` when the pieces would hold more references than `budget`.
fn sweep(
    rules: &[RuleId],
    spans: impl Iterator<Item = Vec<(u128, u128)>>,
    borders: &[u128],
    end: u128,
    budget: usize,
) -> Option<(Vec<u128>, Vec<Vec<RuleId>>)> {
    let mut begins: Vec<(u128, usize)> = Vec::new();
    let mut ends: Vec<(u128, usize)> = Vec::new();
    let mut starts: Vec<u128> = vec![0];
    starts.extend(borders.iter().filter(|&&border| border <= end));
    for (place, ranges) in spans.enumerate() {
        for (first, last) in ranges {
            begins.push((first, place));
            starts.push(first);
            if last < end {
                ends.push((last + 1, place));
                starts.push(last + 1);
            }
        }
    }
    starts.sort_unstable();
    starts.dedup();
    begins.sort_unstable();
    ends.sort_unstable();
    let (mut begins, mut ends) = (begins.into_iter().peekable(), ends.into_iter().peekable());
    // A rule may have several ranges, but they are disjoint: it holds at most once at a time.
    let mut holding: std::collections::BTreeSet<usize> = std::collections::BTreeSet::new();
    let (mut lists, mut total) = (Vec::with_capacity(starts.len()), 0);
    for &start in &starts {
        while let Some((_, place)) = ends.next_if(|&(at, _)| at <= start) {
            holding.remove(&place);
        }
        while let Some((_, place)) = begins.next_if(|&(at, _)| at <= start) {
            holding.insert(place);
        }
        total += holding.len() + 1;
        if total > budget {
            return None;
        }
        lists.push(holding.iter().map(|&place| rules[place]).collect());
    }
    Some((starts, lists))
}
