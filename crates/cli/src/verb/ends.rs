//! On whose host a capture was made, as far as its packets show it: the address that most of them come from or go to.
//!
//! A guess for a person to take or to leave. Nothing is judged by it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use kernel::source::Captured;
use wire::Frame;

use crate::screen::several;

/// Packets that are looked at: enough to know the host by, and a bound for the addresses that are kept.
const ENOUGH: u64 = 100_000;

/// Addresses of one family that are told.
const TOLD: usize = 2;

/// The addresses at the ends of the packets.
#[derive(Default)]
pub(super) struct Ends {
    counts: HashMap<IpAddr, u64>,
    packets: u64,
    is_directed: bool,
}

impl Ends {
    /// Takes a packet into account.
    pub(super) fn see(&mut self, captured: &Captured<'_>) {
        if captured.direction.is_some() {
            self.is_directed = true;
        }
        if self.is_directed || self.packets == ENOUGH {
            return;
        }
        let Some(link) = captured.link else { return };
        // The addresses tell something in a packet whose checksum was never filled in, too.
        if let Ok(Frame::Ip(packet)) =
            wire::parse_trusting_checksums(link, captured.bytes, captured.wire_len)
        {
            self.count(packet.source(), packet.destination());
        }
    }

    fn count(&mut self, source: IpAddr, destination: IpAddr) {
        self.packets += 1;
        *self.counts.entry(source).or_default() += 1;
        if destination != source {
            *self.counts.entry(destination).or_default() += 1;
        }
    }

    /// What to say to somebody who did not name the host's own addresses; `None` when the capture tells in from out itself, or
    /// holds no packets.
    pub(super) fn hint(&self) -> Option<String> {
        if self.is_directed {
            return None;
        }
        let mut likely = self.likely(IpAddr::is_ipv4);
        likely.extend(self.likely(IpAddr::is_ipv6));
        if likely.is_empty() {
            // None stands out among many.
            likely = self.ranked(|_| true);
            likely.truncate(1);
        }
        if likely.is_empty() {
            return None;
        }
        let named: Vec<String> = likely
            .iter()
            .map(|(address, count)| format!("{address} (an end of {count})"))
            .collect();
        Some(format!(
            "nothing tells in from out, so all flows count as inbound, and the host itself can be denied and banned; name it with \
             --local ADDRESS: by {} it looks like {}",
            several(self.packets, "packet"),
            named.join(" or ")
        ))
    }

    /// The address of one family that is an end of most packets, and those that are of nearly as many, at most [`TOLD`]; none when
    /// hardly any packet is of this family.
    fn likely(&self, is_family: fn(&IpAddr) -> bool) -> Vec<(IpAddr, u64)> {
        let mut ranked = self.ranked(is_family);
        let most = ranked.first().map_or(0, |&(_, count)| count);
        if most * 10 < self.packets {
            return Vec::new();
        }
        // The two ends of one conversation are ends of the same packets.
        ranked.retain(|&(_, count)| count * 10 >= most * 9);
        ranked.truncate(TOLD);
        ranked
    }

    fn ranked(&self, is_family: fn(&IpAddr) -> bool) -> Vec<(IpAddr, u64)> {
        let mut ranked: Vec<(IpAddr, u64)> = self
            .counts
            .iter()
            .filter(|(address, _)| is_family(address) && may_be_own(address))
            .map(|(address, count)| (*address, *count))
            .collect();
        ranked.sort_by_key(|&(address, count)| (Reverse(count), address));
        ranked
    }
}

fn may_be_own(address: &IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_multicast() || address.is_unspecified() || is_broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(packets: &[(&str, &str, u64)]) -> Ends {
        let mut ends = Ends::default();
        for (source, destination, times) in packets {
            for _ in 0..*times {
                let [source, destination] = [source, destination]
                    .map(|text| text.parse().expect("the tables below hold addresses"));
                ends.count(source, destination);
            }
        }
        ends
    }

    #[test]
    fn the_host_is_an_end_of_most_packets() {
        for (packets, likely) in [
            (
                &[
                    ("10.0.0.1", "192.0.2.1", 5),
                    ("192.0.2.1", "10.0.0.2", 5),
                    ("10.0.0.3", "255.255.255.255", 99),
                ][..],
                Some("by 109 packets it looks like 10.0.0.3 (an end of 99)"),
            ),
            (
                &[("10.0.0.1", "192.0.2.1", 5), ("192.0.2.1", "10.0.0.2", 5)],
                Some("looks like 192.0.2.1 (an end of 10)"),
            ),
            // Either may be it.
            (
                &[("10.0.0.1", "192.0.2.1", 5)],
                Some("looks like 10.0.0.1 (an end of 5) or 192.0.2.1 (an end of 5)"),
            ),
            // A host has addresses of both families.
            (
                &[
                    ("10.0.0.1", "192.0.2.1", 3),
                    ("10.0.0.2", "192.0.2.1", 3),
                    ("2001:db8::1", "2001:db8::2", 2),
                    ("2001:db8::1", "2001:db8::3", 2),
                    ("2001:db8::1", "ff02::1", 1),
                ],
                Some("192.0.2.1 (an end of 6) or 2001:db8::1 (an end of 5)"),
            ),
            (&[("0.0.0.0", "255.255.255.255", 5)], None),
            (&[], None),
        ] {
            let hint = ends(packets).hint();
            assert_eq!(hint.is_some(), likely.is_some(), "{hint:?}");
            assert!(
                likely.is_none_or(|likely| hint.as_deref().unwrap_or("").ends_with(likely)),
                "{hint:?} does not end with {likely:?}"
            );
        }
    }
}
