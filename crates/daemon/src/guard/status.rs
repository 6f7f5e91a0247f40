//! How the firewall is, and what was counted.

use std::collections::HashMap;

use kernel::datapath::{Counters, Datapath};
use kernel::tag::Cause;
use policy::{Action, DefaultAction, Plan, Response, RuleId, Timestamp};

use super::Guard;
use crate::api::{self, Totals};
use crate::record::Sums;
use crate::record::explain::several;

/// What was counted beside the engine's own counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// What the engine counted under each mode before the present one.
    before: Totals,
    /// The engine's sums when the present mode began.
    mode_since: Totals,
    /// What the kernel counted under earlier transactions: each begins anew.
    kernel: Totals,
    /// Rules' matches in the kernel under earlier transactions of the same policy.
    rules: HashMap<RuleId, u64>,
    /// What the store knows already.
    stored: Totals,
    untold: Untold,
    /// Copies of packets that could not be read.
    pub(super) unread_log: u64,
    /// Alerts of inspecting workers.
    pub(super) worker_alerts: u64,
    /// Bans that were imported, as the engine counts those that it makes.
    pub(super) imported: u64,
}

/// Flows that the kernel let in without a word in its log, as too many began at once.
#[derive(Debug, Default)]
struct Untold {
    count: u64,
    /// Those of earlier transactions.
    before: u64,
    /// When the first of them was noticed.
    since: Option<Timestamp>,
}

impl Untold {
    /// The kernel has counted so many since the last transaction.
    fn notice(&mut self, packets: u64, now: Timestamp) {
        self.count = self.before + packets;
        if self.count > 0 {
            self.since.get_or_insert(now);
        }
    }
}

impl Counts {
    /// Keeps what the kernel counted, before a transaction makes it forget.
    pub(super) fn keep(
        &mut self,
        datapath: &mut dyn Datapath,
        plan: &Plan,
        enforcing: bool,
        now: Timestamp,
    ) {
        if !enforcing {
            return;
        }
        // An error says that somebody took the counters away: then they are lost.
        if let Ok(counters) = datapath.counters() {
            self.kernel += totals_of(&counters, plan);
            let untold = counters.flows_untold.packets;
            self.untold.notice(untold, now);
            self.untold.before += untold;
            for rule in &plan.rules {
                *self.rules.entry(rule.id).or_default() +=
                    counters.of(Cause::Rule(rule.id)).packets;
            }
        }
    }
}

/// What the policy wants of a detector that counts packets.
fn response(cause: Cause, plan: &Plan) -> Option<Response> {
    let detect = &plan.detect;
    match cause {
        Cause::Rate => detect.rate.as_ref().map(|set| set.response),
        Cause::SynFlood => detect.syn_flood.as_ref().map(|set| set.response),
        Cause::IcmpFlood => detect.icmp_flood.as_ref().map(|set| set.response),
        Cause::UdpFlood => detect.udp_flood.as_ref().map(|set| set.response),
        _ => None,
    }
}

/// Whether the plan has the kernel ban by itself.
pub(super) fn bans_in_kernel(plan: &Plan) -> bool {
    let measures = [
        Cause::Rate,
        Cause::SynFlood,
        Cause::IcmpFlood,
        Cause::UdpFlood,
    ];
    let by_rule = |rule: &policy::Rule| matches!(rule.action, Action::Ban(_));
    let is_ban = |cause: &Cause| response(*cause, plan) == Some(Response::Ban);
    measures.iter().any(is_ban) || plan.rules.iter().any(by_rule)
}

