//! Bans are in three places: the engine, the kernel and the store. At the start, after tampering and when the clock was set they are
//! made one again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::{Ban, BanEnd, BanOrigin, Detector, Reason};
use ipnet::IpNet;
use kernel::datapath::{DatapathError, HeldBan, OwnBan};
use kernel::tag::Cause;
use policy::address::prefix_range;
use policy::{AddressSet, Timestamp};

use super::Guard;
use super::ban::UNBANS_AT_ONCE;
use crate::clock::Step;
use crate::record::NoticeKind;
use crate::store::Memory;

/// By how much the kernel's time left of a ban may differ from ours. What is about to end is not put back.
const SLACK: Duration = Duration::from_secs(2);

/// How often the kernel's bans are compared with ours where it makes some itself and may not have told of all: listing 100,000 takes
/// a good part of a second.
const COMPARE: Duration = Duration::from_secs(60);

/// Bans by prefix: those that the kernel holds, or those that are known.
struct Held(BTreeMap<IpNet, Option<Duration>>);

impl Held {
    fn new(held: Vec<HeldBan>) -> Self {
        let mut by_prefix = BTreeMap::new();
        for HeldBan { prefix, remaining } in held {
            let longest = by_prefix.entry(prefix).or_insert(remaining);
            if !lasts(*longest, remaining) {
                *longest = remaining;
            }
        }
        Self(by_prefix)
    }

    /// Whether every address of the prefix is banned for as long as it should be. Single addresses and `/64`s stand in sets of their
    /// own, and have to be in these themselves: what is around them may end earlier or be lifted.
    fn holds(&self, prefix: IpNet, wanted: Option<Duration>) -> bool {
        let is_subnet = matches!(prefix, IpNet::V6(v6) if v6.prefix_len() == 64);
        let itself = self.0.get(&prefix);
        itself.is_some_and(|remaining| lasts(*remaining, wanted))
            || !is_host(prefix) && !is_subnet && self.covers(prefix, wanted)
    }

    /// Whether somebody knows of what the kernel holds: as it is, or as a part of what lasts at least as long. Where prefixes overlap
    /// the kernel holds pieces of them, and a `/64` can be one.
    fn knows(&self, held: &HeldBan) -> bool {
        self.0.contains_key(&held.prefix)
            || !is_host(held.prefix) && self.covers(held.prefix, held.remaining)
    }

    /// Whether what is around the prefix and in it bans every address of it for as long as it should be.
    fn covers(&self, prefix: IpNet, wanted: Option<Duration>) -> bool {
        let enough = |remaining: &Option<Duration>| lasts(*remaining, wanted);
        let mut around = (0..prefix.prefix_len()).filter_map(|length| {
            let around = IpNet::new(prefix.addr(), length).ok()?.trunc();
            self.0.get(&around)
        });
        if around.any(enough) {
            return true;
        }
        // Where prefixes overlap, the kernel holds pieces of them.
        let (first, last) = match prefix {
            IpNet::V4(v4) => (v4.network().into(), v4.broadcast().into()),
            IpNet::V6(v6) => (v6.network().into(), v6.broadcast().into()),
        };
        let from = IpNet::new(first, 0).unwrap_or(prefix);
        let to = policy::address::host_prefix(last);
        let pieces = self.0.range(from..=to);
        let covered: AddressSet = pieces
            .filter(|(_, remaining)| enough(remaining))
            .map(|(piece, _)| *piece)
            .collect();
        let (first, last) = prefix_range(prefix);
        let mut ranges = covered.ranges().iter();
        ranges.any(|&(begin, end)| begin <= first && end >= last)
    }
}

fn is_host(prefix: IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

/// Whether what is left is as much as is wanted, but for the slack.
fn lasts(left: Option<Duration>, wanted: Option<Duration>) -> bool {
    match (left, wanted) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(left), Some(wanted)) => left + SLACK >= wanted,
    }
}

impl Guard {
    /// Makes ours what the kernel banned by itself, by the rules that are about to go.
    pub(super) fn keep_own_bans(&mut self, now: Timestamp) {
        self.hear_own_bans();
        self.adopt_own_bans(usize::MAX, now);
    }

    /// Takes from the kernel what it banned by itself. Adopted with the next tick: the packets that say more of it may be on their
    /// way to the engine.
    pub(super) fn hear_own_bans(&mut self) {
        let plan = &self.in_force.plan;
        let is_asked = self.enforcing && super::status::bans_in_kernel(plan);
        let Some(datapath) = self.datapath.as_mut().filter(|_| is_asked) else {
            return;
        };
        match datapath.take_own_bans() {
            Ok(bans) => self.own_bans.extend(bans),
            // Whatever else is asked of the kernel tells of it, and what was not taken is still there.
            Err(error) => tracing::debug!("the kernel does not tell whom it banned: {error}"),
        }
    }

