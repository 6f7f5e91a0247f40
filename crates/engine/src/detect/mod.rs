//! The detectors of a plan, what feeds each of them, and what each of them asks for.
//!
//! Packets of one source become evidence, evidence becomes an offence; what follows from it is the engine's affair. At most
//! [`policy::Limits::sources`] sources are counted at once by each detector, and who offends least is put out first.

pub(crate) mod brute;
pub(crate) mod contact;
pub(crate) mod flood;
mod scan;
mod threshold;

use std::time::Duration;

use ipnet::IpNet;
use policy::address::prefix_range;
use policy::{AddressSet, Direction, Plan, Response, Timestamp, key_address};

use crate::ban::{Detector, Evidence};
use crate::facts::Facts;
use crate::source::{source_prefix, subnet_of, subnets_of};
use crate::verdict::{Reason, Stage};
use brute::Brute;
use contact::Attempt;
use flood::Floods;
use scan::{Scan, Thresholds};
use threshold::Threshold;

pub use flood::Over;

/// Detectors with their state.
#[derive(Debug)]
pub(crate) struct Detectors {
    blocked: Option<Threshold>,
    payload: Option<Threshold>,
    scan: Option<Scan>,
    brute: Option<Brute>,
    floods: Floods,
    /// Subnets in which there are addresses that must not be dropped: this host's own above all.
    shared: AddressSet,
}

/// An offence: what a detector found, and what the policy wants done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Offence {
    pub(crate) detector: Detector,
    pub(crate) response: Response,
    pub(crate) ban: Duration,
    /// `None`: it is known already, and this packet is one more of it.
    pub(crate) evidence: Option<Evidence>,
}

impl Detectors {
    pub(crate) fn new(plan: &Plan, seed: u64) -> Self {
        let ceiling = plan.limits.sources;
        let detect = &plan.detect;
        let threshold = |limit, window| Threshold::new(limit, window, ceiling, seed);
        Self {
            blocked: detect
                .blocked
                .as_ref()
                .map(|blocked| threshold(blocked.packets, blocked.window)),
            payload: detect
                .payload
                .as_ref()
                .map(|payload| threshold(payload.hits, payload.window)),
            scan: detect.scan.as_ref().map(|scan| {
                let thresholds = Thresholds {
                    ports: scan.ports,
                    window: scan.window,
                    slow_ports: scan.slow_ports,
                    slow_window: scan.slow_window,
                    hosts: scan.hosts,
                };
                Scan::new(thresholds, ceiling, seed)
            }),
            brute: detect
                .brute
                .as_ref()
                .map(|brute| Brute::new(brute, ceiling, seed)),
            floods: Floods::new(plan, seed),
            shared: AddressSet::default(),
        }
    }

    /// Takes over what those of the plan before have counted, as far as the same is counted now. The kernel's meters, which these
    /// packet rates stand for, begin anew.
    pub(crate) fn carry_on(&mut self, before: Self, was: &Plan, is: &Plan) {
        if was.limits.sources != is.limits.sources {
            return;
        }
        let (was, is) = (&was.detect, &is.detect);
        if was.blocked == is.blocked {
            self.blocked = before.blocked;
        }
        if was.payload == is.payload {
            self.payload = before.payload;
        }
        if was.scan == is.scan {
            self.scan = before.scan;
        }
        if was.brute == is.brute {
            self.brute = before.brute;
        }
    }

    /// Which addresses must not be dropped.
    pub(crate) fn set_protected(&mut self, protected: &AddressSet) {
        self.shared = AddressSet::from_ranges(subnets_of(protected));
    }

    /// By what the source is counted: its address for IPv4, its `/64` for IPv6. But whoever shares his subnet with an address
    /// that must not be dropped, as all do who are on one link with this host, is counted alone, since he can be banned alone
    /// only.
    fn counting_key(&self, source: u128) -> u128 {
        if self.shares(source) {
            source
        } else {
            subnet_of(source)
        }
    }

    /// What is banned for what the source did, where it is [counted](Self::counting_key).
    pub(crate) fn culprit(&self, source: u128) -> IpNet {
        if self.shares(source) {
            policy::address::host_prefix(key_address(source))
        } else {
            source_prefix(key_address(source))
        }
    }

    fn shares(&self, source: u128) -> bool {
        key_address(source).is_ipv6() && self.shared.contains_key(source)
    }

