//! Bans: from the engine to the kernel and the store, and back at the start.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::source::source_prefix;
use engine::{Ban, BanEnd, BanOrigin, BanRefused, Event, EventBody};
use ipnet::IpNet;
use kernel::datapath::DatapathError;
use policy::{AddressSet, Timestamp};

use super::Guard;
use super::standing::in_feed;
use crate::api;
use crate::record::NoticeKind;
use crate::record::ban::ban_in;
use crate::record::escape::{Escaped, is_hazard};
use crate::record::explain::{several, short};

/// Bans that are taken out of the kernel one by one while packets wait; more of them follow with the next checks.
pub(super) const UNBANS_AT_ONCE: usize = 1_000;
/// Bans that come at once and get an event each; of more there is one notice.
pub(super) const TOLD_AT_ONCE: usize = 1_000;
/// Longest reason of a ban, in characters.
const MOST_REASON: usize = 1_000;

/// Why a ban was not made or lifted.
#[derive(Debug, thiserror::Error)]
pub enum BanError {
    /// The text is no prefix.
    #[error(
        "{text:?} is neither an address nor a prefix; write it like 203.0.113.7 or 203.0.113.0/24"
    )]
    NoPrefix {
        /// What was given.
        text: String,
    },
    /// The engine refuses.
    #[error(transparent)]
    Refused(BanRefused),
    /// The engine refuses, as it is protected.
    #[error("{who} is protected ({why}), so that it cannot be banned")]
    Protected {
        /// The address, or the prefix and the address in it.
        who: String,
        /// What protects it.
        why: String,
    },
    /// The kernel refuses.
    #[error("the kernel did not take the ban, so it is not made: {0}")]
    Kernel(#[from] DatapathError),
    /// A wider ban stops it, and is not lifted for one of those that it is for.
    #[error(
        "{prefix} is covered by the ban of {cover}: `portcullis unban {cover}` lifts that for all of them, `portcullis allow {prefix}` lets {prefix} alone past it"
    )]
    Covered {
        /// What was asked for.
        prefix: String,
        /// The narrowest of the bans that cover it.
        cover: String,
    },
    /// The kernel cannot say whom it bans.
    #[error("{prefix} is not banned as far as is known, and the kernel cannot be asked: {source}")]
    NotAsked {
        /// What was asked for.
        prefix: IpNet,
        /// What it said.
        source: DatapathError,
    },
    /// The kernel did not let go.
    #[error(
        "the kernel still drops what {} covered, and refuses to stop ({source}); it is asked again each second, and `portcullis status` warns until it has",
        several(*prefixes, "lifted ban")
    )]
    NotLifted {
        /// How many bans.
        prefixes: usize,
        /// What it said.
        source: DatapathError,
    },
    /// Nobody reads that much.
    #[error("the reason has {length} characters; write at most {MOST_REASON}")]
    LongReason {
        /// Its length in characters.
        length: usize,
    },
    /// Nothing to lift.
    #[error("{} is not banned; `portcullis bans` lists who is", short(*prefix))]
    NotBanned {
        /// What was asked for.
        prefix: IpNet,
    },
    /// Nothing to lift: it is dropped for something else.
    #[error("{why}")]
    InFeed {
        /// The sentence.
        why: String,
    },
    /// Not on the allow list.
    #[error(
        "{} is not on the runtime allow list; addresses under [protect] are taken off in the policy", short(*prefix)
    )]
    NotAllowed {
        /// What was asked for.
        prefix: IpNet,
    },
    /// Neither all nor one.
    #[error("name an address or a prefix, or ask for all bans")]
    Which,
}

/// A change for the kernel.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// Until then.
    Ban(IpNet, Timestamp),
    Unban(IpNet),
}

impl From<&Ban> for Change {
    fn from(ban: &Ban) -> Self {
        Self::Ban(ban.prefix, ban.expires)
    }
}

