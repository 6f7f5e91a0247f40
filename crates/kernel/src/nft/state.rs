//! What the kernel holds of our table, read back over netlink, and how it differs from what was sent.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use crate::netlink::{Attributes, Builder, NetlinkError, Socket};

use super::message::{DORMANT, INET, attribute, generation, list, set_flag, table};
use super::table::Expected;
use super::{Slot, TABLE, meter, shield};

/// Listings that are begun anew because somebody changed the table meanwhile.
const ATTEMPTS: usize = 8;

/// Our table at one generation of the ruleset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) generation: u32,
    /// Of the table (`NFT_TABLE_F_*`). We set none.
    pub(super) flags: u32,
    pub(super) chains: Chains,
    pub(super) sets: BTreeMap<String, SetState>,
    pub(super) objects: BTreeSet<String>,
    /// Of each set that rules fill with buckets, digests of the buckets that they make.
    pub(super) buckets: Buckets,
    /// Where the chains stand; `None` where no version of ours puts them.
    pub(super) slot: Option<Slot>,
}

type Chains = BTreeMap<String, ChainState>;
type Buckets = BTreeMap<String, BTreeSet<u64>>;

/// A chain: how many rules, and a digest of hook and rules. Handles are part of it, which the kernel gives once each: a rule that
/// was taken out and put in again reads the same, but for what its anonymous sets hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ChainState {
    pub(super) rules: usize,
    digest: u64,
}

/// A named set or map: its flags (`NFT_SET_*`) and size, and number and digest of its elements where packets and bans do not
/// change them; its handle is part of the digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SetState {
    pub(super) flags: u32,
    pub(super) size: u32,
    pub(super) elements: usize,
    /// Milliseconds that an element stays that names no time; 0 for good.
    pub(super) timeout: u64,
    digest: u64,
}

impl SetState {
    /// Whether packets or bans fill it.
    pub(super) const fn is_filled_at_run_time(&self) -> bool {
        self.flags & (set_flag::TIMEOUT | set_flag::DYNAMIC) != 0
    }

    /// Whether packets fill it, with what their sources have used up.
    pub(super) const fn is_meter(&self) -> bool {
        self.flags & set_flag::DYNAMIC != 0 && !self.is_map()
    }

    pub(super) const fn is_like(&self, other: &Self) -> bool {
        self.flags == other.flags && self.size == other.size
    }

    pub(super) const fn is_map(&self) -> bool {
        self.flags & set_flag::MAP != 0
    }
}

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Names, flags and sizes: what has to be cleared away.
    Outline,
    /// Rules and elements too.
    Whole,
}

