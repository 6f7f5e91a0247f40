//! Which names the addresses that clients talk to were resolved from: for people who read flows. Nothing is decided by it, as
//! whoever answers in a name server's place can put any name here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use policy::address::{IPV4_FIRST, IPV4_LAST};
use policy::{Timestamp, address_key};
use wire::dns::{Message, Name, RecordData, RecordType};

use crate::bounded::Bounded;

/// Entries, two for each address of each client; of a few, the one whose answer is the oldest makes room.
const CEILING: u32 = 65_536;
/// Answers of one response that are taken.
const ANSWERS: usize = 64;
/// Clients use an address for longer than its answer may be kept, and for no longer than a day without asking again.
const SHORTEST: Duration = Duration::from_secs(3_600);
const LONGEST: Duration = Duration::from_secs(86_400);

/// What name servers have answered, by client and address.
#[derive(Debug)]
pub(crate) struct Resolved {
    entries: Bounded<Entry>,
}

#[derive(Debug)]
struct Entry {
    client: u128,
    address: u128,
    name: Arc<str>,
    since: Timestamp,
    until: Timestamp,
}

impl Resolved {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            entries: Bounded::new(CEILING, seed),
        }
    }

    /// A name server has answered a client.
    pub(crate) fn learn(&mut self, client: u128, message: &[u8], room: &mut Name, now: Timestamp) {
        let Ok(message) = Message::parse(message) else {
            return;
        };
        if !message.is_response() || message.rcode().0 != 0 || message.question_count() != 1 {
            return;
        }
        let asks_for_address = |asked| matches!(asked, RecordType::A | RecordType::AAAA);
        match message.question(room) {
            Ok(Some((asked, _))) if asks_for_address(asked) && !room.as_bytes().is_empty() => {}
            Ok(_) | Err(_) => return,
        }
        let mut shared: Option<Arc<str>> = None;
        for record in message.answers().take(ANSWERS) {
            let Ok(record) = record else {
                return;
            };
            let address = match record.data {
                RecordData::A(address) => IpAddr::V4(address),
                RecordData::Aaaa(address) => IpAddr::V6(address),
                RecordData::Cname(_) | RecordData::Opt(_) | RecordData::Other(_) => continue,
            };
            let name =
                shared.get_or_insert_with(|| room.as_bytes().escape_ascii().to_string().into());
            let kept = Duration::from_secs(record.ttl.into()).clamp(SHORTEST, LONGEST);
            self.put(client, address_key(address), name, now, kept);
        }
    }

    /// For the client, and for whoever has no answer of its own.
    fn put(
        &mut self,
        client: u128,
        address: u128,
        name: &Arc<str>,
        now: Timestamp,
        kept: Duration,
    ) {
        let kept = u64::try_from(kept.as_nanos()).unwrap_or(u64::MAX);
        let until = Timestamp::from_nanos(now.as_nanos().saturating_add(kept));
        for place in [key(client, address), key(ANYBODY, address)] {
            let fresh = || Entry {
                client,
                address,
                name: Arc::clone(name),
                since: now,
                until,
            };
            let entry = (self.entries).entry(place, fresh, |entry| entry.until.as_nanos());
            if (entry.client, entry.address) == (client, address) && entry.name == *name {
                entry.until = until;
            } else {
                *entry = fresh();
            }
        }
    }

    /// The name that a client had resolved to an address when it began a flow there. A client that asks over the one family and
    /// begins flows over the other is not known to be the same: for it the name counts that was asked for last over the other.
    pub(crate) fn name(&self, client: u128, address: u128, began: Timestamp) -> Option<Arc<str>> {
        let is_then = |entry: &&Entry| {
            entry.address == address && (entry.since..=entry.until).contains(&began)
        };
        let own = self.entries.get(key(client, address)).filter(is_then);
        let own = own.filter(|entry| entry.client == client);
        let last = || {
            let last = self.entries.get(key(ANYBODY, address)).filter(is_then);
            last.filter(|entry| is_ipv4(entry.client) != is_ipv4(client))
        };
        own.or_else(last).map(|entry| Arc::clone(&entry.name))
    }
}

/// No client: the entry of an address by itself.
const ANYBODY: u128 = 0;

fn is_ipv4(key: u128) -> bool {
    (IPV4_FIRST..=IPV4_LAST).contains(&key)
}

/// Two pairs may have one key: the later of them counts.
fn key(client: u128, address: u128) -> u128 {
    client.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) ^ address
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A response to a question for an A record of `a.example`, by way of a CNAME, with two addresses.
    fn response(rcode: u8, ttl: u8) -> Vec<u8> {
        let mut bytes = vec![0, 7, 0x81, 0x80 | rcode, 0, 1, 0, 3, 0, 0, 0, 0];
        bytes.extend(b"\x01A\x07example\0\0\x01\0\x01");
        bytes.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, ttl, 0, 4, 1, b'b', 0xc0, 14]);
        for last in [1, 2] {
            bytes.extend([0xc0, 39, 0, 1, 0, 1, 0, 0, 0, ttl, 0, 4, 192, 0, 2, last]);
        }
        bytes
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + seconds)
    }

    fn v4(text: &str) -> u128 {
        address_key(text.parse().expect("an address"))
    }

    #[test]
    fn what_was_asked_for_is_the_name_for_the_client_that_asked() {
        let mut resolved = Resolved::new(3);
        let (client, mut room) = (v4("10.0.0.1"), Name::default());
        resolved.learn(client, &response(0, 30), &mut room, at(10));
        for (who, address, began, expected) in [
            (client, "192.0.2.1", 10, Some("a.example")),
            (client, "192.0.2.2", 3_610, Some("a.example")),
            (client, "192.0.2.2", 3_611, None),
            (client, "192.0.2.1", 9, None),
            (client, "192.0.2.3", 10, None),
            (v4("10.0.0.2"), "192.0.2.1", 10, None),
            // Perhaps the same client over the other family.
            (v4("2001:db8::1"), "192.0.2.1", 10, Some("a.example")),
        ] {
            let name = resolved.name(who, v4(address), at(began));
            assert_eq!(name.as_deref(), expected, "{address} {began}");
        }
        resolved.learn(client, &response(0, 30), &mut room, at(3_000));
        assert!(
            resolved.name(client, v4("192.0.2.1"), at(20)).is_some(),
            "asked again"
        );
        assert!(resolved.name(client, v4("192.0.2.1"), at(6_000)).is_some());
    }

    #[test]
    fn what_is_no_answer_teaches_nothing() {
        let mut resolved = Resolved::new(3);
        let (client, mut room) = (v4("10.0.0.1"), Name::default());
        let whole = response(0, 30);
        let mut question = whole.clone();
        question[2] &= 0x7f;
        resolved.learn(client, &response(3, 30), &mut room, at(10));
        resolved.learn(client, &question, &mut room, at(10));
        assert_eq!(resolved.name(client, v4("192.0.2.1"), at(10)), None);
        // What is cut teaches what it holds.
        for cut in 0..whole.len() {
            resolved.learn(client, &whole[..cut], &mut room, at(10));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut resolved = Resolved::new(3);
        let name: Arc<str> = "a.example".into();
        for client in 0..100_000 {
            resolved.put(client, 1, &name, at(client as u64), SHORTEST);
        }
        assert_eq!(resolved.entries.len(), CEILING as usize);
        assert!(resolved.name(99_999, 1, at(99_999)).is_some());
    }
}
