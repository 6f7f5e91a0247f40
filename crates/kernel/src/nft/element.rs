//! Bans as set elements, over netlink: some 50 µs each, where an `nft` process takes 5 ms.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use policy::address::{IPV4_FIRST, prefix_range};
use policy::key_address;

use crate::datapath::{DatapathError, HeldBan};
use crate::netlink::{Attributes, Builder, NetlinkError, Socket};

use super::TABLE;
use super::cover::{self, Change, Held};
use super::list::Family;
use super::message::{INET, INTERVAL_END, attribute, begin, transaction};
use super::shield::{BAN_SETS, BanSet};
use super::state::elements;

/// Elements in one message: an attribute holds 65,535 bytes, an element of an interval up to 100.
const EACH: usize = 500;

/// A host (or `/64`) ban, by its key and time left.
type Single = (u128, Option<Duration>);

/// The set that a prefix belongs into.
fn set_of(prefix: IpNet) -> BanSet {
    let family = family_of(prefix);
    let exact = BAN_SETS
        .iter()
        .find(|set| set.family == family && set.bits == Some(prefix.prefix_len()));
    let range = BAN_SETS
        .iter()
        .find(|set| set.family == family && set.bits.is_none());
    // Both families have an interval set.
    exact.or(range).copied().unwrap_or(BAN_SETS[1])
}

