//! Bans: from the engine to the kernel and the store, and back at the start.

use std::time::Duration;

use engine::{Ban, BanOrigin, BanRefused, Event, EventBody};
use ipnet::IpNet;
use kernel::datapath::DatapathError;
use policy::{AddressSet, Timestamp};

use super::Guard;
use crate::api;
use crate::record::ban::ban_in;
use crate::record::explain::short;
use crate::store::BanEnd;

/// Bans that ended at once and are taken out of the kernel one by one; more of them run out there by themselves.
const UNBANS_AT_ONCE: usize = 1_000;
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
    Refused(#[from] BanRefused),
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
    /// Nothing to lift.
    #[error("{prefix} is not banned; `portcullis bans` lists who is")]
    NotBanned {
        /// What was asked for.
        prefix: IpNet,
    },
    /// Not on the allow list.
    #[error(
        "{prefix} is not on the runtime allow list; addresses under [protect] are taken off in the policy"
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

/// Time left; `None`: until it is lifted.
fn left(expires: Timestamp, now: Timestamp) -> Option<Duration> {
    (expires != Timestamp::MAX).then(|| expires.since(now))
}

/// An address or a prefix; host bits are cut off.
pub(crate) fn parse_prefix(text: &str) -> Result<IpNet, BanError> {
    let text = text.trim();
    let prefix = text
        .parse::<IpNet>()
        .or_else(|_| text.parse().map(policy::address::host_prefix));
    // An IPv4-mapped prefix is the IPv4 prefix.
    let prefix = match prefix {
        Ok(IpNet::V6(v6)) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => {
                ipnet::Ipv4Net::new(v4, v6.prefix_len() - 96).map_or(IpNet::V6(v6), IpNet::V4)
            }
            None => IpNet::V6(v6),
        },
        Ok(prefix) => prefix,
        Err(_) => {
            return Err(BanError::NoPrefix {
                text: text.to_owned(),
            });
        }
    };
    Ok(prefix.trunc())
}

