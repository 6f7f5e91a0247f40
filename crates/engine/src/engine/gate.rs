//! The one gate into the ban list: whoever asks (detector, rule, person, import, the record, the kernel) comes through here, and what is
//! refused is an event that says why. Also how long a ban lasts, how it widens, and how it ends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use policy::Timestamp;
use policy::address::prefix_range;

use super::Engine;
use crate::ban::{Ban, BanEnd, BanOrigin, BanRefused, Evidence, GREW_FROM};
use crate::ban_table::place;
use crate::clock;
use crate::event::EventBody;
use crate::offender::{Offender, wider};
use crate::source::{no_source, subnet_of};

/// Why somebody shall be banned.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    pub(super) origin: BanOrigin,
    pub(super) reason: String,
    pub(super) evidence: Option<Evidence>,
    /// Whether no third party can have brought it about: only then a ban grows, in time and in width.
    pub(super) proven: bool,
}

impl Charge {
    /// Whether no person asked for it.
    fn is_automatic(&self) -> bool {
        is_automatic(&self.origin)
    }
}

const fn is_automatic(origin: &BanOrigin) -> bool {
    match origin {
        BanOrigin::Detector(_) | BanOrigin::Rule(_) => true,
        // What is found in the kernel may be as wide as a person wanted it.
        BanOrigin::Manual | BanOrigin::Import | BanOrigin::Kernel => false,
    }
}

/// Refusals told of late. One for each prefix and minute, so that nobody fills the record by offending in vain.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// `None` stands for refusals that are not about the prefix: the list is full.
    told: HashMap<Option<IpNet>, Timestamp>,
    /// Those that were not told.
    untold: u64,
}

impl Refusals {
    const QUIET: Duration = Duration::from_secs(60);
    /// Refusals told in a minute.
    const MOST: usize = 1_024;

    fn may_tell(&mut self, refused: &BanRefused, now: Timestamp) -> bool {
        let is_late = |at: &Timestamp| clock::is_within(*at, now, Self::QUIET);
        let prefix = refused.prefix();
        let mut tell = !self.told.get(&prefix).is_some_and(is_late);
        if tell && self.told.len() >= Self::MOST && !self.told.contains_key(&prefix) {
            self.told.retain(|_, at| is_late(at));
            tell = self.told.len() < Self::MOST;
        }
        if tell {
            self.told.insert(prefix, now);
        } else {
            self.untold += 1;
        }
        tell
    }
}

/// The prefix that is meant: without host bits, and IPv4 where it is written as IPv6 (RFC 4291, 2.5.5.2).
pub(super) fn canonical(prefix: IpNet) -> IpNet {
    match prefix.trunc() {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => Ipv4Net::new(v4, v6.prefix_len() - 96).map_or(IpNet::V6(v6), IpNet::V4),
            None => IpNet::V6(v6),
        },
        other => other,
    }
}

impl Engine {
    /// Whether a canonical prefix may be banned for `origin`.
    fn admit(&self, prefix: IpNet, origin: &BanOrigin) -> Result<(), BanRefused> {
        if let Some(why) = no_source(prefix) {
            return Err(BanRefused::NotASource { prefix, why });
        }
        let collateral = self.plan.ban.reach(prefix).collateral;
        if is_automatic(origin) && prefix.prefix_len() < collateral {
            return Err(BanRefused::Collateral { prefix, collateral });
        }
        if let Some(address) = self.protected.first_in(prefix) {
            return Err(BanRefused::Protected { prefix, address });
        }
        self.bans.has_room(prefix)
    }

    /// [`Engine::admit`], telling the record what is refused.
    fn pass(
        &mut self,
        prefix: IpNet,
        origin: &BanOrigin,
        now: Timestamp,
    ) -> Result<(), BanRefused> {
        let outcome = self.admit(prefix, origin);
        if let Err(refused) = outcome
            && self.refusals.may_tell(&refused, now)
        {
            let origin = origin.clone();
            self.push_ban_event(now, EventBody::BanRefused { refused, origin });
        }
        outcome
    }

    /// Bans a prefix, for a time or for the policy's default time; longer if its source was banned before, and wider if
    /// its neighbours were too.
    pub(super) fn impose(
        &mut self,
        prefix: IpNet,
        duration: Option<Duration>,
        charge: Charge,
        now: Timestamp,
    ) -> Result<Ban, BanRefused> {
        let prefix = canonical(prefix);
        self.pass(prefix, &charge.origin, now)?;
        let charge = self.doubted(prefix, charge, now);
        let first = duration.unwrap_or(self.plan.ban.duration);
        if charge.is_automatic()
            && let Some(held) = self
                .held_until(prefix, now.after(first), now)
                .or_else(|| self.held_for_real(prefix, now))
        {
            return Ok(held.clone());
        }
        let ban = self.put(prefix, first, Duration::ZERO, &charge, Vec::new(), now);
        if charge.proven && charge.is_automatic() {
            self.widen(prefix, first, &charge, &ban, now);
        }
        Ok(ban)
    }