fn family_of(prefix: IpNet) -> Family {
    match prefix {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}

/// The bytes of a key in its family.
pub(super) fn key_bytes(family: Family, key: u128) -> Vec<u8> {
    match family {
        Family::V4 => (key as u32).to_be_bytes().to_vec(),
        Family::V6 => key.to_be_bytes().to_vec(),
    }
}

pub(super) fn key_of(family: Family, bytes: &[u8]) -> Option<u128> {
    match family {
        Family::V4 => Some(IPV4_FIRST | u128::from(u32::from_be_bytes(*bytes.first_chunk()?))),
        Family::V6 => Some(u128::from_be_bytes(*bytes.first_chunk()?)),
    }
}

/// The last key of a family.
fn last_key(family: Family) -> u128 {
    match family {
        Family::V4 => policy::address::IPV4_LAST,
        Family::V6 => u128::MAX,
    }
}

/// Milliseconds as the kernel takes them; at least 1, since 0 means for ever.
fn millis(remaining: Duration) -> u64 {
    // Beyond 292 million years the kernel's own arithmetic overflows.
    u64::try_from(remaining.as_millis())
        .unwrap_or(u64::MAX)
        .clamp(1, u64::MAX >> 24)
}

/// An element to be written: key bytes, flags, time left.
struct Element {
    key: Vec<u8>,
    end: bool,
    remaining: Option<Duration>,
}

impl Element {
    fn single(family: Family, (key, remaining): Single) -> Self {
        Self {
            key: key_bytes(family, key),
            end: false,
            remaining,
        }
    }

    /// A range is two elements: its first key, and the first after it where there is one.
    fn range(family: Family, held: &Held) -> Vec<Self> {
        let mut both = vec![Self {
            key: key_bytes(family, held.first),
            end: false,
            remaining: held.remaining,
        }];
        if held.last < last_key(family) {
            both.push(Self {
                key: key_bytes(family, held.last + 1),
                end: true,
                remaining: None,
            });
        }
        both
    }
}

fn write_elements(builder: &mut Builder, message: i32, flags: i32, set: BanSet, list: &[Element]) {
    for part in list.chunks(EACH) {
        begin(builder, message, flags | libc::NLM_F_ACK, INET)
            .string(attribute::LIST_TABLE, TABLE)
            .string(attribute::LIST_SET, set.name)
            .nest(attribute::LIST_ELEMENTS, |list| {
                for element in part {
                    list.nest(attribute::LIST_ELEMENT, |entry| {
                        entry.nest(attribute::ELEMENT_KEY, |key| {
                            key.bytes(attribute::DATA_VALUE, &element.key);
                        });
                        if element.end {
                            entry.be32(attribute::ELEMENT_FLAGS, INTERVAL_END);
                        }
                        if message == libc::NFT_MSG_NEWSETELEM
                            && let Some(remaining) = element.remaining
                        {
                            entry.be64(attribute::ELEMENT_TIMEOUT, millis(remaining));
                        }
                    });
                }
            });
    }
}

fn add(builder: &mut Builder, set: BanSet, list: &[Element]) {
    write_elements(
        builder,
        libc::NFT_MSG_NEWSETELEM,
        libc::NLM_F_CREATE | libc::NLM_F_EXCL,
        set,
        list,
    );
}

fn delete(builder: &mut Builder, set: BanSet, list: &[Element]) {
    write_elements(builder, libc::NFT_MSG_DELSETELEM, 0, set, list);
}

fn time_left(element: Attributes<'_>) -> Option<Duration> {
    let left = element
        .get(attribute::ELEMENT_EXPIRATION)
        .or_else(|| element.get(attribute::ELEMENT_TIMEOUT));
    left.and_then(|left| left.be64()).map(Duration::from_millis)
}

fn read(
    socket: &mut Socket,
    set: BanSet,
) -> Result<Vec<(u128, bool, Option<Duration>)>, NetlinkError> {
    let mut found = Vec::new();
    elements(socket, set.name, |element| {
        let key = element
            .get(attribute::ELEMENT_KEY)
            .and_then(|key| key.nested().get(attribute::DATA_VALUE));
        let flags = element
            .get(attribute::ELEMENT_FLAGS)
            .and_then(|flags| flags.be32())
            .unwrap_or_default();
        if let Some(key) = key.and_then(|key| key_of(set.family, key.value)) {
            found.push((key, flags & INTERVAL_END != 0, time_left(element)));
        }
    })?;
    // The end of one range before the begin of the next at the same key.
    found.sort_unstable_by_key(|&(key, end, _)| (key, !end));
    Ok(found)
}

fn read_ranges(socket: &mut Socket, set: BanSet) -> Result<Vec<Held>, NetlinkError> {
    let marks = read(socket, set)?;
    let ranges = marks
        .iter()
        .enumerate()
        .filter(|(_, (_, end, _))| !end)
        .map(|(at, &(first, _, remaining))| {
            // What ended earlier may have left its end behind; the next mark after a begin is its own.
            let last = marks
                .get(at + 1)
                .map_or(last_key(set.family), |(next, _, _)| next - 1);
            Held {
                first,
                last,
                remaining,
            }
        });
    Ok(ranges.collect())
}

/// Listings that are begun anew because elements changed meanwhile.
pub(super) fn patiently<T>(
    mut read: impl FnMut() -> Result<T, NetlinkError>,
) -> Result<T, DatapathError> {
    let mut result = read();
    for _ in 0..8 {
        match result {
            Err(NetlinkError::Changed) => result = read(),
            done => return done.map_err(error),
        }
    }
    result.map_err(error)
}

pub(super) fn error(why: NetlinkError) -> DatapathError {
    match why.errno() {
        Some(libc::ENOENT) => DatapathError::NotApplied,
        Some(libc::ENFILE) => DatapathError::BansFull,
        _ => DatapathError::Netlink(why),
    }
}

/// Those of these keys that are in a set of single addresses or subnets, with the time that they have left.
pub(super) fn held_of(
    socket: &mut Socket,
    set: BanSet,
    keys: &[u128],
) -> Result<Vec<HeldBan>, DatapathError> {
    /// From so many on it is cheaper to list the set, unless it is very full.
    const FEW: usize = 256;
    let bits = set.bits.unwrap_or_default();
    let held = |key: u128, remaining| {
        let prefix = prefix(key, bits)?;
        Some(HeldBan { prefix, remaining })
    };
    let mut found = Vec::new();
    if keys.len() > FEW {
        let wanted: std::collections::HashSet<u128> = keys.iter().copied().collect();
        let all = patiently(|| read(socket, set))?;
        let wanted = all.into_iter().filter(|(key, ..)| wanted.contains(key));
        found.extend(wanted.filter_map(|(key, _, remaining)| held(key, remaining)));
        return Ok(found);
    }
    for &key in keys {
        let mut builder = Builder::new();
        let one = [Element::single(set.family, (key, None))];
        write_elements(&mut builder, libc::NFT_MSG_GETSETELEM, 0, set, &one);
        let asked = builder.finish().and_then(|request| {
            socket.exchange(&request, |message| {
                let list = message
                    .netfilter()
                    .and_then(|(_, attributes)| attributes.get(attribute::LIST_ELEMENTS));
                let elements = list.iter().flat_map(|list| list.nested());
                let elements = elements.map(|element| element.nested());
                found.extend(elements.filter_map(|element| held(key, time_left(element))));
            })
        });
        match asked {
            // Over, or lifted.
            Err(why) if why.errno() == Some(libc::ENOENT) => {}
            other => other.map_err(error)?,
        }
    }
    Ok(found)
}

/// The set of bans of single sources of a family, as the kernel bans them by itself.
pub(super) fn set_of_sources(family: Family) -> BanSet {
    set_of(engine::source::source_prefix(match family {
        Family::V4 => IpAddr::from([0; 4]),
        Family::V6 => IpAddr::from([0; 16]),
    }))
}

/// All bans that are in force. Sets that another version did not have hold none.
pub(super) fn all(socket: &mut Socket) -> Result<Vec<HeldBan>, DatapathError> {
    let mut bans = Vec::new();
    let mut there = false;
    for set in BAN_SETS {
        match held_in(socket, set) {
            Ok(held) => bans.extend(held),
            Err(DatapathError::NotApplied) => continue,
            Err(why) => return Err(why),
        }
        there = true;
    }
    bans.sort_unstable();
    if there {
        Ok(bans)
    } else {
        Err(DatapathError::NotApplied)
    }
}

fn held_in(socket: &mut Socket, set: BanSet) -> Result<Vec<HeldBan>, DatapathError> {
    if let Some(bits) = set.bits {
        let held = patiently(|| read(socket, set))?;
        let ban = |(key, _, remaining)| {
            Some(HeldBan {
                prefix: prefix(key, bits)?,
                remaining,
            })
        };
        return Ok(held.into_iter().filter_map(ban).collect());
    }
    let mut bans = Vec::new();
    for Held {
        first,
        last,
        remaining,
    } in patiently(|| read_ranges(socket, set))?
    {
        let mut push = |prefix: IpNet| bans.push(HeldBan { prefix, remaining });
        match (key_address(first), key_address(last)) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Ipv4Subnets::new(first, last, 0).for_each(|net| push(net.into()));
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                Ipv6Subnets::new(first, last, 0).for_each(|net| push(net.into()));
            }
            // A range stays within its family.
            _ => {}
        }
    }
    Ok(bans)
}