/// What the kernel counted, by verdict. Packets of established flows pass uncounted.
fn totals_of(counters: &Counters, plan: &Plan) -> Totals {
    let over = counters.questions_over;
    let mut totals = Totals {
        dropped: over.packets,
        packets: over.packets,
        bytes: over.bytes,
        ..Totals::default()
    };
    let mut limited = 0;
    for (cause, count) in &counters.causes {
        let field = match cause {
            Cause::Banned | Cause::Feed(_) | Cause::Impossible(_) | Cause::Invalid => {
                &mut totals.dropped
            }
            // Where the policy only wants to hear of it, what stands after counts them.
            Cause::Rate | Cause::SynFlood | Cause::IcmpFlood | Cause::UdpFlood => {
                match response(*cause, plan) {
                    Some(Response::Limit | Response::Ban) => &mut totals.dropped,
                    Some(Response::Alert) | None => continue,
                }
            }
            // Nothing is dropped for these, whatever the policy says of single sources.
            Cause::SynFloodOfAll | Cause::Refusal | Cause::Answer => continue,
            // These matched their rule too, and are counted there as passed.
            Cause::Limited(_) => {
                limited += count.packets;
                continue;
            }
            Cause::Related | Cause::Essential(_) => &mut totals.allowed,
            Cause::Rule(id) => match plan.rules.get(id.0 as usize).map(|rule| rule.action) {
                Some(Action::Allow | Action::Limit) | None => &mut totals.allowed,
                Some(Action::Deny | Action::Ban(_)) => &mut totals.dropped,
                Some(Action::Reject) => &mut totals.rejected,
            },
            Cause::Default(direction) => match plan.default.of(*direction) {
                DefaultAction::Allow => &mut totals.allowed,
                DefaultAction::Deny => &mut totals.dropped,
                DefaultAction::Reject => &mut totals.rejected,
            },
        };
        *field += count.packets;
        totals.packets += count.packets;
        totals.bytes += count.bytes;
    }
    totals.allowed = totals.allowed.saturating_sub(limited);
    totals.dropped += limited;
    totals
}

impl Guard {
    /// Sums since the daemon began. What the kernel decides it counts; the rest the engine counts.
    pub fn totals(&mut self) -> Totals {
        let mut totals = self.counts.kernel;
        totals += self.counts.before;
        totals += self.engine_counts();
        if let Some(datapath) = self.datapath.as_mut().filter(|_| self.enforcing) {
            // An error shows as drift; the sums then stand still until it is put back.
            if let Ok(counters) = datapath.counters() {
                totals += totals_of(&counters, &self.in_force.plan);
                let untold = counters.flows_untold.packets;
                self.counts.untold.notice(untold, self.clock.now());
            }
        }
        let inspected = self.pump.inspected();
        totals.dropped += inspected.dropped;
        totals.rejected += inspected.rejected;
        // What the kernel's rules had accepted it has counted.
        totals.allowed = (totals.allowed + inspected.allowed).saturating_sub(inspected.taken_back);
        totals.packets += (inspected.allowed + inspected.dropped + inspected.rejected)
            .saturating_sub(inspected.taken_back);
        totals.bytes += inspected.bytes;
        totals.dns_questions += inspected.dns_questions;
        totals.dns_blocked += inspected.dns_blocked;
        totals.alerts += self.counts.worker_alerts;
        totals
    }

    /// What the engine counted in the present mode. Enforcing, what it hears of packets are samples: those the kernel counts.
    fn engine_counts(&self) -> Totals {
        let counted = self.engine_sums().since(&self.counts.mode_since);
        if !self.enforcing {
            return counted.observed();
        }
        Totals {
            anomalies: counted.anomalies,
            flows: counted.flows,
            alerts: counted.alerts,
            bans: counted.bans,
            ..Totals::default()
        }
    }

    /// The engine's sums since the begin, with the bans that were imported.
    fn engine_sums(&self) -> Totals {
        let mut sums = Totals::from(*self.engine.totals());
        sums.bans += self.counts.imported;
        sums
    }

    /// Ends of flows that no engine of ours had recorded, as there were too many at once.
    pub(super) fn unrecorded_flows(&self) -> u64 {
        self.engine.unrecorded_flows() + self.pump.inspected().unrecorded_flows
    }

    /// The engine stops or begins to be the one that judges. Hits begin anew: what a rule did is not what it would have done.
    pub(super) fn change_judge(&mut self, enforcing: bool) {
        let counted = self.engine_counts();
        self.counts.before += counted;
        self.counts.mode_since = self.engine_sums();
        self.forget_hits();
        self.engine.forget_hits();
        self.engine.only_observe(!enforcing);
        self.enforcing = enforcing;
        self.untold.in_force_from_now = enforcing;
        if enforcing {
            self.untold.not_enforced = self.engine.take_would_be();
        } else {
            // Nothing of ours is there any more: neither what is to be lifted nor what could differ.
            self.to_lift.clear();
            self.bans_behind = false;
            self.drift.in_sync = true;
            self.drift.checked = None;
        }
    }

