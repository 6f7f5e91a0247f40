//! Who was banned, how often and when: what further bans are doubled by, and what wide bans grow from. Bans in force are
//! elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use policy::Timestamp;
use policy::address::prefix_range;

use crate::ban::Ban;
use crate::ban_table::{Place, place, prefix_at};

/// What is remembered of a prefix that was banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offender {
    /// Who.
    pub prefix: IpNet,
    /// How often it was banned.
    pub times: u32,
    /// When its last ban began.
    pub last: Timestamp,
    /// How many of its bans no third party could bring about: those double.
    pub offences: u32,
    /// When the last of those began; `None` without any.
    pub offended: Option<Timestamp>,
    /// When a person last lifted its ban: what was before counts for no wide ban.
    pub lifted: Option<Timestamp>,
}

impl Offender {
    /// What remains of it at `now`: bans older than `memory` are forgotten.
    pub fn fading(self, now: Timestamp, memory: Duration) -> Self {
        let fresh = |at: &Timestamp| now.since(*at) <= memory;
        let offended = self.offended.filter(fresh);
        Self {
            times: if fresh(&self.last) { self.times } else { 0 },
            offences: if offended.is_some() { self.offences } else { 0 },
            offended,
            lifted: self.lifted.filter(fresh),
            ..self
        }
    }

    /// With one more ban: one that no third party could bring about, where it `counts`.
    pub fn banned(self, at: Timestamp, counts: bool) -> Self {
        Self {
            times: self.times.saturating_add(1),
            last: at,
            offences: self.offences.saturating_add(u32::from(counts)),
            offended: if counts { Some(at) } else { self.offended },
            ..self
        }
    }

    /// After a person lifted its ban: the next one begins anew.
    pub fn lifted(self, at: Timestamp) -> Self {
        Self {
            offences: 0,
            offended: None,
            lifted: Some(at),
            ..self
        }
    }

    /// By another clock.
    pub fn shifted(self, moved: impl Fn(Timestamp) -> Timestamp) -> Self {
        Self {
            last: moved(self.last),
            offended: self.offended.map(&moved),
            lifted: self.lifted.map(&moved),
            ..self
        }
    }

    fn unknown(prefix: IpNet) -> Self {
        Self {
            prefix,
            times: 0,
            last: Timestamp::default(),
            offences: 0,
            offended: None,
            lifted: None,
        }
    }
}

impl From<&Ban> for Offender {
    /// What a ban alone says of the past.
    fn from(ban: &Ban) -> Self {
        Self {
            prefix: ban.prefix,
            times: ban.times_banned,
            last: ban.since,
            offences: ban.offences,
            offended: (ban.offences > 0).then_some(ban.since),
            lifted: None,
        }
    }
}

/// Offenders in the order of their prefixes, so that those within a wider one stand together.
#[derive(Debug)]
pub(crate) struct Offenders {
    by_place: BTreeMap<Place, Offender>,
    /// In place of what stands above, with bans that only would have been: at most as many.
    supposed: BTreeMap<Place, Offender>,
    ceiling: usize,
}

/// Offenders remembered at least, however few bans may be held.
const FEWEST: usize = 4_096;

impl Offenders {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            by_place: BTreeMap::new(),
            supposed: BTreeMap::new(),
            ceiling: ceiling(capacity),
        }
    }

    pub(crate) fn set_capacity(&mut self, capacity: u32) {
        self.ceiling = ceiling(capacity);
    }

    /// What is remembered of exactly this prefix, with what only would have been.
    pub(crate) fn of(&self, prefix: IpNet, now: Timestamp, memory: Duration) -> Offender {
        match self.supposed.get(&place(prefix)) {
            Some(supposed) => supposed.fading(now, memory),
            None => self.on_record(prefix, now, memory),
        }
    }

    /// What is remembered of exactly this prefix.
    pub(crate) fn on_record(&self, prefix: IpNet, now: Timestamp, memory: Duration) -> Offender {
        let known = self.by_place.get(&place(prefix)).copied();
        known
            .unwrap_or(Offender::unknown(prefix))
            .fading(now, memory)
    }

    /// Moves every time that is remembered.
    pub(crate) fn shift(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        let supposed = self.supposed.values_mut();
        for offender in self.by_place.values_mut().chain(supposed) {
            *offender = offender.shifted(&moved);
        }
    }

    /// Remembers, in place of what was and of what would have been.
    pub(crate) fn put(&mut self, offender: Offender) {
        let place = place(offender.prefix);
        self.supposed.remove(&place);
        self.by_place.insert(place, offender);
        make_room(&mut self.by_place, self.ceiling);
    }

    /// Remembers what only would have been, until [`Offenders::forget_supposed`].
    pub(crate) fn suppose(&mut self, offender: Offender) {
        self.supposed.insert(place(offender.prefix), offender);
        make_room(&mut self.supposed, self.ceiling);
    }

    /// What would have been is no matter any more.
    pub(crate) fn forget_supposed(&mut self) {
        self.supposed.clear();
    }

    /// Who within `wide`, of prefixes with `length` bits in the common key space, offended within `memory`, and since a ban
    /// of `wide` was last lifted by hand. At most `most` of them.
    pub(crate) fn within(
        &self,
        wide: IpNet,
        length: u8,
        now: Timestamp,
        memory: Duration,
        most: usize,
    ) -> Vec<IpNet> {
        let lifted = self.of(wide, now, memory).lifted;
        let (first, last) = prefix_range(wide);
        let range = (length, first)..=(length, last);
        let on_record = self.by_place.range(range.clone());
        let on_record = on_record.filter(|(place, _)| !self.supposed.contains_key(place));
        on_record
            .chain(self.supposed.range(range))
            .map(|(_, offender)| offender.fading(now, memory))
            .filter(|offender| match (offender.offended, lifted) {
                (None, _) => false,
                (Some(offended), Some(lifted)) => offended > lifted,
                (Some(_), None) => true,
            })
            .take(most)
            .map(|offender| offender.prefix)
            .collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Offender> {
        self.by_place.values()
    }
}

