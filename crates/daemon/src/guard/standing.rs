//! What the policy in force says of an address beside bans: the feeds that hold it, and the rules that name it.

use ipnet::IpNet;
use policy::{AddressMatch, ListKind};

use super::Guard;
use super::ban::meets;
use crate::api;
use crate::record::explain::{action_name, short};

/// Rules that are named.
const RULES: usize = 3;

impl Guard {
    /// The feeds that hold the prefix, or a part of it.
    pub(super) fn feeds_with(&self, prefix: IpNet) -> Vec<api::WhyFeed> {
        let plan = &self.in_force.plan;
        let (first, last) = policy::address::prefix_range(prefix);
        plan.feeds
            .iter()
            .filter_map(|id| plan.sets.get(id.0 as usize))
            .filter(|set| meets(&set.addresses, prefix))
            .map(|set| {
                let ranges = set.addresses.ranges();
                // Ranges are merged: what holds both ends holds all between.
                let after = ranges.partition_point(|&(begin, _)| begin <= first);
                let lists = self.in_force.candidate.lists.iter();
                api::WhyFeed {
                    name: set.name.clone(),
                    files: lists
                        .filter(|list| list.kind == ListKind::Feed && list.set == set.name)
                        .map(|list| list.path.display().to_string())
                        .collect(),
                    whole: after > 0 && ranges[after - 1].1 >= last,
                }
            })
            .collect()
    }

    /// The first rules that name all of the prefix as source or destination, in short.
    pub(super) fn rules_naming(&self, prefix: IpNet) -> Vec<String> {
        let plan = &self.in_force.plan;
        let names = |address: &AddressMatch| {
            // A prefix as wide as a family names nobody.
            *address != AddressMatch::Any
                && prefix.prefix_len() > 0
                && address.matches(prefix.network(), &plan.sets)
                && address.matches(prefix.broadcast(), &plan.sets)
        };
        plan.rules
            .iter()
            .filter(|rule| names(&rule.from) || names(&rule.to))
            .take(RULES)
            .map(|rule| {
                let action = action_name(rule.action);
                format!(
                    "\"{}\" ({action}, {}:{})",
                    rule.name, rule.position.file, rule.position.line
                )
            })
            .collect()
    }
}

/// `the feed @drop (lists/drop.netset)`.
pub(crate) fn feed_text(feed: &api::WhyFeed) -> String {
    match feed.files.as_slice() {
        [] => format!("the feed @{}", feed.name),
        files => format!("the feed @{} ({})", feed.name, files.join(", ")),
    }
}

/// Why an address that no ban names stays shut out.
pub(super) fn in_feed(prefix: IpNet, feeds: &[api::WhyFeed]) -> Option<String> {
    let feed = feeds.first()?;
    let name = short(prefix);
    Some(format!(
        "no ban holds {name}: {} drops it; `portcullis allow {name}` lets it past",
        feed_text(feed)
    ))
}