/// A reason as it is kept, at most [`MOST_REASON`] characters of it and without anything that a terminal would act on. What an export
/// wrote is escaped already, and is not once more.
pub(super) fn reason(text: &str) -> String {
    let text: String = text.chars().take(MOST_REASON).collect();
    if text.chars().any(is_hazard) {
        Escaped(&text).to_string()
    } else {
        text
    }
}

/// Time left; `None`: until it is lifted.
fn left(expires: Timestamp, now: Timestamp) -> Option<Duration> {
    (expires != Timestamp::MAX).then(|| expires.since(now))
}

/// An address or a prefix; host bits are cut off.
pub(crate) fn parse_prefix(text: &str) -> Result<IpNet, BanError> {
    let text = text.trim();
    // An IPv4-mapped prefix is the IPv4 prefix.
    let prefix = match policy::address::parse_prefix(text) {
        Some(IpNet::V6(v6)) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => {
                ipnet::Ipv4Net::new(v4, v6.prefix_len() - 96).map_or(IpNet::V6(v6), IpNet::V4)
            }
            None => IpNet::V6(v6),
        },
        Some(prefix) => prefix,
        None => {
            return Err(BanError::NoPrefix {
                text: text.to_owned(),
            });
        }
    };
    Ok(prefix.trunc())
}

/// The ban that is for `wanted` alone, of those that cover it: a wider one is not lifted for one of those that it is for.
fn own_ban(wanted: IpNet, covering: &[IpNet]) -> Result<IpNet, BanError> {
    let narrowest = covering.iter().copied().max_by_key(IpNet::prefix_len);
    match narrowest {
        // An IPv6 address is banned by its subnet: that is the ban of this source alone.
        Some(own) if own == wanted => Ok(own),
        Some(own) if !is_wide(&wanted) && own == source_prefix(wanted.addr()) => Ok(own),
        Some(cover) => Err(BanError::Covered {
            prefix: short(wanted),
            cover: short(cover),
        }),
        None => Err(BanError::NotBanned { prefix: wanted }),
    }
}

/// Whether it is more than one address.
fn is_wide(prefix: &IpNet) -> bool {
    prefix.prefix_len() < prefix.max_prefix_len()
}

/// Whether the set and the prefix have an address in common. Cost: a binary search.
pub(super) fn meets(set: &AddressSet, prefix: IpNet) -> bool {
    let (first, last) = policy::address::prefix_range(prefix);
    let ranges = set.ranges();
    let after = ranges.partition_point(|&(begin, _)| begin <= last);
    after > 0 && ranges[after - 1].1 >= first
}

impl Guard {
    /// Takes note of what an event means for the store and the kernel.
    pub(super) fn note_ban(&mut self, event: &Event, changes: &mut Vec<Change>) {
        match &event.body {
            EventBody::Ban(ban) => {
                self.store.ban(ban.clone());
                if !ban.would_be {
                    self.store
                        .offender(self.engine.offender(ban.prefix, event.at));
                }
                changes.push(ban.into());
            }
            EventBody::Unban { ban, end } => {
                self.store.unban(ban.prefix, *end, event.at);
                if *end == BanEnd::Lifted {
                    self.store
                        .offender(self.engine.offender(ban.prefix, event.at));
                }
                changes.push(Change::Unban(ban.prefix));
            }
            _ => {}
        }
    }

    /// Makes the kernel follow. What it refuses is tried again with the next check.
    pub(super) fn carry_out(&mut self, changes: &[Change], now: Timestamp) {
        let carry_out = |guard: &mut Self| guard.try_carry_out(changes, UNBANS_AT_ONCE, now);
        // Where the last check could not put our table back, packets do not wait for another try with each ban.
        let outcome = if self.drift.in_sync {
            self.insist(now, carry_out)
        } else {
            carry_out(self)
        };
        if let Err(error) = outcome {
            self.bans_behind = true;
            tracing::warn!("the kernel's bans are behind: {error}");
        }
    }