/// Bans as statements for a script: for sets that are made anew in it.
pub(super) fn script(bans: &[HeldBan]) -> String {
    let mut text = String::new();
    for set in BAN_SETS {
        let elements: Vec<String> = bans
            .iter()
            .filter(|ban| set_of(ban.prefix) == set)
            .map(|ban| {
                let (first, last) = prefix_range(ban.prefix);
                let key = set
                    .family
                    .text(first, if set.bits.is_some() { first } else { last });
                let timeout = ban.remaining.map(super::rate::duration_text);
                timeout.map_or(key.clone(), |timeout| format!("{key} timeout {timeout}"))
            })
            .collect();
        if !elements.is_empty() {
            text.push_str(&format!(
                "add element inet {TABLE} {} {{\n\t{}\n}}\n",
                set.name,
                elements.join(",\n\t")
            ));
        }
    }
    text
}

fn prefix(key: u128, bits: u8) -> Option<IpNet> {
    IpNet::new(key_address(key), bits).ok()
}

/// One ban, the usual case: put in; only if it is there already, put in anew. Returns the number of transactions made.
pub(super) fn ban(
    socket: &mut Socket,
    wanted: IpNet,
    remaining: Option<Duration>,
) -> Result<u32, DatapathError> {
    let set = set_of(wanted);
    if set.bits.is_none() {
        return ban_many(socket, &[(wanted, remaining)]);
    }
    let element = [Element::single(
        set.family,
        (prefix_range(wanted).0, remaining),
    )];
    let fresh = transaction(socket, |batch| add(batch, set, &element));
    match fresh {
        Err(why) if why.errno() == Some(libc::EEXIST) => {}
        other => return other.map(|()| 1).map_err(error),
    }
    let anew = transaction(socket, |batch| {
        delete(batch, set, &element);
        add(batch, set, &element);
    });
    match anew {
        // A full set counts the element twice until the transaction is over.
        Err(why) if why.errno() == Some(libc::ENFILE) => {
            transaction(socket, |batch| delete(batch, set, &element)).map_err(error)?;
            transaction(socket, |batch| add(batch, set, &element))
                .map(|()| 2)
                .map_err(error)
        }
        other => other.map(|()| 1).map_err(error),
    }
}