/// What a detector bans for an address: itself, or the `/64` of an IPv6 address; a prefix is itself.
fn source_prefix(prefix: IpNet) -> IpNet {
    match prefix {
        IpNet::V6(v6) if v6.prefix_len() == 128 => {
            ipnet::Ipv6Net::new(v6.addr(), 64).map_or(prefix, |net| IpNet::V6(net.trunc()))
        }
        IpNet::V4(_) | IpNet::V6(_) => prefix,
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
                self.store
                    .offender(self.engine.offender(ban.prefix, event.at));
                changes.push(ban.into());
            }
            EventBody::Unban { ban, expired } => {
                let end = if *expired {
                    BanEnd::Expired
                } else {
                    BanEnd::Lifted
                };
                self.store.unban(ban.prefix, end, event.at);
                if !expired {
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
        if let Err(error) = self.try_carry_out(changes, now) {
            self.bans_behind = true;
            tracing::warn!("the kernel's bans are behind: {error}");
        }
    }

    fn try_carry_out(&mut self, changes: &[Change], now: Timestamp) -> Result<(), DatapathError> {
        if !self.enforcing {
            return Ok(());
        }
        let Some(datapath) = &mut self.datapath else {
            return Ok(());
        };
        let mut bans = Vec::new();
        let mut unbanned = Vec::new();
        for change in changes {
            match change {
                Change::Ban(prefix, expires) => bans.push((*prefix, left(*expires, now))),
                Change::Unban(prefix) => unbanned.push(*prefix),
            }
        }
        if unbanned.len() <= UNBANS_AT_ONCE {
            for prefix in &unbanned {
                datapath.unban(*prefix)?;
            }
        }
        // Prefix bans that overlap a lifted one lost their common part with it; single addresses stand in a set of their own.
        let lifted: AddressSet = unbanned.iter().copied().filter(is_wide).collect();
        if !lifted.is_empty() {
            let lost = |ban: &&Ban| is_wide(&ban.prefix) && meets(&lifted, ban.prefix);
            let again = self.engine.bans().filter(lost);
            bans.extend(again.map(|ban| (ban.prefix, ban.remaining(now))));
        }
        match bans.as_slice() {
            [] => Ok(()),
            [(prefix, remaining)] => datapath.ban(*prefix, *remaining),
            many => datapath.bans_many(many),
        }
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

    /// Bans a prefix.
    ///
    /// # Errors
    ///
    /// When the request makes no sense, or the engine or the kernel refuses; then nothing is banned.
    pub fn ban(&mut self, request: &api::BanRequest) -> Result<api::Ban, BanError> {
        let now = self.clock.now();
        let prefix = parse_prefix(&request.prefix)?;
        let duration = match request.for_s {
            None => None,
            Some(0) => Some(Duration::MAX),
            Some(seconds) => Some(Duration::from_secs(seconds)),
        };
        let reason = request.reason.as_deref().unwrap_or("banned by hand");
        let reason = crate::record::escape::Escaped(reason).to_string();
        let before = self.engine.bans().find(|ban| ban.prefix == prefix).cloned();
        let past = self.engine.offender(prefix, now);
        let made = self
            .engine
            .ban(now, prefix, duration, BanOrigin::Manual, reason);
        let made = match made {
            Ok(made) => made,
            Err(refused) => {
                self.settle(now);
                return Err(refused.into());
            }
        };
        if let Err(error) = self.try_carry_out(&[Change::from(&made)], now) {
            // As it was: the engine must not believe in a ban that the kernel does not hold.
            self.engine.retract(&made, before, past);
            while self.engine.poll_event().is_some() {}
            return Err(error.into());
        }
        self.record_only();
        Ok(self.shown(&made, now))
    }

    /// Lifts bans.
    ///
    /// # Errors
    ///
    /// When the request makes no sense, or nothing is banned by it.
    pub fn unban(&mut self, query: &api::UnbanQuery) -> Result<api::Unbanned, BanError> {
        let now = self.clock.now();
        let prefixes: Vec<IpNet> = match (&query.prefix, query.all) {
            (None, true) => self.engine.bans().map(|ban| ban.prefix).collect(),
            (Some(text), false) => {
                let wanted = parse_prefix(text)?;
                let covers = |ban: &&Ban| ban.prefix.contains(&wanted);
                let narrowest = self.engine.bans().filter(covers);
                match narrowest
                    .map(|ban| ban.prefix)
                    .max_by_key(IpNet::prefix_len)
                {
                    // An IPv6 address is banned by its subnet: that is the ban of this source alone.
                    Some(own) if own == wanted || own == source_prefix(wanted) => vec![own],
                    Some(cover) => {
                        return Err(BanError::Covered {
                            prefix: short(wanted),
                            cover: short(cover),
                        });
                    }
                    None => return Err(BanError::NotBanned { prefix: wanted }),
                }
            }
            _ => return Err(BanError::Which),
        };
        let lifted = self.lift(&prefixes, now);
        let still = match &query.prefix {
            Some(text) => {
                let wanted = parse_prefix(text)?;
                let covers = |ban: &&Ban| ban.prefix.contains(&wanted);
                let still = self.engine.bans().filter(covers);
                still.map(|ban| self.shown(ban, now)).collect()
            }
            None => Vec::new(),
        };
        Ok(api::Unbanned { lifted, still })
    }

    /// Lifts the bans of these prefixes.
    pub(super) fn lift(&mut self, prefixes: &[IpNet], now: Timestamp) -> Vec<api::Ban> {
        let lifted: Vec<Ban> = prefixes
            .iter()
            .filter_map(|prefix| self.engine.unban(now, *prefix))
            .collect();
        let changes: Vec<Change> = lifted.iter().map(|ban| Change::Unban(ban.prefix)).collect();
        self.carry_out_all(&changes, now);
        self.record_only();
        lifted.iter().map(|ban| self.shown(ban, now)).collect()
    }

    /// As [`Guard::carry_out`], without the bound on how much is taken out: somebody waits for it.
    fn carry_out_all(&mut self, changes: &[Change], now: Timestamp) {
        for changes in changes.chunks(UNBANS_AT_ONCE) {
            self.carry_out(changes, now);
        }
    }

    /// Events go to the record and the store; the kernel knows already.
    fn record_only(&mut self) {
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
            ("host.example", None),
            ("", None),
        ] {
            let parsed = parse_prefix(text).ok().map(|prefix| prefix.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text:?}");
        }
    }
}
