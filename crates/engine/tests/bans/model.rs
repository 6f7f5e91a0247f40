//! Bans against a model: lists of what is banned until when and of who offended when, over steps that proptest chooses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use policy::{AddressSet, Timestamp};
use proptest::prelude::*;

use super::common::{Bench, plan};
use super::{by_hand, later, net, offend};

/// What is banned until when, and who offended when.
#[derive(Debug, Default)]
struct Model {
    bans: BTreeMap<IpNet, Timestamp>,
    offences: BTreeMap<IpNet, Vec<Timestamp>>,
    lifted: BTreeMap<IpNet, Timestamp>,
}

const CAPACITY: usize = 9;
const FIRST: Duration = Duration::from_secs(600);
const LONGEST: Duration = Duration::from_secs(6_000);
const MEMORY: Duration = Duration::from_secs(20_000);

impl Model {
    fn admits(&self, prefix: IpNet, protected: Option<IpAddr>) -> bool {
        !protected.is_some_and(|address| prefix.contains(&address))
            && (self.bans.len() < CAPACITY || self.bans.contains_key(&prefix))
    }

    /// Offences that count: since the last that was lifted, none with more than the memory between the last and now.
    fn count(&self, prefix: IpNet, now: Timestamp) -> u32 {
        let all = self.offences.get(&prefix).map_or(&[][..], Vec::as_slice);
        let mut count = 0;
        let mut later = now;
        for at in all.iter().rev() {
            if later.since(*at) > MEMORY {
                break;
            }
            (count, later) = (count + 1, *at);
        }
        count
    }

    fn ban(&mut self, prefix: IpNet, until: Timestamp, now: Timestamp, proven: bool) {
        if self.bans.insert(prefix, until).is_none() && proven {
            self.offences.entry(prefix).or_default().push(now);
        }
    }

    fn offend(&mut self, source: IpNet, proven: bool, now: Timestamp, protected: Option<IpAddr>) {
        if !self.admits(source, protected) {
            return;
        }
        let escalated = |count: u32| (FIRST * 2_u32.pow(count)).min(LONGEST);
        if !proven {
            self.ban(source, now.after(FIRST), now, false);
            return;
        }
        let own = escalated(self.count(source, now));
        self.ban(source, now.after(own), now, true);
        for (length, needed) in [(48, 4), (56, 2)] {
            let wide = IpNet::new(source.addr(), length).unwrap().trunc();
            if self.bans.contains_key(&wide) {
                return;
            }
            let lifted = self.lifted.get(&wide).copied().unwrap_or_default();
            let offenders = self
                .offences
                .iter()
                .filter(|(prefix, at)| {
                    let last = at.last().copied().unwrap_or_default();
                    prefix.prefix_len() == 64
                        && wide.contains(*prefix)
                        && now.since(last) <= MEMORY
                        && last > lifted
                })
                .count();
            if offenders >= needed && self.admits(wide, protected) {
                let lasts = escalated(self.count(wide, now)).max(own);
                self.ban(wide, now.after(lasts), now, true);
                return;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Offend(u8, bool),
    ByHand(u8, u8, u64),
    Lift(u8, u8),
    Pass(u64),
}

fn universe(n: u8) -> IpNet {
    // Two sites of four subnets.
    net(&format!("2001:db8:0:{}0{}::/64", n / 4 % 2, n % 4))
}

fn around(n: u8, level: u8) -> IpNet {
    let length = [64, 56, 48, 40][usize::from(level)];
    IpNet::new(universe(n).addr(), length).unwrap().trunc()
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..8, any::<bool>()).prop_map(|(n, forged)| Step::Offend(n, !forged)),
        2 => (0_u8..8, 0_u8..4, 1_u64..9_000).prop_map(|(n, level, secs)| Step::ByHand(n, level, secs)),
        2 => (0_u8..8, 0_u8..4).prop_map(|(n, level)| Step::Lift(n, level)),
        4 => (1_u64..4_000).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn bans_are_as_a_list_would_have_them(
        steps in prop::collection::vec(step(), 1..60),
        shelter in any::<bool>(),
    ) {
        let mut policy = plan(vec![]);
        policy.ban.capacity = CAPACITY as u32;
        policy.ban.longest = LONGEST;
        policy.ban.memory = MEMORY;
        policy.ban.ipv6.neighbours = 2;
        let mut bench = Bench::new(policy);
        let protected: Option<IpAddr> = shelter.then(|| "2001:db8:0:1ff::9".parse().unwrap());
        let sheltered = protected.map(policy::address::host_prefix).into_iter().collect();
        bench.engine.set_addresses(AddressSet::default(), sheltered, bench.now);
        let mut model = Model::default();
        for step in steps {
            // No two things happen at once.
            later(&mut bench, Duration::from_secs(1));
            let mut now = bench.now;
            model.bans.retain(|_, until| *until > now);
            match step {
                Step::Offend(n, proven) => {
                    let source = universe(n);
                    // Nobody who is banned offends: his packets are dropped before.
                    if bench.engine.ban_of(source.addr(), now).is_none() {
                        let _ = offend(&mut bench, &source.to_string(), proven);
                        model.offend(source, proven, now, protected);
                    }
                }
                Step::ByHand(n, level, secs) => {
                    let prefix = around(n, level);
                    let span = Duration::from_secs(secs);
                    let made = by_hand(&mut bench, &prefix.to_string(), span);
                    prop_assert_eq!(made.is_ok(), model.admits(prefix, protected));
                    if made.is_ok() {
                        model.ban(prefix, now.after(span), now, true);
                    }
                }
                Step::Lift(n, level) => {
                    let prefix = around(n, level);
                    let lifted = bench.engine.unban(now, prefix);
                    prop_assert_eq!(lifted.is_some(), model.bans.remove(&prefix).is_some());
                    if lifted.is_some() {
                        model.offences.remove(&prefix);
                        model.lifted.insert(prefix, now);
                    }
                }
                Step::Pass(secs) => {
                    later(&mut bench, Duration::from_secs(secs));
                    now = bench.now;
                    model.bans.retain(|_, until| *until > now);
                }
            }
            let held: BTreeMap<IpNet, Timestamp> =
                bench.engine.bans().map(|ban| (ban.prefix, ban.expires)).collect();
            prop_assert_eq!(&held, &model.bans);
            for n in 0..8 {
                let address = universe(n).addr();
                let narrowest = model
                    .bans
                    .keys()
                    .filter(|prefix| prefix.contains(&address))
                    .max_by_key(|prefix| prefix.prefix_len());
                let found = bench.engine.ban_of(address, now).map(|ban| &ban.prefix);
                prop_assert_eq!(found, narrowest);
            }
            bench.events();
        }
    }
}
