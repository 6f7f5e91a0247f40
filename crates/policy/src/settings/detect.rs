//! The detectors of a policy, with their defaults.

use std::time::Duration;

use crate::address::AddressSet;
use crate::port::PortSet;

/// What a detector does with its evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// An alert event, nothing more.
    Alert,
    /// Drop what is over the threshold, and an alert.
    Limit,
    /// Ban the source, and an alert.
    Ban,
}

/// `[detect.*]`. A detector that is `None` is off.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Detect {
    /// N denied packets of one source.
    pub blocked: Option<Blocked>,
    /// Packets a second of one source.
    pub rate: Option<RateLimit>,
    /// N content-rule hits of one source.
    pub payload: Option<PayloadHits>,
    /// Ports and addresses of one source that turn out closed.
    pub scan: Option<Scan>,
    /// Half-open TCP connections a second.
    pub syn_flood: Option<SynFlood>,
    /// ICMP packets a second of one source.
    pub icmp_flood: Option<PacketFlood>,
    /// UDP packets a second of one source, in flows that nobody answered.
    pub udp_flood: Option<PacketFlood>,
    /// Short connections of one source to one service.
    pub brute: Option<Brute>,
}

impl Detect {
    /// Those that judge what content rules look into; without those that need to see every flow.
    #[must_use]
    pub fn of_content(self) -> Self {
        Self {
            blocked: self.blocked,
            rate: self.rate,
            payload: self.payload,
            ..Self::default()
        }
    }

    /// The detectors of a policy that says nothing about them.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            blocked: Some(Blocked::default()),
            rate: Some(RateLimit::default()),
            payload: Some(PayloadHits::default()),
            scan: Some(Scan::default()),
            syn_flood: Some(SynFlood::default()),
            icmp_flood: Some(PacketFlood::icmp()),
            udp_flood: Some(PacketFlood::udp()),
            brute: Some(Brute::default()),
        }
    }
}

/// `[detect.blocked]`: denied packets of one source within a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Denied packets that make a source an offender (at least 1).
    pub packets: u32,
    /// The window they are counted in.
    pub window: Duration,
    /// What to do then.
    pub response: Response,
    /// How long a ban lasts.
    pub ban: Duration,
    /// Sources that are not counted.
    pub ignore: AddressSet,
}

impl Default for Blocked {
    fn default() -> Self {
        Self {
            packets: 50,
            window: Duration::from_secs(60),
            response: Response::Ban,
            ban: Duration::from_secs(600),
            ignore: AddressSet::default(),
        }
    }
}

/// `[detect.rate]`: packets a second of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Packets in each `window` that are still no offence (at least 1).
    pub packets: u32,
    /// The window.
    pub window: Duration,
    /// Whether packets of established flows count too.
    pub established: bool,
    /// What to do then.
    pub response: Response,
    /// How long a ban lasts.
    pub ban: Duration,
    /// Sources that are not counted.
    pub ignore: AddressSet,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            packets: 1_000,
            window: Duration::from_secs(1),
            established: false,
            response: Response::Ban,
            ban: Duration::from_secs(600),
            ignore: AddressSet::default(),
        }
    }
}

/// `[detect.payload]`: content-rule hits of one source within a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadHits {
    /// Hits that make a source an offender (at least 1).
    pub hits: u32,
    /// The window they are counted in.
    pub window: Duration,
    /// What to do then.
    pub response: Response,
    /// How long a ban lasts.
    pub ban: Duration,
    /// Sources that are not counted.
    pub ignore: AddressSet,
}

impl Default for PayloadHits {
    fn default() -> Self {
        Self {
            hits: 3,
            window: Duration::from_secs(600),
            response: Response::Ban,
            ban: Duration::from_secs(600),
            ignore: AddressSet::default(),
        }
    }
}

/// `[detect.scan]`: ports and addresses that one source finds closed, denied or silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Distinct ports of one target within `window` that make a source an offender (1 to [`Scan::MOST`]).
    pub ports: u32,
    /// The window of `ports` and `hosts`.
    pub window: Duration,
    /// Distinct ports of one target within `slow_window` (1 to [`Scan::MOST`]).
    pub slow_ports: u32,
    /// The window of `slow_ports`, longer than `window`.
    pub slow_window: Duration,
    /// Distinct local addresses within `window` (1 to [`Scan::MOST`]).
    pub hosts: u32,
    /// What to do then.
    pub response: Response,
    /// How long a ban lasts.
    pub ban: Duration,
    /// Sources that are not counted.
    pub ignore: AddressSet,
}

impl Scan {
    /// Most ports or addresses that a threshold may ask for: each is remembered for each source.
    pub const MOST: u32 = 256;
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            ports: 5,
            window: Duration::from_secs(10),
            slow_ports: 20,
            slow_window: Duration::from_secs(3_600),
            hosts: 10,
            response: Response::Ban,
            ban: Duration::from_secs(600),
            ignore: AddressSet::default(),
        }
    }
}

