//! Trees written as chains: verdict maps for the cuts, plain rules for the leaves.

use policy::Direction;

use super::header::{Entry, Target, protocol_name, range_text};
use super::list::{Family, Lists};
use super::table::{Set, Table};
use super::tree::{Body, Child, Field, Known, LEAF, Open, Split, Tree};

/// Verdict maps of at most this many arms are written into the rule.
const INLINE: usize = 16;

/// A list of entries and how it is to be written.
pub(super) struct Branch<'a> {
    /// Name of the chain to begin with, and begin of the names of all others.
    pub(super) name: &'a str,
    pub(super) entries: &'a [Entry],
    pub(super) direction: Direction,
    /// Most cuts on the way to a leaf.
    pub(super) depth: usize,
    /// The verdict on what no entry matches.
    pub(super) end: &'a str,
}

/// The verdict that leads to a target.
fn verdict(target: Target) -> String {
    match target {
        Target::Rule(rule) => format!("goto rule_{}", rule.0),
        Target::RuleOut(rule) => format!("goto rule_{}_out", rule.0),
        Target::Meter(rule) => format!("goto meter_{}", rule.0),
        Target::Unmeasured => "return".to_owned(),
        Target::Passed => "accept".to_owned(),
    }
}

impl Branch<'_> {
    /// Writes the chains.
    pub(super) fn write(&self, lists: &mut Lists<'_>, table: &mut Table) {
        let tree = Tree::build(self.entries, self.depth);
        // Chains are numbered in the order in which a reader meets them, not in that of building.
        let mut order = Vec::new();
        visit(
            &tree,
            tree.root,
            &mut vec![false; tree.nodes.len()],
            &mut order,
        );
        let mut numbers = vec![0; tree.nodes.len()];
        for (number, &node) in order.iter().enumerate() {
            numbers[node] = number;
        }
        let chains = Chains {
            branch: self,
            numbers,
        };
        let Child::Node(_) = tree.root else {
            table.chain(self.name, vec![chains.verdict(tree.root)]);
            return;
        };
        for (at, &node) in order.iter().enumerate() {
            let name = chains.name(node);
            let rules = match &tree.nodes[node].body {
                Body::Leaf(list) => {
                    chains.leaf(list, tree.nodes[node].known, at == 0, lists, table)
                }
                Body::Split(split) => chains.split(split, tree.nodes[node].known, &name, table),
            };
            table.chain(name, rules);
        }
    }
}

fn visit(tree: &Tree, at: Child, seen: &mut [bool], order: &mut Vec<usize>) {
    let Child::Node(node) = at else { return };
    if std::mem::replace(&mut seen[node], true) {
        return;
    }
    order.push(node);
    if let Body::Split(split) = &tree.nodes[node].body {
        for (_, _, child) in &split.arms {
            visit(tree, *child, seen, order);
        }
        visit(tree, split.otherwise, seen, order);
    }
}

struct Chains<'a> {
    branch: &'a Branch<'a>,
    /// Place of each node in the order of writing.
    numbers: Vec<usize>,
}

impl Chains<'_> {
    fn name(&self, node: usize) -> String {
        match self.numbers[node] {
            0 => self.branch.name.to_owned(),
            number => format!("{}_{number}", self.branch.name),
        }
    }

    fn verdict(&self, child: Child) -> String {
        match child {
            Child::End => self.branch.end.to_owned(),
            Child::Goto(target) => verdict(target),
            Child::Node(node) => format!("goto {}", self.name(node)),
        }
    }

    fn leaf(
        &self,
        list: &[Open],
        known: Known,
        root: bool,
        lists: &mut Lists<'_>,
        table: &mut Table,
    ) -> Vec<String> {
        let mut rules = Vec::new();
        for open in list {
            let entry = &self.branch.entries[open.entry as usize];
            let verdict = verdict(entry.target);
            let remark = if root && list.len() <= LEAF {
                &entry.remark
            } else {
                ""
            };
            for tests in entry.header.expressions(
                open.open,
                known.family,
                self.branch.direction,
                lists,
                table,
            ) {
                let mut rule = format!("{tests} {verdict}");
                if !remark.is_empty() {
                    rule.push(' ');
                    rule.push_str(&super::table::comment_text(remark));
                }
                rules.push(rule.trim_start().to_owned());
            }
        }
        let ended = list.last().is_some_and(|last| last.open.is_empty());
        if !ended {
            rules.push(self.branch.end.to_owned());
        }
        rules
    }

    fn split(&self, split: &Split, known: Known, name: &str, table: &mut Table) -> Vec<String> {
        let arms: Vec<String> = split
            .arms
            .iter()
            .map(|&(first, last, child)| {
                format!(
                    "{} : {}",
                    key_text(split.field, known, first, last),
                    self.verdict(child)
                )
            })
            .collect();
        let field = field_text(split.field, known);
        let mut rules = Vec::new();
        if arms.len() > INLINE {
            let map = format!("{name}_map");
            let intervals = split.arms.iter().any(|(first, last, _)| first != last);
            let mut attributes = vec![format!("type {} : verdict", key_type(split.field, known))];
            if intervals {
                attributes.push("flags interval".to_owned());
            }
            table.set(Set {
                name: map.clone(),
                keyword: "map",
                attributes,
                elements: Some(arms),
            });
            rules.push(format!("{field} vmap @{map}"));
        } else if !arms.is_empty() {
            rules.push(format!("{field} vmap {{ {} }}", arms.join(", ")));
        }
        rules.push(self.verdict(split.otherwise));
        rules
    }
}

/// The family of a cut by address; such a cut is only made where the family is known.
fn family(known: Known) -> Family {
    known.family.unwrap_or(Family::V4)
}

fn field_text(field: Field, known: Known) -> String {
    match field {
        Field::Protocol => "meta l4proto".to_owned(),
        Field::Family => "meta nfproto".to_owned(),
        Field::Port => "th dport".to_owned(),
        Field::SourcePort => "th sport".to_owned(),
        Field::From => format!("{} saddr", family(known).header()),
        Field::To => format!("{} daddr", family(known).header()),
    }
}

fn key_type(field: Field, known: Known) -> &'static str {
    match field {
        Field::Protocol => "inet_proto",
        Field::Family => "nf_proto",
        Field::Port | Field::SourcePort => "inet_service",
        Field::From | Field::To => family(known).key_type(),
    }
}

fn key_text(field: Field, known: Known, first: u128, last: u128) -> String {
    match field {
        Field::Protocol => {
            let name = |protocol: u128| {
                u8::try_from(protocol).map_or_else(|_| protocol.to_string(), protocol_name)
            };
            if first == last {
                name(first)
            } else {
                range_text(first, last)
            }
        }
        Field::Family if first == 4 => Family::V4.nfproto().to_owned(),
        Field::Family => Family::V6.nfproto().to_owned(),
        Field::Port | Field::SourcePort => range_text(first, last),
        Field::From | Field::To => family(known).text(first, last),
    }
}
