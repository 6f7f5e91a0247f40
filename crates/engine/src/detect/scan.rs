//! Scans: one source finds closed port after closed port, or closed address after closed address.
//!
//! What is remembered of a source are its first contacts: each port of each target once, as failed or as served, and each address
//! that it pinged. Failed is what was denied, reset, refused by ICMP or left without an answer; impossible packets weigh double.
//! A threshold counts distinct failed contacts alone, whatever else lies between them, and holds only while failures weigh more
//! than half of what was served: who uses many services here and misses a few is no scanner. That is the idea of the threshold
//! random walk (Jung, Paxson, Berger, Balakrishnan: Fast Portscan Detection Using Sequential Hypothesis Testing, 2004), where
//! failed first contacts push a source towards "scanner" and successful ones pull it back; a served port pulls once, so that
//! nobody can scan between requests to the one service that answers.
//!
//! Which packets are evidence at all is [`super::contact`]'s affair. Memory for each source is fixed, and sources are bounded.

use std::net::IpAddr;
use std::time::Duration;

use policy::Timestamp;

use super::contact::{Attempt, Contact, Outcome};
use crate::ban::Evidence;
use crate::bounded::Bounded;
use crate::clock;
use crate::evidence::{Pattern, Shape, Technique};

/// Contacts remembered beside those that the largest threshold needs: served ones, and those of other targets.
const SPARE: usize = 12;
/// Contacts that room is made for at a time, after the first.
const STEP: usize = 4;
/// Bytes that contacts may take in all. Above, fewer sources are remembered than the policy's ceiling.
const BYTES: usize = 64 << 20;

/// What the thresholds are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thresholds {
    pub(super) ports: u32,
    pub(super) window: Duration,
    pub(super) slow_ports: u32,
    pub(super) slow_window: Duration,
    pub(super) hosts: u32,
}

/// The sources that made first contacts.
#[derive(Debug)]
pub(super) struct Scan {
    thresholds: Thresholds,
    /// Contacts of each source.
    most: usize,
    by_source: Bounded<Source>,
    /// Scratch: what counts towards a threshold.
    counted: Vec<Counted>,
}

#[derive(Debug, Default)]
struct Source {
    contacts: Vec<Contact>,
    told: Option<Timestamp>,
    /// When a ban of it ended last: what it asked for before was paid for.
    since: Timestamp,
    /// What it failed at weighs so much, and when it last did: beside the contacts, so that to choose who makes room looks at no
    /// other memory.
    failed: u64,
    failed_last: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    at: Timestamp,
    weight: u64,
    place: usize,
}

impl Contact {
    /// Impossible packets weigh double: no client sends them.
    fn weight(&self) -> u64 {
        match self.technique {
            Technique::Fin
            | Technique::Null
            | Technique::Xmas
            | Technique::Ack
            | Technique::Maimon
            | Technique::Flags => 2,
            _ => 1,
        }
    }

    fn is_same(&self, contact: &Self) -> bool {
        self.target == contact.target
            && self.port == contact.port
            && self.protocol == contact.protocol
    }

    /// Whether ports of the two count together.
    fn shares_target(&self, other: &Self) -> bool {
        self.target == other.target || (self.is_own && other.is_own)
    }
}

impl Source {
    /// How much it matters: what it failed at, while that can still count.
    fn weight(&self, now: Timestamp, window: Duration) -> u64 {
        match clock::age(self.failed_last, now) {
            Some(age) if age <= window => self.failed,
            _ => 0,
        }
    }

    fn weigh(&mut self) {
        let failed = || {
            self.contacts
                .iter()
                .filter(|known| known.outcome != Outcome::Served)
        };
        let (weight, last) = (
            failed().map(Contact::weight).sum(),
            failed().map(|known| known.at).max(),
        );
        (self.failed, self.failed_last) = (weight, last.unwrap_or_default());
    }
}

impl Scan {
    pub(super) fn new(thresholds: Thresholds, ceiling: u32, seed: u64) -> Self {
        let largest = thresholds
            .ports
            .max(thresholds.slow_ports)
            .max(thresholds.hosts);
        let most = largest as usize + SPARE;
        let fit = BYTES / (most * size_of::<Contact>());
        Self {
            thresholds,
            most,
            by_source: Bounded::new(ceiling.min(u32::try_from(fit).unwrap_or(u32::MAX)), seed),
            counted: Vec::new(),
        }
    }