    /// A ban of this prefix ended at `at`: what its source does from then on is counted anew. Not so for wide ones, which may end by
    /// the thousand, and within which each source that offended has a ban of its own.
    pub(crate) fn begin_anew(&mut self, prefix: IpNet, at: Timestamp) {
        let (source, last) = prefix_range(prefix);
        // Whoever is banned by subnet is counted by it, under its first address.
        if source != last && prefix != source_prefix(prefix.addr()) {
            return;
        }
        if let Some(scan) = &mut self.scan {
            scan.begin_anew(source, at);
        }
        self.floods.begin_anew(source);
    }

    /// Whether first contacts are looked at.
    pub(crate) fn watches_contacts(&self) -> bool {
        self.scan.is_some()
    }

    /// Takes down how a first contact went.
    pub(crate) fn contact(
        &mut self,
        plan: &Plan,
        attempt: &Attempt,
        now: Timestamp,
    ) -> Option<Offence> {
        let settings = plan.detect.scan.as_ref()?;
        let source = policy::address_key(attempt.source);
        if settings.ignore.contains_key(source) {
            return None;
        }
        let counted = self.counting_key(source);
        let scan = self.scan.as_mut()?;
        let evidence = scan.contact(counted, attempt, now)?;
        Some(Offence {
            detector: Detector::Scan,
            response: if attempt.contact.goes_out {
                Response::Alert
            } else {
                settings.response
            },
            ban: settings.ban,
            evidence: Some(evidence),
        })
    }

    /// A connection to one of the watched services ended, `age` after it began.
    pub(crate) fn connection_ended(
        &mut self,
        plan: &Plan,
        ended: &brute::Connection,
        now: Timestamp,
    ) -> Option<Offence> {
        let settings = plan.detect.brute.as_ref()?;
        let source = policy::address_key(ended.tuple.source);
        if ended.direction == Direction::Out || settings.ignore.contains_key(source) {
            return None;
        }
        let counted = self.counting_key(source);
        let evidence = (self.brute.as_mut()?).ended(settings, ended, counted, now)?;
        Some(Offence {
            detector: Detector::Brute,
            response: settings.response,
            ban: settings.ban,
            evidence: Some(evidence),
        })
    }

    /// The detectors that count packets, and may drop them.
    pub(crate) fn floods(&mut self) -> &mut Floods {
        &mut self.floods
    }

    /// Counts a denied packet.
    pub(crate) fn denied(
        &mut self,
        plan: &Plan,
        facts: &Facts<'_>,
        reason: Reason,
        now: Timestamp,
    ) -> Option<Offence> {
        let settings = plan.detect.blocked.as_ref()?;
        let counts = match reason.stage() {
            // Over its rate is who is let in: a busy client is no offender, and forged packets would make it one.
            Stage::Rule => !matches!(reason, Reason::Limited(_)),
            Stage::Default => true,
            Stage::Malformed => matches!(
                reason,
                Reason::Impossible(crate::verdict::Impossible::TcpFlags)
            ),
            Stage::Link
            | Stage::Ban
            | Stage::Feed
            | Stage::Flow
            | Stage::Detector
            | Stage::Essential
            // Who asks for a blocked name is mostly the victim of whoever wrote the page.
            | Stage::Dns => false,
        };
        if !counts || contact::may_answer(facts) || settings.ignore.contains_key(facts.source) {
            return None;
        }
        let counted = self.counting_key(facts.source);
        let evidence = (self.blocked.as_mut()?).count(counted, facts.tuple(), false, now)?;
        Some(Offence {
            detector: Detector::Blocked,
            response: settings.response,
            ban: settings.ban,
            evidence: Some(evidence),
        })
    }

    /// Counts a content-rule hit.
    pub(crate) fn content_hit(
        &mut self,
        plan: &Plan,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Option<Offence> {
        let settings = plan.detect.payload.as_ref()?;
        if facts.direction == Direction::Out || settings.ignore.contains_key(facts.source) {
            return None;
        }
        let counted = self.counting_key(facts.source);
        // Of UDP anybody can have sent it; TCP is counted behind a handshake alone.
        let proven = facts.tcp_flags.is_some();
        let evidence = (self.payload.as_mut()?).count(counted, facts.tuple(), proven, now)?;
        Some(Offence {
            detector: Detector::Payload,
            response: settings.response,
            ban: settings.ban,
            evidence: Some(evidence),
        })
    }
}