    /// What the kernel banned by itself and no packet told of becomes a ban as any other; at most so many at once, while packets wait.
    pub(super) fn adopt_own_bans(&mut self, most: usize, now: Timestamp) {
        let due = self.own_bans.len().min(most);
        let rest = self.own_bans.split_off(due);
        for OwnBan { held, cause } in std::mem::replace(&mut self.own_bans, rest) {
            let HeldBan { prefix, remaining } = held;
            if self.to_lift.contains(&prefix) {
                continue;
            }
            let reason = match cause {
                Cause::Rule(rule) => Reason::Rule(rule),
                Cause::SynFlood => Reason::Flood(Detector::SynFlood),
                Cause::IcmpFlood => Reason::Flood(Detector::IcmpFlood),
                Cause::UdpFlood => Reason::Flood(Detector::UdpFlood),
                _ => Reason::Flood(Detector::Rate),
            };
            let adopted = self.engine.adopt_kernel_ban(prefix, reason, remaining, now);
            // An event says why.
            if adopted.is_err() {
                self.to_lift.insert(prefix);
                self.bans_behind = true;
            }
        }
        self.record_only();
    }

    /// Makes the kernel and the engine hold the same bans: the kernel loses what is to be lifted, gets what it lacks or would end too
    /// early, and the engine learns of what the kernel holds beside that. Returns what it lacked.
    ///
    /// # Errors
    ///
    /// When the kernel cannot be asked or refuses.
    pub(super) fn restore_kernel_bans(
        &mut self,
        now: Timestamp,
    ) -> Result<Vec<IpNet>, DatapathError> {
        self.lift_due(UNBANS_AT_ONCE)?;
        self.keep_own_bans(now);
        let Some(datapath) = self.datapath.as_mut().filter(|_| self.enforcing) else {
            return Ok(Vec::new());
        };
        self.last_compared = Instant::now();
        let list = datapath.bans()?;
        let held = Held::new(list.clone());
        let missing: Vec<_> = self
            .engine
            .bans()
            .map(|ban| (ban.prefix, ban.remaining(now)))
            .filter(|(prefix, left)| {
                left.is_none_or(|left| left > SLACK) && !held.holds(*prefix, *left)
            })
            .collect();
        if !missing.is_empty() {
            datapath.bans_many(&missing)?;
        }
        self.take_over(list, now);
        self.bans_behind = !self.to_lift.is_empty();
        Ok(missing.into_iter().map(|(prefix, _)| prefix).collect())
    }

    /// Asks the kernel for bans that the engine does not know.
    ///
    /// # Errors
    ///
    /// When it cannot be asked.
    pub(super) fn adopt_kernel_bans(&mut self, now: Timestamp) -> Result<(), DatapathError> {
        self.keep_own_bans(now);
        if let Some(datapath) = self.datapath.as_mut().filter(|_| self.enforcing) {
            let list = datapath.bans()?;
            self.take_over(list, now);
        }
        Ok(())
    }

    /// Whether it is time to look for bans that the kernel made by itself and of which its word was lost.
    pub(super) fn is_to_compare(&self) -> bool {
        super::status::bans_in_kernel(&self.in_force.plan)
            && self.last_compared.elapsed() >= COMPARE
    }

    /// What the kernel holds and nobody knows of becomes a ban as any other, so that it is seen and can be lifted. What the gate does
    /// not admit is lifted.
    fn take_over(&mut self, held: Vec<HeldBan>, now: Timestamp) {
        let found = self.found(held, now);
        if !found.is_empty() {
            self.tell_of_bans(found, "were found in the kernel", now);
        }
    }

    /// The same without telling.
    fn found(&mut self, held: Vec<HeldBan>, now: Timestamp) -> Vec<Ban> {
        // What is due is still there because the kernel refused, or because it is much.
        if !self.to_lift.is_empty() {
            return Vec::new();
        }
        let known = self.engine.bans().map(|ban| HeldBan {
            prefix: ban.prefix,
            remaining: ban.remaining(now),
        });
        let known = Held::new(known.collect());
        let is_over = |held: &HeldBan| held.remaining.is_some_and(|left| left <= SLACK);
        let mut found = Vec::new();
        for held in held {
            if is_over(&held) || known.knows(&held) {
                continue;
            }
            let times = self.engine.offender(held.prefix, now).times;
            let ban = Ban {
                prefix: held.prefix,
                origin: BanOrigin::Kernel,
                reason: engine::ban::FOUND_IN_KERNEL.to_owned(),
                since: now,
                expires: held
                    .remaining
                    .map_or(Timestamp::MAX, |left| now.after(left)),
                times_banned: times.saturating_add(1),
                // The kernel's meters count packets that anybody can send.
                offences: 0,
                grew_from: Vec::new(),
                would_be: false,
                evidence: None,
            };
            match self.engine.restore_ban(ban.clone(), now) {
                Ok(()) => found.push(ban),
                // An event says why.
                Err(_) => {
                    self.to_lift.insert(held.prefix);
                }
            }
        }
        found
    }

