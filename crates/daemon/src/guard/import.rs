//! Bans that come as a list: what an export wrote, or what an older tool kept.

use std::collections::HashMap;
use std::time::Duration;

use engine::{Ban, BanOrigin};
use ipnet::IpNet;
use policy::{BadTime, Timestamp};

use super::Guard;
use super::ban::{self, Change, parse_prefix};
use crate::api;

/// Files write seconds, some as floating point: a ban that ends so little later is the same.
const ROUNDING: Duration = Duration::from_secs(1);

impl Guard {
    /// Takes in a list of bans. What the kernel refuses is tried again with each check.
    pub fn import_bans(&mut self, import: &api::BanImport) -> api::Imported {
        let now = self.clock.now();
        let mut outcome = api::Imported::default();
        let mut made = Vec::new();
        let mut held: HashMap<IpNet, Ban> = self
            .engine
            .bans()
            // What only would have been keeps nobody out when enforcing begins: an import does.
            .filter(|ban| !ban.would_be)
            .map(|ban| (ban.prefix, ban.clone()))
            .collect();
        for wanted in import_list(import) {
            let refuse = |outcome: &mut api::Imported, error: String| {
                outcome.refused_count += 1;
                if outcome.refused.len() < api::Imported::MOST_REFUSED {
                    outcome.refused.push(api::NotImported {
                        prefix: wanted.prefix.clone(),
                        error,
                    });
                }
            };
            let prefix = match parse_prefix(&wanted.prefix) {
                Ok(prefix) => prefix,
                Err(error) => {
                    refuse(&mut outcome, error.to_string());
                    continue;
                }
            };
            let default = self.in_force.plan.ban.duration;
            // What begins in the future would hold longer than anybody asked for.
            let since = match wanted.since {
                Ok(since) => since.map_or(now, |time| time.0.min(now)),
                Err(error) => {
                    refuse(&mut outcome, format!("its begin {error}"));
                    continue;
                }
            };
            let expires = match (wanted.expires, wanted.lasts) {
                (Some(expires), _) => expires.0,
                (None, Lasts::ForGood) => Timestamp::MAX,
                (None, Lasts::Default) => since.after(default),
            };
            if expires <= now {
                outcome.expired += 1;
                continue;
            }
            let old = held.get(&prefix);
            // An import never makes a ban shorter.
            if old.is_some_and(|old| old.expires.after(ROUNDING) >= expires) {
                outcome.unchanged += 1;
                continue;
            }
            let ban = match (old, wanted.reason.as_deref()) {
                // A bare address knows nothing that would be worth more than what is known.
                (Some(old), None) => Ban {
                    expires,
                    ..old.clone()
                },
                (_, reason) => Ban {
                    prefix,
                    origin: BanOrigin::Import,
                    // A ban is worth more than the end of a long reason.
                    reason: ban::reason(reason.unwrap_or("imported")),
                    since,
                    expires,
                    times_banned: wanted.times_banned.unwrap_or(1).max(1),
                    // A list does not say on what evidence: what it brings does not double.
                    offences: 0,
                    grew_from: Vec::new(),
                    would_be: false,
                    evidence: None,
                },
            };
            match self.engine.restore_ban(ban.clone(), now) {
                Ok(()) => {
                    held.insert(prefix, ban.clone());
                    made.push(ban);
                }
                Err(refused) => refuse(&mut outcome, refused.to_string()),
            }
        }
        outcome.added = made.len();
        self.counts.imported += made.len() as u64;
        let changes: Vec<Change> = made.iter().map(Change::from).collect();
        self.carry_out(&changes, now);
        self.tell_of_bans(made, "were imported", now);
        outcome
    }
}

/// One wanted ban, whatever form it came in.
struct Wanted {
    prefix: String,
    reason: Option<String>,
    since: Result<Option<api::Time>, BadTime>,
    expires: Option<api::Time>,
    lasts: Lasts,
    times_banned: Option<u32>,
}

/// How long, when no end is named.
enum Lasts {
    ForGood,
    Default,
}

fn import_list(import: &api::BanImport) -> Vec<Wanted> {
    match import {
        api::BanImport::Full(bans) => bans
            .iter()
            .map(|ban| Wanted {
                prefix: ban.prefix.clone(),
                reason: ban.reason.clone(),
                since: Ok(ban.since),
                expires: ban.expires,
                lasts: if ban.since.is_some() {
                    Lasts::ForGood
                } else {
                    Lasts::Default
                },
                times_banned: ban.times_banned,
            })
            .collect(),
        api::BanImport::Plain(bans) => bans
            .iter()
            .map(|(address, begin)| Wanted {
                prefix: address.clone(),
                reason: None,
                since: Timestamp::from_secs_f64(*begin).map(|begin| Some(begin.into())),
                expires: None,
                lasts: Lasts::Default,
                times_banned: None,
            })
            .collect(),
    }
}
