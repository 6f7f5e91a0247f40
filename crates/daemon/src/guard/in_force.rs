//! What the policy in force has beside rules and sets, as `status` shows it: detectors, feeds, names.

use policy::{Detect, ListKind, Response};

use super::Guard;
use crate::api;

impl Guard {
    /// The detectors that are on, by the names that the policy has for them.
    pub(super) fn detectors(&self) -> Vec<api::DetectorStatus> {
        let Detect {
            blocked,
            rate,
            payload,
            scan,
            syn_flood,
            icmp_flood,
            udp_flood,
            brute,
        } = &self.in_force.plan.detect;
        [
            ("scan", scan.as_ref().map(|set| set.response)),
            ("brute", brute.as_ref().map(|set| set.response)),
            ("blocked", blocked.as_ref().map(|set| set.response)),
            ("payload", payload.as_ref().map(|set| set.response)),
            ("rate", rate.as_ref().map(|set| set.response)),
            ("syn_flood", syn_flood.as_ref().map(|set| set.response)),
            ("icmp_flood", icmp_flood.as_ref().map(|set| set.response)),
            ("udp_flood", udp_flood.as_ref().map(|set| set.response)),
        ]
        .into_iter()
        .filter_map(|(name, response)| {
            let response = match response? {
                Response::Alert => "alert",
                Response::Limit => "limit",
                Response::Ban => "ban",
            };
            Some(api::DetectorStatus {
                name: name.to_owned(),
                response: response.to_owned(),
            })
        })
        .collect()
    }

    /// The feeds, with what each holds in all.
    pub(super) fn feeds(&self) -> Vec<api::FeedStatus> {
        let (plan, candidate) = (&self.in_force.plan, &self.in_force.candidate);
        plan.feeds
            .iter()
            .filter_map(|id| plan.sets.get(id.0 as usize))
            .map(|set| {
                let lists = candidate.lists.iter();
                let files =
                    lists.filter(|list| list.kind == ListKind::Feed && list.set == set.name);
                api::FeedStatus {
                    name: set.name.clone(),
                    ranges: set.addresses.ranges().len(),
                    files: files
                        .map(|list| api::FeedFile {
                            path: list.path.display().to_string(),
                            // What was read, not what may lie there now: no file is asked here.
                            modified: candidate
                                .stamps
                                .get(&list.path)
                                .and_then(|stamp| Some((*stamp)?.modified().into())),
                        })
                        .collect(),
                }
            })
            .collect()
    }

    /// What `[dns]` blocks, if the policy has it.
    pub(super) fn names(&self) -> Option<api::DnsStatus> {
        let filter = self.in_force.plan.dns.as_ref()?;
        let mut lists: Vec<String> = filter
            .names
            .sources()
            .iter()
            .filter_map(|source| match source {
                policy::names::Source::List(path) => Some(path.clone()),
                policy::names::Source::Policy(_) | policy::names::Source::Unknown => None,
            })
            .collect();
        lists.sort();
        lists.dedup();
        Some(api::DnsStatus {
            blocked: filter.names.blocked().len(),
            allowed: filter.names.allowed().len(),
            lists,
            answer: filter.answer.name().to_owned(),
        })
    }
}