/// Reads our table; `None` when it is not there.
pub(super) fn read(socket: &mut Socket, detail: Detail) -> Result<Option<State>, NetlinkError> {
    for _ in 0..ATTEMPTS {
        let before = generation(socket)?;
        let Some(found) = table(socket, TABLE)? else {
            return Ok(None);
        };
        match read_once(socket, detail) {
            Ok(mut state) if generation(socket)? == before => {
                state.generation = before;
                state.flags = found.flags;
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

fn read_once(socket: &mut Socket, detail: Detail) -> Result<State, NetlinkError> {
    let (chains, slot, buckets) = read_chains(socket, detail)?;
    let mut state = State {
        chains,
        slot,
        buckets,
        sets: read_sets(socket)?,
        ..State::default()
    };
    for (name, set) in &mut state.sets {
        if detail == Detail::Whole && !set.is_filled_at_run_time() {
            read_elements(socket, name, set)?;
        }
    }
    ours(
        socket,
        libc::NFT_MSG_GETOBJ,
        attribute::OBJECT_TABLE,
        |object| {
            state
                .objects
                .insert(text(object, attribute::OBJECT_NAME).to_owned());
        },
    )?;
    Ok(state)
}

/// Lists what of a kind belongs to our table. All kinds have the table's name in the same place, as filter and in answers.
fn ours(
    socket: &mut Socket,
    message: i32,
    table: u16,
    mut each: impl FnMut(Attributes<'_>),
) -> Result<(), NetlinkError> {
    let filter = |builder: &mut Builder| {
        builder.string(table, TABLE);
    };
    list(socket, message, INET, filter, |answer| {
        // Kernels that do not know a filter ignore it.
        if let Some((_, attributes)) = answer.netfilter()
            && text(attributes, table) == TABLE
        {
            each(attributes);
        }
    })
}

fn read_chains(
    socket: &mut Socket,
    detail: Detail,
) -> Result<(Chains, Option<Slot>, Buckets), NetlinkError> {
    let mut chains: BTreeMap<String, (usize, DefaultHasher)> = BTreeMap::new();
    let mut buckets = Buckets::new();
    let mut slot = None;
    ours(
        socket,
        libc::NFT_MSG_GETCHAIN,
        attribute::CHAIN_TABLE,
        |chain| {
            let mut hasher = DefaultHasher::new();
            for part in [
                attribute::CHAIN_HANDLE,
                attribute::CHAIN_HOOK,
                attribute::CHAIN_POLICY,
                attribute::CHAIN_TYPE,
                attribute::CHAIN_FLAGS,
            ] {
                chain.get(part).map(|part| part.value).hash(&mut hasher);
            }
            let name = text(chain, attribute::CHAIN_NAME);
            if name == shield::CHAIN {
                let hook = chain.get(attribute::CHAIN_HOOK);
                let priority =
                    hook.and_then(|hook| hook.nested().get(attribute::HOOK_PRIORITY)?.be32());
                // Written as unsigned, meant as signed.
                let priority = priority.map(u32::cast_signed);
                slot = priority.and_then(|priority| Slot::of(priority, shield::PRIORITY));
            }
            chains.insert(name.to_owned(), (0, hasher));
        },
    )?;
    if detail == Detail::Whole {
        ours(
            socket,
            libc::NFT_MSG_GETRULE,
            attribute::RULE_TABLE,
            |rule| {
                if let Some((rules, hasher)) = chains.get_mut(text(rule, attribute::RULE_CHAIN)) {
                    *rules += 1;
                    for part in [attribute::RULE_HANDLE, attribute::RULE_EXPRESSIONS] {
                        rule.get(part).map(|part| part.value).hash(hasher);
                    }
                }
                note_buckets(rule, &mut buckets);
            },
        )?;
    }
    let finish = |(name, (rules, hasher)): (String, (usize, DefaultHasher))| {
        let digest = hasher.finish();
        (name, ChainState { rules, digest })
    };
    let chains = chains.into_iter().map(finish).collect();
    Ok((chains, slot, buckets))
}

/// Notes the buckets that a rule puts into sets (`update @set { … limit rate … }`).
fn note_buckets(rule: Attributes<'_>, buckets: &mut Buckets) {
    let list = rule.get(attribute::RULE_EXPRESSIONS);
    for expression in list.iter().flat_map(|list| list.nested()) {
        let expression = expression.nested();
        if text(expression, attribute::EXPRESSION_NAME) != "dynset" {
            continue;
        }
        let Some(data) = expression.get(attribute::EXPRESSION_DATA) else {
            continue;
        };
        if let Some(bucket) = data.nested().get(attribute::DYNSET_EXPRESSION) {
            let set = text(data.nested(), attribute::DYNSET_SET_NAME).to_owned();
            let digest = meter::digest(bucket.nested());
            buckets.entry(set).or_default().insert(digest);
        }
    }
}

fn read_sets(socket: &mut Socket) -> Result<BTreeMap<String, SetState>, NetlinkError> {
    let mut sets = BTreeMap::new();
    ours(socket, libc::NFT_MSG_GETSET, attribute::SET_TABLE, |set| {
        let flags = set
            .get(attribute::SET_FLAGS)
            .and_then(|flags| flags.be32())
            .unwrap_or_default();
        if flags & set_flag::ANONYMOUS == 0 {
            let desc = set.get(attribute::SET_DESC);
            let size = desc.and_then(|desc| desc.nested().get(attribute::SET_DESC_SIZE)?.be32());
            let timeout = set.get(attribute::SET_TIMEOUT);
            let timeout = timeout.and_then(|timeout| timeout.be64());
            let mut hasher = DefaultHasher::new();
            let handle = set.get(attribute::SET_HANDLE);
            handle.map(|handle| handle.value).hash(&mut hasher);
            let about = SetState {
                flags,
                size: size.unwrap_or_default(),
                elements: 0,
                timeout: timeout.unwrap_or_default(),
                digest: hasher.finish(),
            };
            sets.insert(text(set, attribute::SET_NAME).to_owned(), about);
        }
    })?;
    Ok(sets)
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
    let filter = |builder: &mut Builder| {
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
        let mut lines: Vec<String> = self.foreign_flags().into_iter().collect();
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

    /// Flags of the table in words. None is ours, whatever an earlier reading says.
    fn foreign_flags(&self) -> Option<String> {
        match self.flags {
            0 => None,
            flags if flags & DORMANT != 0 => {
                Some("the table was made dormant, which filters nothing".to_owned())
            }
            flags => Some(format!(
                "the table has the flags {flags:#x}, which are not ours"
            )),
        }
    }

    /// What changed since an earlier reading: one line each.
    pub(super) fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut lines: Vec<String> = self.foreign_flags().into_iter().collect();
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