    /// Bans, and takes out at most `most` of what is to be taken out; the rest follows with the next checks.
    fn try_carry_out(
        &mut self,
        changes: &[Change],
        most: usize,
        now: Timestamp,
    ) -> Result<(), DatapathError> {
        if !self.enforcing {
            return Ok(());
        }
        let capacity = self.in_force.plan.ban.capacity as usize;
        let mut bans = BTreeMap::new();
        for change in changes {
            match change {
                Change::Ban(prefix, expires) => {
                    self.to_lift.remove(prefix);
                    bans.insert(*prefix, left(*expires, now));
                }
                Change::Unban(prefix) => {
                    bans.remove(prefix);
                    // The kernel holds no more than so many, each of them for a time or because a person wanted it.
                    if self.to_lift.len() < capacity {
                        self.to_lift.insert(*prefix);
                    }
                }
            }
        }
        let lifted = self.lift_due(most)?;
        self.bans_behind |= !self.to_lift.is_empty();
        let Some(datapath) = &mut self.datapath else {
            return Ok(());
        };
        // Prefix bans that overlap a lifted one lost their common part with it; single addresses stand in a set of their own.
        let lifted: AddressSet = lifted.into_iter().filter(is_wide).collect();
        if !lifted.is_empty() {
            let lost = |ban: &&Ban| is_wide(&ban.prefix) && meets(&lifted, ban.prefix);
            let again = self.engine.bans().filter(lost);
            bans.extend(again.map(|ban| (ban.prefix, ban.remaining(now))));
        }
        let bans: Vec<(IpNet, Option<Duration>)> = bans.into_iter().collect();
        match bans.as_slice() {
            [] => Ok(()),
            [(prefix, remaining)] => datapath.ban(*prefix, *remaining),
            many => datapath.bans_many(many),
        }
    }

    /// Takes out of the kernel what it should not hold any more. What it refuses stays due. Returns what is out.
    pub(super) fn lift_due(&mut self, most: usize) -> Result<Vec<IpNet>, DatapathError> {
        let Some(datapath) = self.datapath.as_mut().filter(|_| self.enforcing) else {
            return Ok(Vec::new());
        };
        let due: Vec<IpNet> = self.to_lift.iter().take(most).copied().collect();
        for prefix in &due {
            datapath.unban(*prefix)?;
            self.to_lift.remove(prefix);
        }
        Ok(due)
    }

    /// The bans in force, by prefix.
    pub fn bans(&self) -> Vec<api::Ban> {
        let now = self.clock.now();
        let mut bans: Vec<&Ban> = self.engine.bans().collect();
        bans.sort_by_key(|ban| ban.prefix);
        bans.into_iter().map(|ban| self.shown(ban, now)).collect()
    }

    /// A ban as answers have it.
    pub(super) fn shown(&self, ban: &Ban, now: Timestamp) -> api::Ban {
        ban_in(self.mode(), ban, now)
    }

    /// Bans a prefix. Who names no time does not make a ban in force shorter, and who names no reason either leaves it as it is.
    ///
    /// # Errors
    ///
    /// When the request makes no sense, or the engine or the kernel refuses; then nothing is banned.
    pub fn ban(&mut self, request: &api::BanRequest) -> Result<api::Ban, BanError> {
        let now = self.clock.now();
        match self.try_ban(request, now) {
            Err(BanError::Kernel(DatapathError::NotApplied)) if self.is_put_back(now) => {
                self.try_ban(request, now)
            }
            outcome => outcome,
        }
    }

