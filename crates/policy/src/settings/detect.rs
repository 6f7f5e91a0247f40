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

/// What a detector measures a source's packets by, whichever it is: more than `packets` in a `window` are an offence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure<'a> {
    /// Packets in each `window` that are still no offence (at least 1).
    pub packets: u32,
    /// The window.
    pub window: Duration,
    /// What to do then.
    pub response: Response,
    /// How long a ban lasts.
    pub ban: Duration,
    /// Sources that are not counted.
    pub ignore: &'a AddressSet,
}

impl<'a> From<&'a RateLimit> for Measure<'a> {
    fn from(set: &'a RateLimit) -> Self {
        Self {
            packets: set.packets,
            window: set.window,
            response: set.response,
            ban: set.ban,
            ignore: &set.ignore,
        }
    }
}

impl<'a> From<&'a PacketFlood> for Measure<'a> {
    fn from(set: &'a PacketFlood) -> Self {
        Self {
            packets: set.packets,
            window: set.window,
            response: set.response,
            ban: set.ban,
            ignore: &set.ignore,
        }
    }
}

impl<'a> From<&'a SynFlood> for Measure<'a> {
    fn from(set: &'a SynFlood) -> Self {
        Self {
            packets: set.half_open,
            window: set.window,
            response: set.response,
            ban: set.ban,
            ignore: &set.ignore,
        }
    }
}

impl SynFlood {
    /// Half-open connections of all sources together: told, and nothing more. Nobody is banned for what anybody can forge, and
    /// to drop what is over would shut out everyone who is new, which is what the flood is for; SYN cookies (`tcp_syncookies`)
    /// answer it.
    #[must_use]
    pub fn of_all(&self) -> Measure<'_> {
        Measure {
            packets: self.host_half_open,
            response: Response::Alert,
            ..Measure::from(self)
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
    /// The services that are watched unless the policy names others: those where somebody who comes and goes guesses at a login. FTP,
    /// SSH, telnet, POP3, IMAP, SMB, mail submission, SQL Server, remote desktops. Of anything else many short connections say
    /// nothing: web pages, games, monitoring, data bases and mail exchange are used like that. In order.
    pub const LOGINS: &[(u16, u16)] = &[
        (21, 23),
        (110, 110),
        (143, 143),
        (445, 445),
        (465, 465),
        (587, 587),
        (990, 990),
        (993, 993),
        (995, 995),
        (1433, 1433),
        (2222, 2222),
        (2323, 2323),
        (3389, 3389),
        (5900, 5910),
    ];
}

impl Default for Brute {
    fn default() -> Self {
        Self {
            connections: 10,
            window: Duration::from_secs(60),
            shorter_than: Duration::from_secs(10),
            ports: PortSet::from_ranges(Self::LOGINS.iter().copied()),
            response: Response::Ban,
            ban: Duration::from_secs(600),
            ignore: AddressSet::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brute_watches_logins_and_nothing_else() {
        let ports = Brute::default().ports;
        for (port, watched) in [
            (0, false),
            (22, true),
            (25, false),
            (80, false),
            (443, false),
            (2222, true),
            (3306, false),
            (3389, true),
            (5910, true),
            (5911, false),
            // Games: server lists, monitoring and lobbies knock at them all day.
            (4000, false),
            (25_565, false),
            (27_015, false),
            (65_535, false),
        ] {
            assert_eq!(ports.matches(Some(port)), watched, "{port}");
        }
        let all: Vec<u16> = (0..=u16::MAX)
            .filter(|&port| ports.matches(Some(port)))
            .collect();
        let named: Vec<u16> = Brute::LOGINS
            .iter()
            .flat_map(|&(first, last)| first..=last)
            .collect();
        assert_eq!(all, named);
    }
}