    /// What is told each minute.
    pub(super) fn sums(&mut self) -> Sums {
        let lost = self.pump.losses();
        Sums {
            totals: self.totals(),
            uptime_s: self.began.1.elapsed().as_secs(),
            lost: lost.capture + lost.nflog + lost.nfqueue,
            flows: self.flow_count(),
        }
    }

    /// Brings the counters of this minute up to date.
    pub(super) fn count(&mut self, now: Timestamp) {
        let totals = self.totals();
        let fresh = totals.since(&self.counts.stored);
        if fresh != Totals::default() {
            self.store.minute(now, fresh);
        }
        self.counts.stored = totals;
    }

    /// Counts at once, for whoever asks.
    pub fn count_now(&mut self) {
        self.count(self.clock.now());
    }

    /// Matches of each rule since its policy came into force.
    pub(super) fn rule_hits(&mut self) -> Vec<u64> {
        let mut hits = self.engine.rule_hits().to_vec();
        if !self.enforcing {
            return hits;
        }
        let counters = self
            .datapath
            .as_mut()
            .and_then(|datapath| datapath.counters().ok())
            .unwrap_or_default();
        let inspected = self.pump.hits();
        for (at, hits) in hits.iter_mut().enumerate() {
            let id = RuleId(at as u32);
            let before = self.counts.rules.get(&id).copied().unwrap_or(0);
            // What workers decided the kernel has handed up uncounted.
            let by_workers = inspected.get(at).copied().unwrap_or(0);
            *hits = before + counters.of(Cause::Rule(id)).packets + by_workers;
        }
        hits
    }

    /// Forgets the rules' matches: another policy's rules come.
    pub(super) fn forget_hits(&mut self) {
        self.counts.rules.clear();
        self.pump.forget_hits();
    }

