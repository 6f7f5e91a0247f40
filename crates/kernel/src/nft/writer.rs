//! What all parts of the ruleset are written with: the table, the lists, and the few sentences that recur (count, log, drop).

use std::rc::Rc;
use std::time::Duration;

use policy::{AddressSet, Mode, Plan};

use super::Context;
use super::list::{Family, Lists, Side};
use super::rate::duration_text;
use super::table::Table;
use crate::tag::{Cause, LogTag, Outcome};

/// The longest run of bytes of a packet that is copied to the log: IPv6 with extension headers, TCP with options, and most
/// of a DNS question.
const SNAPLEN: u32 = 256;

/// A ruleset in the making.
pub(super) struct Writer<'a> {
    pub(super) plan: &'a Plan,
    pub(super) context: &'a Context<'a>,
    pub(super) table: Table,
    pub(super) lists: Lists<'a>,
    /// What no ban, feed or detector may drop.
    pub(super) protected: Rc<AddressSet>,
    /// Sources that the kernel must not ban by itself: whose ban the engine refuses too.
    pub(super) unbannable: Rc<AddressSet>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(plan: &'a Plan, context: &'a Context<'a>) -> Self {
        let mut lists = Lists::new(plan);
        let listed = plan
            .protect
            .sets
            .iter()
            .fold(plan.protect.addresses.clone(), |all, &set| {
                all.union(&lists.named(set))
            });
        let protected = if plan.protect.discover {
            listed.union(context.protected)
        } else {
            listed
        };
        let unbannable = unbannable(&protected);
        let protected = lists.share(&protected);
        lists.name(
            &protected,
            "protect".to_owned(),
            Some("never dropped by bans, feeds or detectors".to_owned()),
        );
        let unbannable = lists.share(&unbannable);
        lists.name(
            &unbannable,
            "unbannable".to_owned(),
            Some("never banned by the kernel itself".to_owned()),
        );
        Self {
            plan,
            context,
            table: Table::new(context.slot),
            lists,
            protected,
            unbannable,
        }
    }

    /// Whether verdicts are only reported.
    pub(super) fn observes(&self) -> bool {
        self.plan.mode == Mode::Observe
    }

    /// The statement that drops.
    pub(super) fn drop(&self) -> String {
        if self.observes() { "accept" } else { "drop" }.to_owned()
    }

    /// The statement that rejects.
    pub(super) fn reject(&self) -> String {
        if self.observes() {
            "accept"
        } else {
            "goto refuse"
        }
        .to_owned()
    }

    /// A rule that logs a packet that did not pass. It decides nothing, so that its own limit does not either. What the
    /// shield drops from known offenders has a limit of its own, and so has what floods, or one of them could hide all others from
    /// the detectors.
    pub(super) fn log_refused(&self, outcome: Outcome, cause: Cause) -> String {
        let limit = match cause {
            Cause::Banned | Cause::Feed(_) => "log_known",
            Cause::Rate
            | Cause::SynFlood
            | Cause::SynFloodOfAll
            | Cause::IcmpFlood
            | Cause::UdpFlood => "log_floods",
            _ => "log_drops",
        };
        self.log(limit, LogTag::new(outcome, cause))
    }

    /// A rule that logs an accepted packet: the first of its flow (which conntrack has not confirmed yet), or every one.
    pub(super) fn log_accepted(&self, cause: Cause, every: bool) -> String {
        let log = self.log("log_flows", LogTag::new(Outcome::Allow, cause));
        if every {
            log
        } else {
            format!("ct status & confirmed == 0 {log}")
        }
    }

    /// A rule that logs an ICMP error by which this host, or one behind it, refuses what it was asked for. Whoever finds many
    /// closed ports gets many of them.
    pub(super) fn log_refusal(&self) -> String {
        self.log("log_drops", LogTag::new(Outcome::Alert, Cause::Refusal))
    }

    /// A statement that copies what a name server answers: whole, as far as datagrams of DNS go, and so many a second.
    pub(super) fn copy_answer(&self) -> String {
        format!(
            "limit rate 200/second burst 400 packets log prefix \"{}\" group {} snaplen 1500",
            LogTag::new(Outcome::Alert, Cause::Answer),
            self.context.log_group
        )
    }

    fn log(&self, limit: &str, tag: LogTag) -> String {
        format!(
            "limit name \"{limit}\" log prefix \"{tag}\" group {} snaplen {SNAPLEN}",
            self.context.log_group
        )
    }

    /// Rules that count, log and refuse. Counting and logging are one rule: a limit that is used up ends it after the count.
    pub(super) fn refusal(&mut self, outcome: Outcome, cause: Cause) -> Vec<String> {
        let counter = self.table.counter(&cause.counter());
        let verdict = if outcome == Outcome::Reject {
            self.reject()
        } else {
            self.drop()
        };
        vec![
            format!("{counter} {}", self.log_refused(outcome, cause)),
            verdict,
        ]
    }

    /// Rules that count, log the first packet of each flow (or every one), and accept.
    pub(super) fn acceptance(&mut self, cause: Cause, every: bool) -> Vec<String> {
        let counter = self.table.counter(&cause.counter());
        vec![
            format!("{counter} {}", self.log_accepted(cause, every)),
            "accept".to_owned(),
        ]
    }

    /// Rules that ban the source for a time, without a verdict. As the engine does: one address for IPv4, the `/64` for
    /// IPv6. Rules of their own, since a full set ends a rule.
    pub(super) fn ban_source(&mut self, duration: Duration) -> Vec<String> {
        if self.observes() {
            return Vec::new();
        }
        let timeout = duration_text(duration);
        let mut rules = Vec::new();
        for family in Family::BOTH {
            let set = match family {
                Family::V4 => "ban4",
                Family::V6 => "ban6_64",
            };
            let key = family.counted_source();
            let unbannable = Rc::clone(&self.unbannable);
            let lists = &mut self.lists;
            let Some(unless) = lists.exclusions(&unbannable, Side::Source, family, &mut self.table)
            else {
                continue;
            };
            rules.push(format!(
                "iif != \"lo\" {} add @{set} {{ {key} timeout {timeout} }}",
                unless.join(" ")
            ));
        }
        rules
    }
}