    fn try_ban(&mut self, request: &api::BanRequest, now: Timestamp) -> Result<api::Ban, BanError> {
        let prefix = parse_prefix(&request.prefix)?;
        let duration = match request.for_s {
            None => None,
            Some(0) => Some(Duration::MAX),
            Some(seconds) => Some(Duration::from_secs(seconds)),
        };
        let given = request.reason.as_deref().unwrap_or("banned by hand");
        let length = given.chars().count();
        if length > MOST_REASON {
            return Err(BanError::LongReason { length });
        }
        let reason = reason(given);
        let before = self.engine.bans().find(|ban| ban.prefix == prefix).cloned();
        let until = now.after(self.in_force.plan.ban.duration);
        let longer = before
            .as_ref()
            .filter(|held| duration.is_none() && held.expires > until);
        let duration = match longer {
            // What is known of it is worth more than that somebody asked again.
            Some(held) if request.reason.is_none() && !held.would_be => {
                return Ok(api::Ban {
                    kept: true,
                    ..self.shown(held, now)
                });
            }
            Some(held) => Some(left(held.expires, now).unwrap_or(Duration::MAX)),
            None => duration,
        };
        let kept = longer.is_some();
        let past = self.engine.offender(prefix, now);
        let made = self
            .engine
            .ban(now, prefix, duration, BanOrigin::Manual, reason);
        let made = match made {
            Ok(made) => made,
            Err(refused) => {
                self.settle(now);
                return Err(self.why_refused(refused));
            }
        };
        if let Err(error) = self.try_carry_out(&[Change::from(&made)], UNBANS_AT_ONCE, now) {
            // As it was: the engine must not believe in a ban that the kernel does not hold, nor the kernel in one of its own.
            if before.is_none() {
                self.to_lift.insert(prefix);
            }
            self.bans_behind = true;
            self.engine.retract(&made, before, past);
            while self.engine.poll_event().is_some() {}
            return Err(error.into());
        }
        self.record_only();
        Ok(api::Ban {
            kept,
            ..self.shown(&made, now)
        })
    }

    /// The engine knows that an address is protected, and the guard why.
    fn why_refused(&self, refused: BanRefused) -> BanError {
        let BanRefused::Protected { prefix, address } = refused else {
            return BanError::Refused(refused);
        };
        let host = policy::address::host_prefix(address);
        match self.protection(host) {
            Some(why) if prefix == host => BanError::Protected {
                who: address.to_string(),
                why,
            },
            Some(why) => BanError::Protected {
                who: format!("{address} in {prefix}"),
                why,
            },
            None => BanError::Refused(refused),
        }
    }

    /// Lifts bans.
    ///
    /// # Errors
    ///
    /// When the request makes no sense, or nothing is banned by it; and when the kernel refuses, which is then asked again with each
    /// check: for all others the bans are lifted.
    pub fn unban(&mut self, query: &api::UnbanQuery) -> Result<api::Unbanned, BanError> {
        let now = self.clock.now();
        let wanted = match (&query.prefix, query.all) {
            (None, true) => None,
            (Some(text), false) => Some(parse_prefix(text)?),
            _ => return Err(BanError::Which),
        };
        // What the kernel says of a ban must not make it anew when it is lifted.
        self.keep_own_bans(now);
        let mut prefixes = self.banning(wanted);
        if wanted.is_none() || prefixes.is_empty() {
            // It may be lifted already for all but the kernel.
            let lifted_now = match self.insist(now, |guard| guard.lift_due(usize::MAX)) {
                Ok(lifted_now) => lifted_now,
                Err(source) => return Err(self.not_lifted(source)),
            };
            let covers = |wanted: IpNet| lifted_now.iter().any(|prefix| prefix.contains(&wanted));
            if wanted.is_some_and(covers) {
                return Ok(api::Unbanned {
                    lifted: Vec::new(),
                    still: Vec::new(),
                    not_kept: None,
                });
            }
            // The kernel bans by itself too, and its word of that may be lost on the way.
            let adopted = self.insist(now, |guard| guard.adopt_kernel_bans(now));
            match (adopted, wanted) {
                (Err(source), Some(prefix)) => return Err(BanError::NotAsked { prefix, source }),
                // Somebody took everything away: the next check tells.
                (Err(_), None) | (Ok(()), _) => {}
            }
            prefixes = self.banning(wanted);
        }
        if let (Some(prefix), true) = (wanted, prefixes.is_empty()) {
            return Err(match in_feed(prefix, &self.feeds_with(prefix)) {
                Some(why) => BanError::InFeed { why },
                None => BanError::NotBanned { prefix },
            });
        }
        if let Some(wanted) = wanted {
            prefixes = vec![own_ban(wanted, &prefixes)?];
        }
        let (lifted, outcome) = self.lift(&prefixes, now);
        if let Err(source) = outcome {
            return Err(self.not_lifted(source));
        }
        let covers = |ban: &&Ban| wanted.is_some_and(|wanted| ban.prefix.contains(&wanted));
        let still = self.engine.bans().filter(covers);
        let still = still.map(|ban| self.shown(ban, now)).collect();
        Ok(api::Unbanned {
            lifted,
            still,
            // Whoever waits for the store knows.
            not_kept: None,
        })
    }