    /// Takes down how a contact went. Gives the evidence when it makes its source an offender, and begins anew with it.
    pub(super) fn contact(
        &mut self,
        source: u128,
        attempt: &Attempt,
        now: Timestamp,
    ) -> Option<Evidence> {
        let slow = self.thresholds.slow_window;
        let (most, thresholds) = (self.most, self.thresholds);
        let entry = self
            .by_source
            .entry(source, Source::default, |source| source.weight(now, slow));
        // When they were is not known any more, and they would outlive all that is to come.
        entry
            .contacts
            .retain(|known| clock::age(known.at, now).is_some());
        if clock::age(entry.since, now).is_none() {
            entry.since = Timestamp::default();
        }
        if attempt.contact.at < entry.since {
            return None;
        }
        let known = entry.note(attempt.contact, most, thresholds);
        entry.weigh();
        if known.outcome == Outcome::Served
            || entry
                .told
                .is_some_and(|told| clock::is_within(told, now, self.thresholds.window))
        {
            return None;
        }
        let evidence = self.judge(source, known, attempt.source)?;
        if let Some(entry) = self.by_source.get_mut(source) {
            entry.contacts.clear();
            entry.weigh();
            entry.told = Some(now);
        }
        Some(evidence)
    }

    /// Whether what was just noted completes a threshold.
    fn judge(&mut self, source: u128, latest: Contact, address: IpAddr) -> Option<Evidence> {
        let Thresholds {
            ports,
            window,
            slow_ports,
            slow_window,
            hosts,
        } = self.thresholds;
        let contacts = self.by_source.get_mut(source)?.contacts.as_slice();
        let counted = &mut self.counted;
        let served = contacts
            .iter()
            .filter(|known| {
                known.outcome == Outcome::Served && latest.at.since(known.at) <= slow_window
            })
            .count() as u64;
        let tests = [
            (Shape::Vertical, ports, window),
            (Shape::Slow, slow_ports, slow_window),
            (Shape::Horizontal, hosts, window),
        ];
        for (shape, threshold, window) in tests {
            let is_asked = match shape {
                Shape::Vertical | Shape::Slow => latest.outcome == Outcome::Failed,
                Shape::Horizontal => !latest.goes_out,
            };
            if !is_asked {
                continue;
            }
            collect(contacts, &latest, shape, counted);
            let Some(span) = heaviest(counted, &latest, window) else {
                continue;
            };
            let count: u64 = counted[span.clone()].iter().map(|one| one.weight).sum();
            if count < u64::from(threshold) || count * 2 <= served {
                continue;
            }
            let among = || counted[span.clone()].iter().map(|one| &contacts[one.place]);
            let technique = among()
                .map(|known| known.technique)
                .reduce(Technique::with)
                .unwrap_or(Technique::Mixed);
            let first = among().min_by_key(|known| known.at).unwrap_or(&latest);
            let last = among().max_by_key(|known| known.at).unwrap_or(&latest);
            return Some(Evidence {
                count,
                threshold: u64::from(threshold),
                window,
                first: first.at,
                last: last.at,
                first_packet: first.tuple(address),
                last_packet: last.tuple(address),
                // What failed had no handshake, whatever else the source completed: anybody can have sent it.
                proven: false,
                pattern: Pattern::Scan {
                    shape,
                    technique,
                    distinct: span.len() as u32,
                },
            });
        }
        None
    }