    /// Bans of the last run, and those that the kernel kept meanwhile: what either knows holds on, if the gate admits it.
    pub(super) fn restore_bans(&mut self, stored: Vec<Ban>, now: Timestamp) {
        for ban in stored {
            let prefix = ban.prefix;
            if ban.expires <= now {
                self.store.unban(prefix, BanEnd::Expired, ban.expires);
            } else if self.engine.restore_ban(ban, now).is_err() {
                // The refusal is an event.
                self.store.unban(prefix, BanEnd::Lifted, now);
            }
        }
        let Some(datapath) = &mut self.datapath else {
            return;
        };
        // An error says that nothing of ours is in the kernel.
        let held = datapath.bans().unwrap_or_default();
        // Told when it is known whether they stay in force.
        self.untold.found_at_start = self.found(held, now);
    }

    /// The wall clock was set: what is left of each ban stays what it was. The kernel counts by a clock that nobody sets.
    pub(super) fn shift_bans(&mut self, step: Step, now: Timestamp) {
        self.engine.shift(|at| step.shift(at));
        self.store.replace(self.memory());
        self.notice(
            NoticeKind::Daemon,
            format!("the clock was set: {step}; bans keep the time they had left"),
        );
        self.settle(now);
    }

    /// What the store has to remember.
    pub(super) fn memory(&self) -> Memory {
        Memory {
            bans: self.engine.bans().cloned().collect(),
            offenders: self.engine.offenders().copied().collect(),
            clock: self.clock.stamp(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "constants")]
    use super::*;

    #[test]
    fn a_ban_is_held_when_every_address_is_for_long_enough() {
        let secs = |secs: u64| (secs > 0).then(|| Duration::from_secs(secs));
        for (name, held, prefix, wanted, holds) in [
            (
                "itself",
                &[("203.0.113.7/32", 600)][..],
                "203.0.113.7/32",
                600,
                true,
            ),
            (
                "for good",
                &[("203.0.113.7/32", 0)],
                "203.0.113.7/32",
                600,
                true,
            ),
            (
                "not for good",
                &[("203.0.113.7/32", 600)],
                "203.0.113.7/32",
                0,
                false,
            ),
            (
                "made shorter",
                &[("203.0.113.7/32", 60)],
                "203.0.113.7/32",
                600,
                false,
            ),
            (
                "by a hair",
                &[("203.0.113.7/32", 599)],
                "203.0.113.7/32",
                600,
                true,
            ),
            (
                "a host needs its own",
                &[("203.0.113.0/24", 0)],
                "203.0.113.7/32",
                600,
                false,
            ),
            (
                "a /64 too",
                &[("2001:db8::/56", 0)],
                "2001:db8:0:1::/64",
                600,
                false,
            ),
            (
                "around it",
                &[("203.0.0.0/16", 900)],
                "203.0.113.0/24",
                600,
                true,
            ),
            (
                "around it, too short",
                &[("203.0.0.0/16", 90)],
                "203.0.113.0/24",
                600,
                false,
            ),
            (
                "in pieces",
                &[("203.0.113.0/25", 900), ("203.0.113.128/25", 600)],
                "203.0.113.0/24",
                600,
                true,
            ),
            (
                "a piece is missing",
                &[("203.0.113.0/25", 900), ("203.0.113.192/26", 600)],
                "203.0.113.0/24",
                600,
                false,
            ),
            (
                "a piece ends early",
                &[("203.0.113.0/25", 900), ("203.0.113.128/25", 60)],
                "203.0.113.0/24",
                600,
                false,
            ),
            ("nothing", &[], "2001:db8::/48", 600, false),
        ] {
            let held = held.iter().map(|(prefix, left)| HeldBan {
                prefix: prefix.parse().unwrap(),
                remaining: secs(*left),
            });
            let held = Held::new(held.collect());
            assert_eq!(
                held.holds(prefix.parse().unwrap(), secs(wanted)),
                holds,
                "{name}"
            );
        }
    }
}
