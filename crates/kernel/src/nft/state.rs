//! What the kernel holds of our table, read back over netlink, and how it differs from what was sent.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use crate::netlink::{Attributes, NetlinkError, Socket};

use super::TABLE;
use super::message::{INET, attribute, generation, list, set_flag, table_exists};
use super::table::Expected;

/// Listings that are begun anew because somebody changed the table meanwhile.
const ATTEMPTS: usize = 8;

/// Our table at one generation of the ruleset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) generation: u32,
    pub(super) chains: BTreeMap<String, ChainState>,
    pub(super) sets: BTreeMap<String, SetState>,
    pub(super) objects: BTreeSet<String>,
}

/// A chain: how many rules, and a digest of hook and rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ChainState {
    pub(super) rules: usize,
    digest: u64,
}

/// A named set or map: its flags (`NFT_SET_*`) and size, and number and digest of its elements where packets and bans do not
/// change them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SetState {
    pub(super) flags: u32,
    pub(super) size: u32,
    pub(super) elements: usize,
    digest: u64,
}

impl SetState {
    /// Whether packets or bans fill it.
    pub(super) const fn is_filled_at_run_time(&self) -> bool {
        self.flags & (set_flag::TIMEOUT | set_flag::DYNAMIC) != 0
    }

    pub(super) const fn is_map(&self) -> bool {
        self.flags & set_flag::MAP != 0
    }
}

/// Reads our table; `None` when it is not there.
pub(super) fn read(socket: &mut Socket) -> Result<Option<State>, NetlinkError> {
    for _ in 0..ATTEMPTS {
        let before = generation(socket)?;
        if !table_exists(socket)? {
            return Ok(None);
        }
        match read_once(socket) {
            Ok(mut state) if generation(socket)? == before => {
                state.generation = before;
                return Ok(Some(state));
            }
            Ok(_) | Err(NetlinkError::Changed) => {}
            // A set can vanish between its listing and that of its elements.
            Err(why) if why.errno() == Some(libc::ENOENT) => {}
            Err(why) => return Err(why),
        }
    }
    Err(NetlinkError::Changed)
}

fn read_once(socket: &mut Socket) -> Result<State, NetlinkError> {
    let mut state = State::default();
    let mut chains: BTreeMap<String, (usize, DefaultHasher)> = BTreeMap::new();
    list(
        socket,
        libc::NFT_MSG_GETCHAIN,
        INET,
        |_| {},
        |message| {
            let Some((_, attributes)) = message.netfilter() else {
                return;
            };
            if text(attributes, attribute::CHAIN_TABLE) != TABLE {
                return;
            }
            let mut hasher = DefaultHasher::new();
            for part in [attribute::CHAIN_HOOK, attribute::CHAIN_POLICY] {
                attributes
                    .get(part)
                    .map(|part| part.value)
                    .hash(&mut hasher);
            }
            chains.insert(
                text(attributes, attribute::CHAIN_NAME).to_owned(),
                (0, hasher),
            );
        },
    )?;
    list(
        socket,
        libc::NFT_MSG_GETRULE,
        INET,
        |filter| {
            filter.string(attribute::RULE_TABLE, TABLE);
        },
        |message| {
            let Some((_, attributes)) = message.netfilter() else {
                return;
            };
            if text(attributes, attribute::RULE_TABLE) != TABLE {
                return;
            }
            if let Some((rules, hasher)) = chains.get_mut(text(attributes, attribute::RULE_CHAIN)) {
                *rules += 1;
                attributes
                    .get(attribute::RULE_EXPRESSIONS)
                    .map(|expressions| expressions.value)
                    .hash(hasher);
            }
        },
    )?;
    state.chains = chains
        .into_iter()
        .map(|(name, (rules, hasher))| {
            (
                name,
                ChainState {
                    rules,
                    digest: hasher.finish(),
                },
            )
        })
        .collect();
    list(
        socket,
        libc::NFT_MSG_GETSET,
        INET,
        |filter| {
            filter.string(attribute::SET_TABLE, TABLE);
        },
        |message| {
            let Some((_, attributes)) = message.netfilter() else {
                return;
            };
            let number = |kind| {
                attributes
                    .get(kind)
                    .and_then(|value| value.be32())
                    .unwrap_or_default()
            };
            let flags = number(attribute::SET_FLAGS);
            if text(attributes, attribute::SET_TABLE) == TABLE && flags & set_flag::ANONYMOUS == 0 {
                let size = attributes
                    .get(attribute::SET_DESC)
                    .and_then(|desc| desc.nested().get(attribute::SET_DESC_SIZE)?.be32());
                let set = SetState {
                    flags,
                    size: size.unwrap_or_default(),
                    ..SetState::default()
                };
                state
                    .sets
                    .insert(text(attributes, attribute::SET_NAME).to_owned(), set);
            }
        },
    )?;
    for (name, set) in &mut state.sets {
        if !set.is_filled_at_run_time() {
            read_elements(socket, name, set)?;
        }
    }
    list(
        socket,
        libc::NFT_MSG_GETOBJ,
        INET,
        |filter| {
            filter.string(attribute::OBJECT_TABLE, TABLE);
        },
        |message| {
            let Some((_, attributes)) = message.netfilter() else {
                return;
            };
            if text(attributes, attribute::OBJECT_TABLE) == TABLE {
                state
                    .objects
                    .insert(text(attributes, attribute::OBJECT_NAME).to_owned());
            }
        },
    )?;
    Ok(state)
}

