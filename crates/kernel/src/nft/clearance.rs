//! What goes of our table when a policy comes into force, and what stays in it.

use super::TABLE;
use super::shield::{BAN_SETS, BanSet};
use super::state::{SetState, State};

/// Deletes everything in our table but ban sets that can stay and what `keeps` names, in the same transaction that makes it anew.
pub(super) fn clearance(
    present: &State,
    capacity: u32,
    keeps: impl Fn(&str, &SetState) -> bool,
) -> String {
    let mut text = format!("flush table inet {TABLE}\n");
    for (name, set) in &present.sets {
        let ban_set = BAN_SETS.into_iter().find(|ban| ban.name == name);
        let is_kept = match ban_set {
            Some(set) => stays(present, set, capacity),
            None => keeps(name, set),
        };
        if !is_kept {
            let kind = if set.is_map() { "map" } else { "set" };
            text.push_str(&format!("delete {kind} inet {TABLE} {name}\n"));
        }
    }
    for name in present.chains.keys() {
        text.push_str(&format!("delete chain inet {TABLE} {name}\n"));
    }
    for name in &present.objects {
        let kind = if name.starts_with("log_") || name.starts_with("limit_") {
            "limit"
        } else {
            "counter"
        };
        text.push_str(&format!("delete {kind} inet {TABLE} {name}\n"));
    }
    text
}

/// Whether a ban set is there and large enough. Not every kernel enlarges a set that exists; one that is larger than wanted
/// may hold more than would fit.
pub(super) fn stays(present: &State, set: BanSet, capacity: u32) -> bool {
    present
        .sets
        .get(set.name)
        .is_some_and(|held| held.size >= set.size(capacity))
}
