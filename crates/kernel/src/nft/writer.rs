//! What all parts of the ruleset are written with: the table, the lists, and the few sentences that recur (count, log, drop).

use std::rc::Rc;

use policy::{AddressSet, Mode, Plan};

use super::Context;
use super::crowd;
use super::list::{Family, Lists};
use super::table::Table;
use crate::tag::{Cause, LogTag, Outcome};

/// The longest run of bytes of a packet that is copied to the log. A chain of IPv6 extension headers is as long as its sender likes,
/// up to the first fragment (RFC 7112): with less than a whole packet, who hides ports behind options would not be seen scanning.
const SNAPLEN: u32 = 1500;
/// The limit of what is logged of packets that are refused for what they are, not for whose they are.
pub(super) const LOG_DROPS: &str = "log_drops";

/// The limit of what is logged of packets that pass.
pub(super) const LOG_FLOWS: &str = "log_flows";
/// Counts what was not logged for that limit.
pub(super) const FLOWS_UNTOLD: &str = "flows_untold";

/// The limit of what is logged of quiet ports beyond it.
pub(super) const LOG_QUIET: &str = "log_quiet";

/// The limit of what is logged of suspects beyond both.
pub(super) const LOG_SUSPECTS: &str = "log_suspects";

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
    /// Whether the kernel bans by itself.
    pub(super) bans_by_itself: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(plan: &'a Plan, context: &'a Context<'a>) -> Self {
        let mut lists = Lists::new(plan);
        let protected = plan.protected(context.protected);
        let unbannable = engine::source::unbannable(&protected);
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
            bans_by_itself: false,
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
        let limit = log_limit(cause);
        self.log(limit, LogTag::new(outcome, cause))
    }

    /// Rules that log a packet – the first of its flow (which conntrack has not confirmed yet), or every one –, count it where the limit
    /// leaves no room for it, and accept.
    pub(super) fn acceptance_uncounted(&mut self, cause: Cause, every: bool) -> Vec<String> {
        let log = self.log(LOG_FLOWS, LogTag::new(Outcome::Allow, cause));
        let untold = self.table.counter(FLOWS_UNTOLD);
        if every {
            return vec![format!("{log} accept"), format!("{untold} accept")];
        }
        let is_first = "ct status & confirmed == 0";
        vec![
            format!("{is_first} {log} accept"),
            format!("{is_first} {untold} accept"),
            "accept".to_owned(),
        ]
    }

    /// A rule that logs an ICMP error by which this host, or one behind it, refuses what it was asked for. Whoever finds many
    /// closed ports gets many of them.
    pub(super) fn log_refusal(&self) -> String {
        self.log(LOG_DROPS, LogTag::new(Outcome::Alert, Cause::Refusal))
    }

    /// A statement that copies what a name server answers: whole, as far as datagrams of DNS go, and so many a second.
    pub(super) fn copy_answer(&self) -> String {
        format!(
            "limit rate 200/second burst 400 packets log prefix \"{}\" group {} snaplen 1500",
            LogTag::new(Outcome::Alert, Cause::Answer),
            self.context.log_group
        )
    }

    /// A statement that logs within a limit.
    pub(super) fn log(&self, limit: &str, tag: LogTag) -> String {
        format!(
            "limit name \"{limit}\" log prefix \"{tag}\" group {} snaplen {SNAPLEN}",
            self.context.log_group
        )
    }

    /// Rules that count, log and refuse. Counting and logging are one rule: a limit that is used up ends it after the count.
    /// Then what goes to quiet ports and suspects are logged, so that no noise hides them.
    pub(super) fn refusal(&mut self, outcome: Outcome, cause: Cause) -> Vec<String> {
        let counter = self.table.counter(&cause.counter());
        let mut rules = self.refusal_uncounted(outcome, cause);
        if let Some(first) = rules.first_mut() {
            *first = format!("{counter} {first}");
        }
        rules
    }

    /// [`Writer::refusal`] of packets that are counted already.
    pub(super) fn refusal_uncounted(&mut self, outcome: Outcome, cause: Cause) -> Vec<String> {
        let verdict = if outcome == Outcome::Reject {
            self.reject()
        } else {
            self.drop()
        };
        let log = self.log_refused(outcome, cause);
        if log_limit(cause) != LOG_DROPS {
            return vec![log, verdict];
        }
        let tag = LogTag::new(outcome, cause);
        let [quiet, suspect] = [LOG_QUIET, LOG_SUSPECTS].map(|limit| self.log(limit, tag));
        let mut rules = vec![format!("{log} {verdict}")];
        rules.extend(crowd::is_to_a_quiet_port().map(|is| format!("{is} {quiet} {verdict}")));
        rules.push(crowd::COUNT.to_owned());
        let suspects = Family::BOTH.map(crowd::is_suspect);
        rules.extend(suspects.map(|is| format!("{is} {suspect} {verdict}")));
        rules.push(verdict);
        rules
    }

    /// Rules that count, log the first packet of each flow (or every one), and accept.
    pub(super) fn acceptance(&mut self, cause: Cause, every: bool) -> Vec<String> {
        let counter = self.table.counter(&cause.counter());
        let mut rules = self.acceptance_uncounted(cause, every);
        if let Some(first) = rules.first_mut() {
            *first = format!("{counter} {first}");
        }
        rules
    }
}

/// The limit of what is logged of packets refused for this.
fn log_limit(cause: Cause) -> &'static str {
    match cause {
        Cause::Banned | Cause::Feed(_) => "log_known",
        Cause::Rate
        | Cause::SynFlood
        | Cause::SynFloodOfAll
        | Cause::IcmpFlood
        | Cause::UdpFlood => "log_floods",
        _ => LOG_DROPS,
    }
}