    fn not_lifted(&self, source: DatapathError) -> BanError {
        BanError::NotLifted {
            prefixes: self.to_lift.len(),
            source,
        }
    }

    /// The ban of exactly this prefix, else those that cover it; all of them for `None`.
    fn banning(&self, wanted: Option<IpNet>) -> Vec<IpNet> {
        let all = || self.engine.bans().map(|ban| ban.prefix);
        let Some(wanted) = wanted else {
            return all().collect();
        };
        let exactly: Vec<IpNet> = all().filter(|prefix| *prefix == wanted).collect();
        if exactly.is_empty() {
            all().filter(|prefix| prefix.contains(&wanted)).collect()
        } else {
            exactly
        }
    }

    /// Lifts the bans of these prefixes, and says whether the kernel has followed; where it has not, it is asked again.
    pub(super) fn lift(
        &mut self,
        prefixes: &[IpNet],
        now: Timestamp,
    ) -> (Vec<api::Ban>, Result<(), DatapathError>) {
        let lifted: Vec<Ban> = prefixes
            .iter()
            .filter_map(|prefix| self.engine.unban(now, *prefix))
            .collect();
        let changes: Vec<Change> = lifted.iter().map(|ban| Change::Unban(ban.prefix)).collect();
        // However many: somebody waits for it.
        let outcome = self.insist(now, |guard| guard.try_carry_out(&changes, usize::MAX, now));
        self.bans_behind |= outcome.is_err();
        self.record_only();
        let lifted = lifted.iter().map(|ban| self.shown(ban, now)).collect();
        (lifted, outcome)
    }

    /// Tells of bans that were not made here: each by an event, or all by a notice where they are too many. The store remembers them.
    pub(super) fn tell_of_bans(&mut self, made: Vec<Ban>, what: &str, now: Timestamp) {
        if made.len() > TOLD_AT_ONCE {
            self.notice(
                NoticeKind::Daemon,
                format!("{} {what}", several(made.len(), "ban")),
            );
            self.store.replace(self.memory());
            return;
        }
        let mut known = Vec::new();
        for ban in made {
            let event = Event::without_packet(now, EventBody::Ban(ban));
            self.note_ban(&event, &mut known);
            self.recorder.event(event);
        }
    }

    /// Events go to the record and the store; the kernel knows already.
    pub(super) fn record_only(&mut self) {
        let mut known = Vec::new();
        while let Some(event) = self.engine.poll_event() {
            self.note_ban(&event, &mut known);
            self.recorder.event(event);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn prefixes_in_every_form() {
        for (text, expected) in [
            ("203.0.113.7", Some("203.0.113.7/32")),
            (" 203.0.113.7/24 ", Some("203.0.113.0/24")),
            ("2001:db8::7", Some("2001:db8::7/128")),
            ("::ffff:203.0.113.7", Some("203.0.113.7/32")),
            ("::ffff:203.0.113.0/120", Some("203.0.113.0/24")),
            ("203.0.113.7/33", None),
            ("10.0.0.0/08", None),
            ("10.0.0.0/0", Some("0.0.0.0/0")),
            ("2001:db8::/032", None),
            ("host.example", None),
            ("", None),
        ] {
            let parsed = parse_prefix(text).ok().map(|prefix| prefix.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text:?}");
        }
    }
}