    /// The ban that keeps a whole prefix out until then at least: what else its source did was on its way before, or was found by
    /// another, and is no reason for a further ban.
    fn held_until(&self, prefix: IpNet, until: Timestamp, now: Timestamp) -> Option<&Ban> {
        let mut around = self.bans.all_covering(prefix_range(prefix).0, now);
        around.find(|ban| ban.prefix.contains(&prefix) && ban.expires >= until)
    }

    /// While observing: the ban of exactly this prefix that will be in force, which nothing that only would have been takes the place of.
    fn held_for_real(&self, prefix: IpNet, now: Timestamp) -> Option<&Ban> {
        let held = self.bans.get(prefix).filter(|_| self.observes)?;
        (!held.would_be && held.expires > now).then_some(held)
    }

    /// The charge, not proven where somebody may be guessing in the name of its source.
    fn doubted(&mut self, prefix: IpNet, charge: Charge, now: Timestamp) -> Charge {
        let source = subnet_of(prefix_range(prefix).0);
        let proven = charge.proven && !(charge.is_automatic() && self.doubts.doubts(source, now));
        let evidence = charge.evidence.map(|evidence| Evidence {
            proven: evidence.proven && proven,
            ..evidence
        });
        Charge {
            proven,
            evidence,
            ..charge
        }
    }

    /// Puts an admitted ban in force, for at least `least`, and remembers it.
    fn put(
        &mut self,
        prefix: IpNet,
        first: Duration,
        least: Duration,
        charge: &Charge,
        grew_from: Vec<IpNet>,
        now: Timestamp,
    ) -> Ban {
        let settings = &self.plan.ban;
        // What a person wants is a ban whenever enforcing begins.
        let would_be = self.observes && charge.is_automatic();
        let past = if would_be {
            self.offenders.of(prefix, now, settings.memory)
        } else {
            self.offenders.on_record(prefix, now, settings.memory)
        };
        // Who makes a ban in force longer or shorter bans nobody a further time.
        let in_force = (self.bans.get(prefix))
            .is_some_and(|ban| ban.expires > now && (would_be || !ban.would_be));
        let in_force = in_force && past.times > 0;
        let lasts = if charge.proven && charge.is_automatic() {
            let before = past.offences - u32::from(in_force && past.offences > 0);
            settings.escalated(first, before).max(least)
        } else {
            first
        };
        let past = if in_force {
            past
        } else {
            past.banned(now, charge.proven)
        };
        if would_be {
            self.offenders.suppose(past);
        } else {
            self.offenders.put(past);
        }
        let ban = Ban {
            prefix,
            origin: charge.origin.clone(),
            reason: charge.reason.clone(),
            since: now,
            expires: now.after(lasts),
            times_banned: past.times,
            offences: past.offences,
            grew_from,
            evidence: charge.evidence,
            would_be,
        };
        self.bans.insert(ban.clone());
        self.totals.bans += 1;
        self.push_ban_event(now, EventBody::Ban(ban.clone()));
        ban
    }

    /// Bans the widest prefix around a source that holds enough offenders and may be banned. The bans in it stay as they are.
    fn widen(
        &mut self,
        source: IpNet,
        first: Duration,
        charge: &Charge,
        own: &Ban,
        now: Timestamp,
    ) {
        let reach = *self.plan.ban.reach(source);
        if !reach.widen {
            return;
        }
        let memory = self.plan.ban.memory;
        for (wide, needed) in wider(source, reach.neighbours) {
            if wide.prefix_len() < reach.collateral {
                continue;
            }
            if self.bans.get(wide).is_some_and(|ban| ban.expires > now) {
                return;
            }
            let (length, _) = place(source);
            let mut offenders = self.offenders.within(wide, length, now, memory, needed);
            // A refusal is in the record as an event; a narrower prefix may still do.
            if offenders.len() < needed || self.pass(wide, &charge.origin, now).is_err() {
                continue;
            }
            offenders.truncate(GREW_FROM);
            let charge = Charge {
                reason: format!(
                    "{needed} of its {} were banned; the last for: {}",
                    match source {
                        IpNet::V4(_) => "addresses",
                        IpNet::V6(_) => "subnets",
                    },
                    charge.reason
                ),
                ..charge.clone()
            };
            let least = own.expires.since(now);
            self.put(wide, first, least, &charge, offenders, now);
            return;
        }
    }

    /// Bans a prefix because a person wants it, for a time, or for the policy's default time. A ban of the same prefix is
    /// replaced.
    ///
    /// # Errors
    /// When the prefix holds a protected address, is no source, or the table is full.
    pub fn ban(
        &mut self,
        now: Timestamp,
        prefix: IpNet,
        duration: Option<Duration>,
        origin: BanOrigin,
        reason: String,
    ) -> Result<Ban, BanRefused> {
        let charge = Charge {
            // What a person says is not forged.
            proven: !is_automatic(&origin),
            origin,
            reason,
            evidence: None,
        };
        self.impose(prefix, duration, charge, now)
    }