    /// A ban of this source ended at `at`: what it asks for from then on is counted anew.
    pub(super) fn begin_anew(&mut self, source: u128, at: Timestamp) {
        if let Some(source) = self.by_source.get_mut(source) {
            source.contacts.clear();
            source.weigh();
            source.told = None;
            source.since = at;
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_source.len()
    }
}

impl Source {
    /// Remembers a contact: a port of a target once, as it went last.
    fn note(&mut self, fresh: Contact, most: usize, thresholds: Thresholds) -> Contact {
        if let Some(known) = self.contacts.iter_mut().find(|known| known.is_same(&fresh)) {
            // The heavier technique stays: a port that was probed by FIN and then by SYN was probed by FIN. But what comes
            // after a SYN may go on with its connection, where this host's end of it does not heed the firewall: in a capture.
            let goes_on = known.technique == Technique::Syn
                && matches!(fresh.technique, Technique::Ack | Technique::Maimon);
            let technique = if fresh.weight() >= known.weight() && !goes_on {
                fresh.technique
            } else {
                known.technique
            };
            *known = Contact {
                technique,
                at: fresh.at.max(known.at),
                ..fresh
            };
            return *known;
        }
        if self.contacts.len() >= most {
            self.make_room(fresh.at, thresholds);
        }
        if self.contacts.len() == self.contacts.capacity() {
            // Most sources have one, ever.
            let step = if self.contacts.is_empty() { 1 } else { STEP };
            self.contacts
                .reserve_exact(step.min(most - self.contacts.len()));
        }
        self.contacts.push(fresh);
        fresh
    }

    /// What is too old to count goes first, then what was served, then of what can count slowly alone the oldest of the target that has
    /// least: of who probes several in turn one comes to the threshold. What is left goes by age.
    fn make_room(&mut self, now: Timestamp, thresholds: Thresholds) {
        (self.contacts).retain(|known| now.since(known.at) <= thresholds.slow_window);
        let has_failed = |known: &Contact| known.outcome != Outcome::Served;
        let of_same = |known: &Contact| {
            let failed = self.contacts.iter().filter(|other| has_failed(other));
            failed.filter(|other| other.shares_target(known)).count()
        };
        let key = |known: &Contact| {
            let (rank, count, target) = if !has_failed(known) {
                (0, 0, 0)
            } else if now.since(known.at) > thresholds.window {
                // Of two targets that have as much it is always the same one.
                let target = if known.is_own { 0 } else { known.target };
                (1, of_same(known), target)
            } else {
                (2, 0, 0)
            };
            (rank, count, target, known.at)
        };
        let least = self
            .contacts
            .iter()
            .enumerate()
            .min_by_key(|(_, known)| key(known))
            .map(|(place, _)| place);
        if let Some(place) = least {
            self.contacts.swap_remove(place);
        }
    }
}

/// What counts towards a shape, in the order of time: each port of the latest's target that failed, or one contact of each address.
fn collect(contacts: &[Contact], latest: &Contact, shape: Shape, counted: &mut Vec<Counted>) {
    counted.clear();
    for (place, known) in contacts.iter().enumerate() {
        let weight = match shape {
            Shape::Vertical | Shape::Slow => {
                if known.outcome != Outcome::Failed || !known.shares_target(latest) {
                    continue;
                }
                known.weight()
            }
            Shape::Horizontal => {
                if known.outcome == Outcome::Served || known.goes_out {
                    continue;
                }
                1
            }
        };
        let one = Counted {
            at: known.at,
            weight,
            place,
        };
        let counts_once = |other: &&mut Counted| {
            let other = &contacts[other.place];
            match shape {
                Shape::Horizontal => other.target == known.target,
                // On several addresses of this host, which are one target.
                Shape::Vertical | Shape::Slow => {
                    (other.port, other.protocol) == (known.port, known.protocol)
                }
            }
        };
        match counted.iter_mut().find(counts_once) {
            Some(other) => {
                let weight = other.weight.max(one.weight);
                if other.at < one.at {
                    *other = one;
                }
                other.weight = weight;
            }
            None => counted.push(one),
        }
    }
    counted.sort_unstable_by_key(|one| one.at);
}

/// The stretch within one window around the latest contact that weighs most. Answers may come out of order, so it need not end
/// with the latest.
fn heaviest(
    counted: &[Counted],
    latest: &Contact,
    window: Duration,
) -> Option<std::ops::Range<usize>> {
    let mut best: Option<(u64, std::ops::Range<usize>)> = None;
    let (mut begin, mut weight) = (0, 0);
    for end in 0..counted.len() {
        weight += counted[end].weight;
        while counted[end].at.since(counted[begin].at) > window {
            weight -= counted[begin].weight;
            begin += 1;
        }
        let holds_latest = counted[begin].at <= latest.at && latest.at <= counted[end].at;
        if holds_latest && best.as_ref().is_none_or(|(most, _)| *most < weight) {
            best = Some((weight, begin..end + 1));
        }
    }
    best.map(|(_, span)| span)
}

#[cfg(test)]
mod tests;