    /// How the firewall is.
    pub fn status(&mut self) -> api::Status {
        let totals = self.totals();
        let now = self.clock.now();
        let candidate = &self.in_force.candidate;
        let (eve, text) = self.recorder.sinks();
        let store = self.store.state();
        let (record_queue, store_queue) = (self.recorder.queue(), self.store.queue());
        let source_losses = self.pump.losses();
        let losses = api::Losses {
            capture: source_losses.capture,
            nflog: source_losses.nflog + self.counts.unread_log,
            nfqueue: source_losses.nfqueue,
            answers: source_losses.unsent,
            drop_events: self.engine.unrecorded_packets(),
            flow_events: self.unrecorded_flows(),
            flows_untold: self.counts.untold.count,
            flows_untold_since: self.counts.untold.since.map(api::Time::from),
            refusals: self.engine.untold_refusals(),
            store: store.lost,
            files: eve.lost + text.lost,
            record: record_queue.dropped,
            followers: self.recorder.missed(),
        };
        let mut queues = vec![record_queue, store_queue];
        queues.extend(source_losses.queues);
        let mut warnings = self.warnings(&[&eve, &text, &store]);
        warnings.extend(self.pump.warnings());
        api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            mode: self.mode().name().to_owned(),
            backends: self.backends(),
            policy: api::PolicyStatus {
                source: candidate.source.name(),
                digest: candidate.digest.clone(),
                rules: candidate.plan.rules.len(),
                sets: candidate.plan.sets.len(),
                applied: self.in_force.since.into(),
                rejected: self.watch.rejected(),
                lists: self.lists(),
            },
            drift: self.drift.clone(),
            losses,
            queues,
            uptime_s: self.began.1.elapsed().as_secs(),
            since: self.began.0.into(),
            interfaces: self.pump.interfaces(),
            detectors: self.detectors(),
            feeds: self.feeds(),
            dns: self.names(),
            essentials: essentials(&self.in_force.plan),
            protected: self.protected(),
            pending: self.pending(),
            totals,
            bans: self.engine.bans().filter(|ban| ban.expires > now).count(),
            flows: self.flow_count(),
            record: api::Record { eve, text, store },
            warnings,
        }
    }

    /// Flows tracked now: by the kernel when it enforces, else by the engine.
    fn flow_count(&self) -> usize {
        let kernels = || {
            std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        match self.enforcing.then(kernels).flatten() {
            Some(count) => count,
            None => self.engine.flows().count(),
        }
    }

    fn backends(&self) -> Vec<api::Backend> {
        let backend = |name: &str, state: &str, detail: String| api::Backend {
            name: name.to_owned(),
            state: state.to_owned(),
            detail,
        };
        let mut backends = vec![match (&self.no_datapath, self.enforcing) {
            (Some(why), _) => backend("nftables", "unavailable", why.clone()),
            (None, true) if !self.drift.in_sync => backend(
                "nftables",
                "failed",
                "the kernel does not hold what was applied; it is tried again each second"
                    .to_owned(),
            ),
            (None, true) => backend(
                "nftables",
                "running",
                "carries out rules and bans in the kernel".to_owned(),
            ),
            (None, false) => backend(
                "nftables",
                "unused",
                "nothing of ours is in the kernel".to_owned(),
            ),
        }];
        backends.extend(self.pump.backends());
        backends
    }

    fn warnings(&self, sinks: &[&api::Sink]) -> Vec<String> {
        let mut warnings = self.in_force.candidate.warnings.clone();
        if self.in_force.plan.mode == policy::Mode::Observe {
            let how = match self.mode_override {
                Some(_) => "run without --observe",
                None => {
                    "write mode = \"enforce\" into the policy, and `portcullis apply FILE --confirm 60s`"
                }
            };
            warnings.push(format!(
                "nothing is blocked: mode observe only shows what would be; to enforce, {how}"
            ));
        }
        if self.flushed {
            warnings.push("everything was taken out of the kernel by `flush`; `portcullis apply` puts the policy in force again, as its mode says".to_owned());
        }
        warnings.extend(self.allows_everybody());
        warnings.extend(self.begins_otherwise());
        if !self.drift.in_sync {
            warnings.extend(self.drift.last.clone());
        }
        if self.enforcing && !self.to_lift.is_empty() {
            warnings.push(format!(
                "the kernel still drops what {} covered; it is asked again each second",
                several(self.to_lift.len(), "lifted ban")
            ));
        } else if self.bans_behind {
            warnings.push(
                "the kernel does not hold every ban yet; it is tried again each second".to_owned(),
            );
        }
        warnings.extend(self.state.lists().not_kept());
        warnings.extend(self.state.unlocked().map(str::to_owned));
        warnings.extend(self.unsaved());
        for sink in sinks {
            if let Some(error) = &sink.error {
                let path = &sink.path;
                let place = if error.contains(path.as_str()) {
                    String::new()
                } else {
                    format!("{path}: ")
                };
                warnings.push(format!("the record is incomplete: {place}{error}"));
            }
        }
        warnings
    }

    fn protected(&self) -> Vec<api::Protected> {
        let plan = &self.in_force.candidate.plan;
        let mut protected: Vec<api::Protected> = Vec::new();
        let mut tell = |prefix: String, why: &str| {
            protected.push(api::Protected {
                prefix,
                why: why.to_owned(),
            });
        };
        for prefix in plan.protect.addresses.prefixes() {
            tell(prefix.to_string(), "policy");
        }
        for set in &plan.protect.sets {
            if let Some(set) = plan.sets.get(set.0 as usize) {
                tell(format!("@{}", set.name), "policy");
            }
        }
        for prefix in self.allowed.keys() {
            tell(prefix.to_string(), "allowed");
        }
        if plan.protect.discover {
            for (prefix, why) in &self.discovered.protected {
                tell(prefix.to_string(), why);
            }
        }
        protected
    }
}

fn essentials(plan: &Plan) -> Vec<api::Essential> {
    use engine::Essential;
    if !plan.essentials {
        return Vec::new();
    }
    let what = |kind: Essential| match kind {
        Essential::Loopback => "traffic of this host with itself",
        Essential::NeighbourDiscovery => "IPv6 neighbour discovery with hop limit 255",
        Essential::MulticastListener => "IPv6 multicast listener discovery",
        Essential::PathMtu => "ICMP messages about the largest packet a path takes",
        Essential::Dhcp => "replies of DHCP servers, and our requests",
        Essential::Dhcpv6 => "replies of DHCPv6 servers, and our requests",
    };
    Essential::ALL
        .iter()
        .map(|kind| api::Essential {
            name: kind.name().to_owned(),
            what: what(*kind).to_owned(),
        })
        .collect()
}