    /// Makes a ban that another engine over the same plan found due, with the history that this one knows. One in force stays,
    /// without an event, where it keeps the prefix out for as long: several engines may find the same offence.
    ///
    /// # Errors
    /// As [`Engine::ban`].
    pub fn adopt_ban(&mut self, ban: Ban, now: Timestamp) -> Result<Ban, BanRefused> {
        let charge = Charge {
            proven: ban.offences > 0,
            origin: ban.origin,
            reason: ban.reason,
            evidence: ban.evidence,
        };
        self.impose(ban.prefix, Some(ban.expires.since(ban.since)), charge, now)
    }

    /// Puts back a ban from the record as it stood, without an event where it is admitted.
    ///
    /// # Errors
    /// As [`Engine::ban`]: an address may have become protected meanwhile.
    pub fn restore_ban(&mut self, ban: Ban, now: Timestamp) -> Result<(), BanRefused> {
        let ban = Ban {
            prefix: canonical(ban.prefix),
            ..ban
        };
        self.pass(ban.prefix, &ban.origin, now)?;
        if ban.expires > now {
            let memory = self.plan.ban.memory;
            let known = if ban.would_be {
                self.offenders.of(ban.prefix, now, memory)
            } else {
                self.offenders.on_record(ban.prefix, now, memory)
            };
            if known.times < ban.times_banned {
                let told = Offender {
                    lifted: known.lifted,
                    ..Offender::from(&ban)
                };
                if ban.would_be {
                    self.offenders.suppose(told);
                } else {
                    self.offenders.put(told);
                }
            }
            self.bans.insert(ban);
        }
        Ok(())
    }

    /// Remembers who was banned before, as it was told by earlier bans or is kept somewhere.
    pub fn restore_offender(&mut self, offender: Offender) {
        self.offenders.put(offender);
    }

    /// What is remembered of exactly this prefix, without what only would have been; with no bans where it is nothing.
    pub fn offender(&self, prefix: IpNet, now: Timestamp) -> Offender {
        self.offenders
            .on_record(canonical(prefix), now, self.plan.ban.memory)
    }

    /// Takes out the bans that only would have been, without events; and forgets that they would have made further ones longer.
    pub fn take_would_be(&mut self) -> Vec<Ban> {
        self.offenders.forget_supposed();
        let only = self.bans.iter().filter(|ban| ban.would_be);
        let only: Vec<IpNet> = only.map(|ban| ban.prefix).collect();
        only.into_iter()
            .filter_map(|prefix| self.bans.remove(prefix))
            .collect()
    }

    /// Everybody who is remembered, also those whose bans are too long ago to count. Without what only would have been.
    pub fn offenders(&self) -> impl Iterator<Item = &Offender> {
        self.offenders.iter()
    }

    /// Takes back a ban that was just made and could not be enforced, as if it had never been; `before` is the one that it
    /// replaced. Without an event, and with the event of its making still to be polled.
    pub fn retract(&mut self, made: &Ban, before: Option<Ban>, past: Offender) {
        self.bans.remove(made.prefix);
        self.offenders.put(past);
        self.totals.bans -= 1;
        if let Some(before) = before {
            self.bans.insert(before);
        }
    }

    /// Lifts the ban of exactly this prefix, because a person wants it: its next ban is a first one again, and what led to a
    /// wide one does not lead to it again. Bans of other prefixes, within it and around it, stay.
    pub fn unban(&mut self, now: Timestamp, prefix: IpNet) -> Option<Ban> {
        let ban = self.bans.remove(canonical(prefix))?;
        let memory = self.plan.ban.memory;
        let past = self.offenders.on_record(ban.prefix, now, memory);
        self.offenders.put(past.lifted(now));
        self.detectors.begin_anew(ban.prefix, now);
        self.push_ban_event(
            now,
            EventBody::Unban {
                ban: ban.clone(),
                end: BanEnd::Lifted,
            },
        );
        Some(ban)
    }

    #[inline]
    pub(super) fn expire_bans(&mut self, now: Timestamp) {
        if self.bans.may_have_expired(now) {
            self.end_expired_bans(now);
        }
    }

    fn end_expired_bans(&mut self, now: Timestamp) {
        while let Some(ban) = self.bans.pop_expired(now) {
            let at = ban.expires;
            let end = BanEnd::Expired;
            self.detectors.begin_anew(ban.prefix, at);
            self.push_ban_event(at, EventBody::Unban { ban, end });
        }
    }

    /// The clock that all times are by was set: bans keep the time they have left, who was banned before is as far back as it
    /// was, and flows are as old. Rates and counts begin anew where the clock was set back, also when nobody tells.
    pub fn shift(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        self.bans.shift(&moved);
        self.offenders.shift(&moved);
        self.flows.shift(moved);
    }

    /// Refusals of bans that were not told, since the same was told within the minute.
    pub fn untold_refusals(&self) -> u64 {
        self.refusals.untold
    }

    /// The bans that cover an address, the narrowest first.
    pub fn bans_of(&self, address: IpAddr, now: Timestamp) -> Vec<&Ban> {
        self.bans
            .all_covering(policy::address_key(address), now)
            .collect()
    }
}