/// Makes room for a while where there are too many: who offended least, and of those whose last ban is longest ago, goes first.
fn make_room(offenders: &mut BTreeMap<Place, Offender>, ceiling: usize) {
    if offenders.len() <= ceiling {
        return;
    }
    let room = (ceiling / 16).max(1);
    let surplus = offenders.len().saturating_sub(ceiling) + room - 1;
    let mut ranked: Vec<_> = offenders
        .iter()
        .map(|(place, offender)| (offender.offences, offender.times, offender.last, *place))
        .collect();
    let surplus = surplus.clamp(1, ranked.len());
    ranked.select_nth_unstable(surplus - 1);
    for (.., place) in &ranked[..surplus] {
        offenders.remove(place);
    }
}

fn ceiling(capacity: u32) -> usize {
    (capacity as usize).max(FEWEST)
}

/// The prefixes around a source that a ban may widen to, widest first, with how many times `neighbours` offenders it takes:
/// the `/24` of an IPv4 address; the `/48` and the `/56` of an IPv6 `/64`.
pub(crate) fn wider(source: IpNet, neighbours: u32) -> Vec<(IpNet, usize)> {
    let neighbours = neighbours as usize;
    let (length, key) = place(source);
    let steps: &[(u8, usize)] = match (source, length) {
        (IpNet::V4(_), 128) => &[(120, neighbours)],
        (IpNet::V6(_), 64) => &[(48, neighbours * neighbours), (56, neighbours)],
        _ => &[],
    };
    steps
        .iter()
        .map(|&(length, needed)| (prefix_at(length, key, source), needed))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "constants")]
    use super::*;

    const MONTH: Duration = Duration::from_secs(30 * 86_400);

    fn net(n: u32) -> IpNet {
        policy::address::host_prefix(std::net::Ipv4Addr::from_bits(n).into())
    }

    #[test]
    fn bans_are_forgotten_after_their_time() {
        let at = Timestamp::from_secs(1_000);
        let once = Offender::unknown(net(1)).banned(at, true);
        let twice = once.banned(at.after(MONTH), false);
        for (now, times, offences) in [
            (at.after(MONTH), 2, 1),
            // The second could be anybody's doing, and does not keep the first in memory.
            (at.after(MONTH + Duration::from_nanos(1)), 2, 0),
            (at.after(2 * MONTH + Duration::from_nanos(1)), 0, 0),
        ] {
            let left = twice.fading(now, MONTH);
            assert_eq!((left.times, left.offences), (times, offences));
        }
    }

    #[test]
    fn who_offended_least_and_longest_ago_is_forgotten_first() {
        let mut offenders = Offenders::new(1);
        let at = |secs: u64| Timestamp::from_secs(1_000 + secs);
        let often = net(7);
        let mut past = Offender::unknown(often);
        for n in 0..3 {
            past = past.banned(at(n), true);
        }
        offenders.put(past);
        for n in 0..20_000_u32 {
            let once = Offender::unknown(net(1_000 + n)).banned(at(10 + u64::from(n)), n % 2 == 0);
            offenders.put(once);
            assert!(offenders.by_place.len() <= FEWEST);
        }
        let now = at(30_000);
        assert_eq!(offenders.of(often, now, MONTH).offences, 3);
        assert_eq!(offenders.of(net(1_000), now, MONTH).times, 0, "the oldest");
        assert_eq!(
            offenders.of(net(1_000 + 19_998), now, MONTH).times,
            1,
            "the youngest that counts"
        );
    }

    #[test]
    fn only_what_came_after_a_ban_was_lifted_makes_it_again() {
        let mut offenders = Offenders::new(1);
        let wide: IpNet = "2001:db8::/56".parse().unwrap();
        let at = |secs: u64| Timestamp::from_secs(1_000 + secs);
        for n in 0..4 {
            let subnet: IpNet = format!("2001:db8:0:{n}::/64").parse().unwrap();
            offenders.put(Offender::unknown(subnet).banned(at(n), true));
        }
        let outside: IpNet = "2001:db8:0:100::/64".parse().unwrap();
        offenders.put(Offender::unknown(outside).banned(at(0), true));
        let count = |offenders: &Offenders| offenders.within(wide, 64, at(9), MONTH, 99).len();
        assert_eq!(count(&offenders), 4);
        let lifted = offenders.of(wide, at(2), MONTH).lifted(at(2));
        offenders.put(lifted);
        assert_eq!(count(&offenders), 1);
    }
}