/// Counts and digests the elements of a set. The digest does not depend on their order, which a hash set may change.
fn read_elements(socket: &mut Socket, name: &str, set: &mut SetState) -> Result<(), NetlinkError> {
    elements(socket, name, |element| {
        let end = element
            .get(attribute::ELEMENT_FLAGS)
            .and_then(|flags| flags.be32())
            .unwrap_or_default();
        set.elements += usize::from(end & super::message::INTERVAL_END == 0);
        let mut hasher = DefaultHasher::new();
        for part in element {
            (part.kind, part.value).hash(&mut hasher);
        }
        set.digest = set.digest.wrapping_add(hasher.finish());
    })
}

/// Hands over the elements of one of our sets.
pub(super) fn elements(
    socket: &mut Socket,
    set: &str,
    mut each: impl FnMut(Attributes<'_>),
) -> Result<(), NetlinkError> {
    let filter = |builder: &mut crate::netlink::Builder| {
        builder
            .string(attribute::LIST_TABLE, TABLE)
            .string(attribute::LIST_SET, set);
    };
    list(socket, libc::NFT_MSG_GETSETELEM, INET, filter, |message| {
        let list = message
            .netfilter()
            .and_then(|(_, attributes)| attributes.get(attribute::LIST_ELEMENTS));
        for element in list.iter().flat_map(|list| list.nested()) {
            each(element.nested());
        }
    })
}

fn text(attributes: Attributes<'_>, kind: u16) -> &str {
    attributes.get(kind).map_or("", |value| value.string())
}

impl State {
    /// What is not as it was sent: one line each; empty when all is.
    pub(super) fn differences(&self, expected: &Expected) -> Vec<String> {
        let mut lines = Vec::new();
        let mut names = |kind: &str, there: Vec<&str>, wanted: Vec<&str>| {
            let (there, wanted): (BTreeSet<_>, BTreeSet<_>) =
                (there.into_iter().collect(), wanted.into_iter().collect());
            lines.extend(
                wanted
                    .difference(&there)
                    .map(|name| format!("{kind} {name} is missing")),
            );
            lines.extend(
                there
                    .difference(&wanted)
                    .map(|name| format!("{kind} {name} is not ours")),
            );
        };
        names(
            "chain",
            self.chains.keys().map(String::as_str).collect(),
            expected.chains.keys().map(String::as_str).collect(),
        );
        names(
            "set",
            self.sets.keys().map(String::as_str).collect(),
            expected.sets.keys().map(String::as_str).collect(),
        );
        names(
            "counter",
            self.objects.iter().map(String::as_str).collect(),
            expected.objects.iter().map(String::as_str).collect(),
        );
        for (name, chain) in &self.chains {
            if let Some(wanted) = expected
                .chains
                .get(name)
                .filter(|wanted| **wanted != chain.rules)
            {
                lines.push(format!(
                    "chain {name} has {} rules instead of {wanted}",
                    chain.rules
                ));
            }
        }
        for (name, set) in &self.sets {
            if let Some(Some(wanted)) = expected.sets.get(name)
                && *wanted != set.elements
            {
                lines.push(format!(
                    "set {name} has {} elements instead of {wanted}",
                    set.elements
                ));
            }
        }
        lines
    }

    /// What changed since an earlier reading: one line each.
    pub(super) fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        compare(&mut lines, "chain", &before.chains, &self.chains);
        compare(&mut lines, "set", &before.sets, &self.sets);
        lines.extend(
            before
                .objects
                .difference(&self.objects)
                .map(|name| format!("counter {name} is missing")),
        );
        lines.extend(
            self.objects
                .difference(&before.objects)
                .map(|name| format!("counter {name} was added")),
        );
        lines
    }
}

fn compare<T: PartialEq>(
    lines: &mut Vec<String>,
    kind: &str,
    before: &BTreeMap<String, T>,
    now: &BTreeMap<String, T>,
) {
    for (name, was) in before {
        match now.get(name) {
            None => lines.push(format!("{kind} {name} is missing")),
            Some(is) if is != was => lines.push(format!("{kind} {name} was changed")),
            Some(_) => {}
        }
    }
    lines.extend(
        now.keys()
            .filter(|name| !before.contains_key(*name))
            .map(|name| format!("{kind} {name} was added")),
    );
}