/// `[detect.syn_flood]`: TCP connections that were begun and not completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynFlood {
    /// Half-open connections of one source in each `window` that are still no offence (at least 1).
    pub half_open: u32,
    /// Those of all sources together; beyond, it is told, and nothing is dropped and nobody banned for it.
    pub host_half_open: u32,
    /// The window.
    pub window: Duration,
    /// What to do then.
    pub response: Response,
    /// How long a ban lasts.
    pub ban: Duration,
    /// Sources that are not counted.
    pub ignore: AddressSet,
}

impl Default for SynFlood {
    fn default() -> Self {
        Self {
            half_open: 200,
            host_half_open: 5_000,
            window: Duration::from_secs(1),
            response: Response::Limit,
            ban: Duration::from_secs(600),
            ignore: AddressSet::default(),
        }
    }
}

/// `[detect.icmp_flood]` and `[detect.udp_flood]`: packets of one source within a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketFlood {
    /// Packets in each `window` that are still no offence (at least 1).
    pub packets: u32,
    /// The window.
    pub window: Duration,
    /// What to do then.
    pub response: Response,
    /// How long a ban lasts.
    pub ban: Duration,
    /// Sources that are not counted.
    pub ignore: AddressSet,
}

impl PacketFlood {
    /// 100 ICMP packets a second.
    #[must_use]
    pub fn icmp() -> Self {
        Self::each_second(100)
    }

    /// 2,000 UDP packets a second.
    #[must_use]
    pub fn udp() -> Self {
        Self::each_second(2_000)
    }

    fn each_second(packets: u32) -> Self {
        Self {
            packets,
            window: Duration::from_secs(1),
            response: Response::Limit,
            ban: Duration::from_secs(600),
            ignore: AddressSet::default(),
        }
    }
}

/// `[detect.brute]`: short connections of one source to one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brute {
    /// Connections within `window` that make a source an offender (at least 1).
    pub connections: u32,
    /// The window they begin in.
    pub window: Duration,
    /// A connection that ends before it is this old counts, as one that is reset.
    pub shorter_than: Duration,
    /// The services that are watched.
    pub ports: PortSet,
    /// What to do then.
    pub response: Response,
    /// How long a ban lasts.
    pub ban: Duration,
    /// Sources that are not counted.
    pub ignore: AddressSet,
}

impl Brute {
    /// Ports that are not watched unless the policy names them, as clients of theirs connect anew for each question and guess
    /// nothing: mail exchange, DNS, the web and what speaks like it, data bases, caches, queues and monitoring. In order.
    pub const SHORT_BY_NATURE: &[(u16, u16)] = &[
        (25, 25),
        (53, 53),
        (80, 81),
        (443, 443),
        (853, 853),
        (1883, 1883),
        (3000, 3000),
        (3128, 3128),
        (3306, 3306),
        (4949, 4949),
        (5432, 5432),
        (5666, 5666),
        (6379, 6379),
        (8000, 8000),
        (8008, 8008),
        (8080, 8081),
        (8088, 8088),
        (8443, 8443),
        (8883, 8883),
        (8888, 8888),
        (9000, 9000),
        (9090, 9100),
        (9200, 9200),
        (10050, 10051),
        (11211, 11211),
        (27017, 27017),
    ];
}

impl Default for Brute {
    fn default() -> Self {
        Self {
            connections: 10,
            window: Duration::from_secs(60),
            shorter_than: Duration::from_secs(10),
            ports: all_but(Self::SHORT_BY_NATURE),
            response: Response::Ban,
            ban: Duration::from_secs(600),
            ignore: AddressSet::default(),
        }
    }
}

/// Every port that is in none of the ranges, which stand in order.
fn all_but(ranges: &[(u16, u16)]) -> PortSet {
    let after = |place: usize| match place {
        0 => Some(0),
        _ => ranges[place - 1].1.checked_add(1),
    };
    let before = |place: usize| match ranges.get(place) {
        None => Some(u16::MAX),
        Some(&(first, _)) => first.checked_sub(1),
    };
    let gaps = (0..=ranges.len()).filter_map(|place| after(place).zip(before(place)));
    PortSet::from_ranges(gaps.filter(|(first, last)| first <= last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brute_watches_logins_and_not_what_is_short_by_nature() {
        let ports = Brute::default().ports;
        for (port, watched) in [
            (0, true),
            (22, true),
            (25, false),
            (80, false),
            (82, true),
            (443, false),
            (2222, true),
            (3389, true),
            (27_017, false),
            (65_535, true),
        ] {
            assert_eq!(ports.matches(Some(port)), watched, "{port}");
        }
        let all: Vec<u16> = (0..=u16::MAX)
            .filter(|&port| !ports.matches(Some(port)))
            .collect();
        let named: Vec<u16> = Brute::SHORT_BY_NATURE
            .iter()
            .flat_map(|&(first, last)| first..=last)
            .collect();
        assert_eq!(all, named);
    }
}
