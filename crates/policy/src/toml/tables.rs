//! Where a header's keys go, and which tables may be opened again (TOML 1.0, "Table" and "Array of Tables").

use super::{Parser, Path};
use crate::tree::{Entry, Node, Origin, Span, Table, Value, duplicate_key};

/// The table that the lines after a header belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Root,
    /// Key by key from the root; of a list of tables the last element.
    At(Vec<String>),
    /// The header could not be used.
    Nowhere,
}

impl Place {
    pub(super) fn of<'t>(&self, root: &'t mut Table) -> Option<&'t mut Table> {
        let keys = match self {
            Self::Root => return Some(root),
            Self::At(keys) => keys,
            Self::Nowhere => return None,
        };
        keys.iter().try_fold(root, |table, key| {
            inner(&mut table.get_mut(key)?.value.value)
        })
    }
}

/// The table in a value, or in the last element of a list of tables.
fn inner(value: &mut Value) -> Option<&mut Table> {
    match value {
        Value::Table(table) => Some(table),
        Value::List(items) => match &mut items.last_mut()?.value {
            Value::Table(table) if table.origin == Origin::Element => Some(table),
            _ => None,
        },
        _ => None,
    }
}

impl Parser<'_, '_> {
    /// Opens `[path]`, or adds an element for `[[path]]`.
    pub(super) fn open(&mut self, root: &mut Table, path: Path, is_element: bool) -> Place {
        let keys: Vec<String> = path.iter().map(|(key, _)| key.clone()).collect();
        let last = path.len() - 1;
        let mut table = root;
        for (index, (key, span)) in path.into_iter().enumerate() {
            if index == last {
                return if self.open_last(table, key, span, is_element) {
                    Place::At(keys)
                } else {
                    Place::Nowhere
                };
            }
            if table.get(&key).is_none() {
                let passed = Value::Table(Table::new(Origin::Passed));
                table.push(key.clone(), span, Node::new(span, passed));
            }
            let Some(entry) = table.get_mut(&key) else {
                return Place::Nowhere;
            };
            let (first, is_damaged) = (entry.key_span, matches!(entry.value.value, Value::Damaged));
            match inner(&mut entry.value.value) {
                Some(next) if next.origin != Origin::Inline => table = next,
                _ => {
                    if !is_damaged {
                        duplicate_key(&key, span, first, self.report);
                    }
                    return Place::Nowhere;
                }
            }
        }
        Place::Nowhere
    }

    /// Whether the last part of a header could be opened.
    fn open_last(&mut self, table: &mut Table, key: String, span: Span, is_element: bool) -> bool {
        let origin = if is_element {
            Origin::Element
        } else {
            Origin::Header
        };
        let fresh = Node::new(span, Value::Table(Table::new(origin)));
        let Some(Entry {
            key_span, value, ..
        }) = table.get_mut(&key)
        else {
            let value = if is_element {
                Node::new(span, Value::List(vec![fresh]))
            } else {
                fresh
            };
            table.push(key, span, value);
            return true;
        };
        let first = *key_span;
        match &mut value.value {
            Value::List(items) if is_element && inner_is_element(items) => {
                items.push(fresh);
                return true;
            }
            Value::Table(present) if !is_element && present.origin == Origin::Passed => {
                present.origin = Origin::Header;
                value.span = span;
                return true;
            }
            Value::Damaged => {}
            _ => duplicate_key(&key, span, first, self.report),
        }
        false
    }
}

fn inner_is_element(items: &[Node]) -> bool {
    matches!(items.last(), Some(Node { value: Value::Table(table), .. }) if table.origin == Origin::Element)
}
