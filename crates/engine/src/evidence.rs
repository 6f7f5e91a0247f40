//! What a detector's evidence looks like as a whole, and one line on it for people.

use std::fmt;
use std::time::Duration;

use crate::ban::{Detector, Evidence};

/// What the packets that counted look like together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// What the detector's name says.
    Plain,
    /// A scan.
    Scan {
        /// What it goes over.
        shape: Shape,
        /// By which packets.
        technique: Technique,
        /// Distinct ports, protocols or addresses; [`Evidence::count`] counts impossible packets double.
        distinct: u32,
    },
    /// No source alone: all together.
    WholeHost,
}

/// What a scan goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Ports of one target.
    Vertical,
    /// Ports of one target, in the long window.
    Slow,
    /// Addresses.
    Horizontal,
}

impl Shape {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Vertical, Self::Slow, Self::Horizontal];

    /// Stable name, for records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vertical => "vertical",
            Self::Slow => "slow",
            Self::Horizontal => "horizontal",
        }
    }
}

/// The packets of a scan, by what nmap calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Technique {
    /// TCP SYN: half-open and `connect()` scans, which a closed port cannot tell apart.
    Syn,
    /// TCP with FIN alone.
    Fin,
    /// TCP without flags.
    Null,
    /// TCP with FIN, PSH and URG.
    Xmas,
    /// TCP with ACK alone, out of the blue: ACK and window scans.
    Ack,
    /// TCP with FIN and ACK, out of the blue.
    Maimon,
    /// TCP with another combination of flags that the protocol does not know.
    Flags,
    /// UDP.
    Udp,
    /// ICMP queries.
    Icmp,
    /// Protocol after protocol of IP.
    Protocol,
    /// SCTP, DCCP or UDP-Lite.
    OtherPorts,
    /// More than one of these.
    Mixed,
}

impl Technique {
    /// Every one of them.
    pub const ALL: [Self; 12] = [
        Self::Syn,
        Self::Fin,
        Self::Null,
        Self::Xmas,
        Self::Ack,
        Self::Maimon,
        Self::Flags,
        Self::Udp,
        Self::Icmp,
        Self::Protocol,
        Self::OtherPorts,
        Self::Mixed,
    ];

    /// Stable name, for records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syn => "SYN",
            Self::Fin => "FIN",
            Self::Null => "NULL",
            Self::Xmas => "XMAS",
            Self::Ack => "ACK",
            Self::Maimon => "FIN+ACK",
            Self::Flags => "TCP flag",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
            Self::Protocol => "IP protocol",
            Self::OtherPorts => "port",
            Self::Mixed => "mixed",
        }
    }

    /// Of two techniques the one that both are.
    #[must_use]
    pub(crate) fn with(self, other: Self) -> Self {
        if self == other { self } else { Self::Mixed }
    }
}

impl fmt::Display for Pattern {
    /// `vertical SYN scan`; nothing for [`Pattern::Plain`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => Ok(()),
            Self::WholeHost => f.write_str("all sources together"),
            Self::Scan {
                shape, technique, ..
            } => write!(f, "{} {} scan", shape.name(), technique.name()),
        }
    }
}

impl Evidence {
    /// One line: `vertical SYN scan of 5 ports in 0.2 s (threshold 5 in 10 s)`; `1001 packets, over the rate of 1000 in 1 s`. No
    /// bytes off the wire.
    #[must_use]
    pub fn describe(&self, detector: Detector) -> String {
        let what = match (self.pattern, detector) {
            (
                Pattern::Scan {
                    shape, distinct, ..
                },
                _,
            ) => {
                let things = match (shape, distinct) {
                    (Shape::Horizontal, 1) => "address",
                    (Shape::Horizontal, _) => "addresses",
                    (Shape::Vertical | Shape::Slow, 1) => "port",
                    (Shape::Vertical | Shape::Slow, _) => "ports",
                };
                format!("{} of {distinct} {things}", self.pattern)
            }
            (Pattern::WholeHost, _) => {
                format!("{} of all sources", counted(Detector::SynFlood, self.count))
            }
            (Pattern::Plain, detector) => counted(detector, self.count),
        };
        let is_rate = matches!(
            detector,
            Detector::Rate | Detector::SynFlood | Detector::IcmpFlood | Detector::UdpFlood
        );
        if is_rate {
            return over_rate(&what, self.threshold, self.window);
        }
        let span = self.last.since(self.first).as_secs_f64();
        format!(
            "{what} in {span:.1} s (threshold {} in {} s)",
            self.threshold,
            self.window.as_secs_f64()
        )
    }
}

/// One line on packets that the kernel's own meter found over a rate and that nobody looked at: how many there were is not known.
pub(crate) fn over_rate_in_kernel(detector: Detector, threshold: u64, window: Duration) -> String {
    let what = format!("more than {}", counted(detector, threshold));
    format!(
        "{} (counted by the kernel)",
        over_rate(&what, threshold, window)
    )
}

fn over_rate(what: &str, threshold: u64, window: Duration) -> String {
    let window = window.as_secs_f64();
    format!("{what}, over the rate of {threshold} in {window} s")
}

/// `1 denied packet`, `50 denied packets`.
fn counted(detector: Detector, count: u64) -> String {
    let (one, rest) = match detector {
        Detector::Blocked => ("denied packet", ""),
        Detector::Rate => ("packet", ""),
        Detector::Payload => ("content-rule hit", ""),
        Detector::Scan => ("closed port", ""),
        Detector::SynFlood => ("half-open connection", ""),
        Detector::IcmpFlood => ("ICMP packet", ""),
        Detector::UdpFlood => ("unanswered UDP packet", ""),
        Detector::Brute => ("short connection", " to one service"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {one}{plural}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_not_ones() {
        for (detector, count, text) in [
            (Detector::Blocked, 1, "1 denied packet"),
            (Detector::Blocked, 50, "50 denied packets"),
            (Detector::Brute, 1, "1 short connection to one service"),
            (Detector::Brute, 10, "10 short connections to one service"),
        ] {
            assert_eq!(counted(detector, count), text);
        }
    }
}