/// The protected addresses, for IPv6 with all of their `/64`, and `0.0.0.0` and `::/64`: no source can be told by them.
fn unbannable(protected: &AddressSet) -> AddressSet {
    let subnet = u128::from(u64::MAX);
    let v4 = Family::V4.ranges(protected);
    let v6 = Family::V6
        .ranges(protected)
        .into_iter()
        .map(|(first, last)| (first & !subnet, last | subnet));
    let nobody = [(policy::address::IPV4_FIRST, policy::address::IPV4_FIRST)];
    // The keys of IPv4 lie inside ::/64, which must be left out around them, or all of IPv4 would be in the list.
    let outside = |(first, last): (u128, u128)| {
        let (before, after) = (
            policy::address::IPV4_FIRST - 1,
            policy::address::IPV4_LAST + 1,
        );
        [(first, last.min(before)), (first.max(after), last)]
    };
    AddressSet::from_ranges(
        v4.into_iter()
            .chain(nobody)
            .chain(v6.chain([(0, subnet)]).flat_map(outside)),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_subnet_of_a_protected_address_cannot_be_banned_nor_can_nobody() {
        let protected: AddressSet = ["192.0.2.1/32", "2001:db8::1/128"]
            .iter()
            .map(|text| text.parse::<ipnet::IpNet>().unwrap())
            .collect();
        let set = unbannable(&protected);
        for (address, held) in [
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("0.0.0.0", true),
            ("0.0.0.1", false),
            ("10.0.0.1", false),
            ("255.255.255.254", false),
            ("2001:db8::ffff", true),
            ("2001:db8:0:1::1", false),
            ("::", true),
            ("::5", true),
        ] {
            assert_eq!(set.contains(address.parse().unwrap()), held, "{address}");
        }
    }
}
