//! Guessing at a login: one source comes to one service again and again, and each time is gone at once.
//!
//! Only connections with a completed handshake count, so nobody can be accused in another's name.

use std::hash::BuildHasher as _;
use std::net::IpAddr;

use foldhash::fast::FixedState;
use policy::{Direction, Timestamp, address_key};
use wire::FiveTuple;

use super::threshold::Threshold;
use crate::ban::Evidence;
use crate::clock;

/// Connections of each source to each service.
#[derive(Debug)]
pub(super) struct Brute {
    threshold: Threshold,
    hashers: [FixedState; 2],
}

/// A TCP connection that was completed, and has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) tuple: FiveTuple,
    pub(crate) direction: Direction,
    pub(crate) began: Timestamp,
    /// By a RST.
    pub(crate) was_reset: bool,
}

impl Brute {
    pub(super) fn new(settings: &policy::Brute, ceiling: u32, seed: u64) -> Self {
        Self {
            threshold: Threshold::new(settings.connections, settings.window, ceiling, seed),
            hashers: [seed, !seed].map(FixedState::with_seed),
        }
    }

    /// Counts a connection of a source, as it is counted, if it is one of those that count.
    pub(super) fn ended(
        &mut self,
        settings: &policy::Brute,
        connection: &Connection,
        source: u128,
        now: Timestamp,
    ) -> Option<Evidence> {
        let Connection {
            tuple,
            began,
            was_reset,
            ..
        } = connection;
        let age = clock::age(*began, now)?;
        let is_short = age < settings.shorter_than || (*was_reset && age < settings.window);
        if !is_short || !settings.ports.matches(tuple.destination_port) {
            return None;
        }
        let key = self.key(source, tuple.destination, tuple.destination_port);
        // A completed handshake shows who came.
        self.threshold.count(key, *tuple, true, now)
    }

    /// One number for a source and a service: 128 bits of hash, which do not meet by accident.
    fn key(&self, source: u128, service: IpAddr, port: Option<u16>) -> u128 {
        let what = (source, address_key(service), port);
        let [high, low] = [0, 1].map(|place| u128::from(self.hashers[place].hash_one(what)));
        high << 64 | low
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "constants")]
    use std::time::Duration;

    use super::*;

    /// Connections of `(source, port, began, lasted, reset)` in ms; the place of the first offence.
    fn run(
        connections: impl IntoIterator<Item = (&'static str, u16, u64, u64, bool)>,
    ) -> Option<usize> {
        let settings = policy::Brute::default();
        let mut brute = Brute::new(&settings, 100, 1);
        let at = |millis: u64| Timestamp::from_micros(1_000_000_000 + millis * 1_000);
        connections.into_iter().enumerate().find_map(
            |(place, (source, port, began, lasted, was_reset))| {
                let connection = Connection {
                    tuple: FiveTuple {
                        source: source.parse().unwrap(),
                        destination: "2001:db8::1".parse().unwrap(),
                        protocol: 6,
                        source_port: Some(40_000),
                        destination_port: Some(port),
                    },
                    direction: Direction::In,
                    began: at(began),
                    was_reset,
                };
                let counted = crate::source::subnet_of(address_key(source.parse().unwrap()));
                let evidence = brute.ended(&settings, &connection, counted, at(began + lasted))?;
                assert!(evidence.proven && evidence.window == Duration::from_secs(60));
                Some(place + 1)
            },
        )
    }

    #[test]
    fn what_is_guessing_and_when() {
        const A: &str = "2001:db8:5::1";
        assert_eq!(
            run((0..20).map(|n| (A, 22, n * 3_000, 2_000, false))),
            Some(10)
        );
        assert_eq!(
            run((0..60).map(|n| (A, 22, n * 7_000, 2_000, false))),
            None,
            "slowly"
        );
        assert_eq!(
            run((0..20).map(|n| (A, 22, n, 10_000, false))),
            None,
            "long ones"
        );
        assert_eq!(
            run((0..20).map(|n| (A, 22, n, 20_000, true))),
            Some(10),
            "reset"
        );
        assert_eq!(
            run((0..20).map(|n| (A, 22, n, 90_000, true))),
            None,
            "after a while"
        );
        assert_eq!(
            run((0..500).map(|n| (A, 443, n, 10, false))),
            None,
            "the web"
        );
        assert_eq!(
            run((0..500).map(|n| (A, 25_565, n, 10, false))),
            None,
            "the refreshes of a list of game servers"
        );
        let logins = [
            21, 22, 23, 110, 143, 445, 465, 587, 993, 995, 1433, 3389, 5900,
        ];
        let services = (0..117).map(|n| (A, logins[n % 13], n as u64, 10, false));
        assert_eq!(run(services), None, "nine to each of many services");
        let rotating = ["2001:db8:5::1", "2001:db8:5::2", "2001:db8:5::3"];
        let rotated =
            (0..20_u16).map(|n| (rotating[usize::from(n) % 3], 22, u64::from(n), 10, false));
        assert_eq!(run(rotated), Some(10), "one /64 is one source");
        let botnet = ["2001:db8:5::1", "2001:db8:6::1", "2001:db8:7::1"];
        let apart = (0..27_u16).map(|n| (botnet[usize::from(n) % 3], 22, u64::from(n), 10, false));
        assert_eq!(run(apart), None, "nine of each");
    }
}
