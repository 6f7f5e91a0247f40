//! Bans that the kernel makes by itself, for detectors that count packets and for `ban` rules; and how user space learns of them.
//!
//! The copy of the packet that made the ban says it within a millisecond, but copies are limited and can be lost, in a flood above
//! all: the first packets of a banned source are its last that get anywhere, so that there is no second word. Hence the kernel notes
//! each source that it bans, with why, in a map beside the ban sets, from which user space takes it at its leisure. The map holds
//! what nobody has taken yet and nothing else, so that reading it costs nothing where there is nothing to learn, however many
//! bans there are. (Netlink tells of elements that transactions make, and not of those that packets make.)

use std::rc::Rc;
use std::time::Duration;

use policy::RuleId;

use super::TABLE;
use super::element::{self, key_bytes, key_of, patiently};
use super::list::{Family, Side};
use super::message::{INET, attribute, begin, transaction};
use super::rate::duration_text;
use super::state::elements;
use super::table::Set;
use super::writer::Writer;
use crate::datapath::{DatapathError, OwnBan};
use crate::netlink::{Builder, NetlinkError, Socket};
use crate::tag::{Cause, LogTag, Outcome};

/// What the names of the maps begin with.
pub(super) const BEGINS: &str = "banned_by_";
/// The limit of what is logged of them. Of its own: a flood that is logged, too, would use up any other.
const LIMIT: &str = "log_bans";
/// Elements in one message: an attribute holds 65,535 bytes.
const EACH: usize = 500;
/// How the detectors stand in the map. Rules stand by their numbers, of which no policy has so many.
const DETECTORS: [(u32, Cause); 4] = [
    (u32::MAX, Cause::Rate),
    (u32::MAX - 1, Cause::SynFlood),
    (u32::MAX - 2, Cause::IcmpFlood),
    (u32::MAX - 3, Cause::UdpFlood),
];

/// The cause as the map has it; `None` for one that bans nobody.
fn number_of(cause: Cause) -> Option<u32> {
    match cause {
        Cause::Rule(rule) => Some(rule.0),
        other => {
            let mut detectors = DETECTORS.iter();
            detectors.find_map(|(number, cause)| (*cause == other).then_some(*number))
        }
    }
}

fn cause_of(number: u32) -> Cause {
    let detector = DETECTORS.iter().find(|(known, _)| *known == number);
    detector.map_or(Cause::Rule(RuleId(number)), |(_, cause)| *cause)
}

fn map(family: Family) -> String {
    format!("{BEGINS}{}", family.suffix())
}

/// Rules that count, ban the source for a time and refuse: one address for IPv4, the `/64` for IPv6. Who shares a `/64` with a
/// protected address is left to the engine, which bans him alone where it counts him alone.
pub(super) fn rules(writer: &mut Writer<'_>, duration: Duration, cause: Cause) -> Vec<String> {
    let number = number_of(cause).filter(|_| !writer.observes());
    let Some(number) = number else {
        return writer.refusal(Outcome::Ban, cause);
    };
    writer.bans_by_itself = true;
    let mut rules = vec![writer.table.counter(&cause.counter())];
    let timeout = duration_text(duration);
    let log = writer.log(LIMIT, LogTag::new(Outcome::Ban, cause));
    let verdict = writer.drop();
    for family in Family::BOTH {
        let unbannable = Rc::clone(&writer.unbannable);
        let lists = &mut writer.lists;
        let exclusions = lists.exclusions(&unbannable, Side::Source, family, &mut writer.table);
        let Some(unless) = exclusions else {
            continue;
        };
        let (set, key) = (
            element::set_of_sources(family).name,
            family.counted_source(),
        );
        // A full set ends the rule, as a used-up limit does: then what stands behind refuses the packet.
        rules.push(format!(
            "iif != \"lo\" {} add @{set} {{ {key} timeout {timeout} }} add @{} {{ {key} : {number:#x} }} {log} {verdict}",
            unless.join(" "),
            map(family),
        ));
    }
    rules.extend(writer.refusal_uncounted(Outcome::Ban, cause));
    rules
}

/// Writes the maps and the limit, where [`rules`] need them.
pub(super) fn write(writer: &mut Writer<'_>) {
    if !writer.bans_by_itself {
        return;
    }
    writer.table.limit(LIMIT, "1000/second burst 1000 packets");
    for family in Family::BOTH {
        writer.table.set(Set {
            name: map(family),
            keyword: "map",
            attributes: vec![
                format!("type {} : mark", family.key_type()),
                format!("size {}", writer.plan.ban.capacity.max(1)),
                "flags dynamic".to_owned(),
            ],
            elements: None,
        });
    }
}

/// Takes what the maps hold, of which the ban still stands; also the number of transactions made.
pub(super) fn take(socket: &mut Socket) -> Result<(Vec<OwnBan>, u32), DatapathError> {
    let (mut bans, mut made) = (Vec::new(), 0);
    for family in Family::BOTH {
        let noted = match patiently(|| read(socket, family)) {
            // The plan in force bans nobody by itself, or there is none.
            Err(DatapathError::NotApplied) => continue,
            noted => noted?,
        };
        if noted.is_empty() {
            continue;
        }
        let keys: Vec<u128> = noted.iter().map(|(key, _)| *key).collect();
        let held = element::held_of(socket, element::set_of_sources(family), &keys)?;
        transaction(socket, |batch| delete(batch, family, &keys)).map_err(element::error)?;
        made += 1;
        let causes: std::collections::HashMap<u128, Cause> = noted.into_iter().collect();
        bans.extend(held.into_iter().filter_map(|held| {
            let (key, _) = policy::address::prefix_range(held.prefix);
            let cause = *causes.get(&key)?;
            Some(OwnBan { held, cause })
        }));
    }
    Ok((bans, made))
}

fn read(socket: &mut Socket, family: Family) -> Result<Vec<(u128, Cause)>, NetlinkError> {
    let mut noted = Vec::new();
    elements(socket, &map(family), |element| {
        let value = |kind| {
            let found = element.get(kind)?;
            found.nested().get(attribute::DATA_VALUE)
        };
        let key = value(attribute::ELEMENT_KEY).and_then(|key| key_of(family, key.value));
        // A mark is in the byte order of the host.
        let number = value(attribute::ELEMENT_DATA)
            .and_then(|data| Some(u32::from_ne_bytes(*data.value.first_chunk()?)));
        noted.extend(key.zip(number.map(cause_of)));
    })?;
    Ok(noted)
}

/// Nobody else takes elements out, and they do not time out: all of them are there.
fn delete(builder: &mut Builder, family: Family, keys: &[u128]) {
    for part in keys.chunks(EACH) {
        begin(builder, libc::NFT_MSG_DELSETELEM, libc::NLM_F_ACK, INET)
            .string(attribute::LIST_TABLE, TABLE)
            .string(attribute::LIST_SET, &map(family))
            .nest(attribute::LIST_ELEMENTS, |list| {
                for key in part {
                    list.nest(attribute::LIST_ELEMENT, |entry| {
                        entry.nest(attribute::ELEMENT_KEY, |written| {
                            written.bytes(attribute::DATA_VALUE, &key_bytes(family, *key));
                        });
                    });
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_that_bans_reads_back() {
        let rules = [0, 7, 100_000].map(|number| Cause::Rule(RuleId(number)));
        let detectors = DETECTORS.iter().map(|(_, cause)| *cause);
        for cause in rules.into_iter().chain(detectors) {
            assert_eq!(number_of(cause).map(cause_of), Some(cause));
        }
        assert_eq!(number_of(Cause::SynFloodOfAll), None);
    }
}