/// Many bans in one transaction. Returns the number of transactions made.
pub(super) fn ban_many(
    socket: &mut Socket,
    bans: &[(IpNet, Option<Duration>)],
) -> Result<u32, DatapathError> {
    let mut sets: Vec<(BanSet, Vec<Element>, Vec<Element>)> = Vec::new();
    for set in BAN_SETS {
        let wanted = bans.iter().filter(|(prefix, _)| set_of(*prefix) == set);
        if set.bits.is_some() {
            // The last of equal prefixes counts.
            let wanted: std::collections::BTreeMap<u128, Option<Duration>> = wanted
                .map(|&(prefix, remaining)| (prefix_range(prefix).0, remaining))
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let held: std::collections::HashSet<u128> = patiently(|| read(socket, set))?
                .into_iter()
                .map(|(key, ..)| key)
                .collect();
            let out = wanted
                .iter()
                .filter(|(key, _)| held.contains(key))
                .map(|(&key, _)| Element::single(set.family, (key, None)));
            let into = wanted
                .iter()
                .map(|(&key, &remaining)| Element::single(set.family, (key, remaining)));
            sets.push((set, out.collect(), into.collect()));
            continue;
        }
        let wanted: Vec<Held> = wanted
            .map(|&(prefix, remaining)| {
                let (first, last) = prefix_range(prefix);
                Held {
                    first,
                    last,
                    remaining,
                }
            })
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let before = patiently(|| read_ranges(socket, set))?;
        let mut held = before.clone();
        for wanted in wanted {
            held = cover::after(&held, &cover::ban(&held, wanted));
        }
        push_ranges(&mut sets, set, &before, &held);
    }
    if sets.is_empty() {
        return Ok(0);
    }
    commit(socket, &sets).map(|()| 1)
}

/// The difference between what is held and what shall be, as elements.
fn push_ranges(
    sets: &mut Vec<(BanSet, Vec<Element>, Vec<Element>)>,
    set: BanSet,
    before: &[Held],
    after: &[Held],
) {
    let change = Change {
        out: before
            .iter()
            .copied()
            .filter(|held| !after.contains(held))
            .collect(),
        into: after
            .iter()
            .copied()
            .filter(|held| !before.contains(held))
            .collect(),
    };
    if !change.is_empty() {
        let elements = |list: &[Held]| {
            list.iter()
                .flat_map(|held| Element::range(set.family, held))
                .collect()
        };
        sets.push((set, elements(&change.out), elements(&change.into)));
    }
}

fn commit(
    socket: &mut Socket,
    sets: &[(BanSet, Vec<Element>, Vec<Element>)],
) -> Result<(), DatapathError> {
    // A transaction is one datagram. Where it may not be enlarged, the kernel says so when it is too large.
    let _ = nix::sys::socket::setsockopt(
        &*socket,
        nix::sys::socket::sockopt::SndBufForce,
        &(64 << 20),
    );
    transaction(socket, |batch| {
        for (set, out, into) in sets {
            delete(batch, *set, out);
            add(batch, *set, into);
        }
    })
    .map_err(error)
}

/// Lifts a ban. Returns the number of transactions made, 0 when there was nothing to lift.
pub(super) fn unban(socket: &mut Socket, lifted: IpNet) -> Result<u32, DatapathError> {
    let set = set_of(lifted);
    let (first, last) = prefix_range(lifted);
    if set.bits.is_none() {
        let before = patiently(|| read_ranges(socket, set))?;
        let after = cover::after(&before, &cover::lift(&before, first, last));
        let mut sets = Vec::new();
        push_ranges(&mut sets, set, &before, &after);
        return if sets.is_empty() {
            Ok(0)
        } else {
            commit(socket, &sets).map(|()| 1)
        };
    }
    let element = [Element::single(set.family, (first, None))];
    match transaction(socket, |batch| delete(batch, set, &element)) {
        // Either the element or the set is not there; only listing tells which.
        Err(why) if why.errno() == Some(libc::ENOENT) => patiently(|| read(socket, set)).map(|_| 0),
        other => other.map(|()| 1).map_err(error),
    }
}
