//! What somebody else puts into the sets that packets fill with their token buckets.
//!
//! The kernel takes an element without a bucket, or with another bucket than the rule's, and the rule then measures its source by that:
//! never, or as generously as somebody wrote. Each packet of the source prolongs it, so that it lasts as long as the source sends. A
//! `limit` rule lets such a source pass, and a detector bans it with its first packet. What packets put there has the bucket that their
//! rule says; what has not is somebody else's. An element that is taken out is a bucket that is full again, as for who was silent:
//! that does no harm, and is not looked for.
//!
//! Looking costs what listing the sets costs, which a flood can fill. So it is done after others changed nftables, and for a small part
//! of the time.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::time::Instant;

use crate::netlink::{Attributes, NetlinkError, Socket};

use super::crowd;
use super::message::attribute;
use super::state::{State, elements};

/// Looking may take one part in so many of the time.
const SHARE: u32 = 20;

/// Whether the meters are to be looked at, and from when on they may be.
#[derive(Debug)]
pub(super) struct Look {
    is_due: bool,
    not_before: Option<Instant>,
}

impl Look {
    pub(super) const fn new() -> Self {
        Self {
            is_due: false,
            not_before: None,
        }
    }

    /// Somebody else has changed nftables.
    pub(super) fn ask(&mut self) {
        self.is_due = true;
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.is_due && self.not_before.is_none_or(|moment| moment <= now)
    }

    /// A look is over; it is still due where something was found, as that may stay.
    fn done(&mut self, begun: Instant, is_clean: bool) {
        self.is_due = !is_clean;
        let now = Instant::now();
        let pause = (now - begun) * SHARE;
        self.not_before = now.checked_add(pause).filter(|_| is_clean);
    }
}

/// The sets that hold buckets that no packet put there: one line each. What changes meanwhile is looked at again the next time.
pub(super) fn strangers(
    socket: &mut Socket,
    state: &State,
    look: &mut Look,
) -> Result<Vec<String>, NetlinkError> {
    let begun = Instant::now();
    let mut found = Vec::new();
    for (set, buckets) in &state.buckets {
        // Whoever is in these is logged, and nothing else.
        if crowd::SETS.iter().any(|begin| set.starts_with(begin)) {
            continue;
        }
        let mut is_strange = false;
        let listed = elements(socket, set, |element| {
            let bucket = element.get(attribute::ELEMENT_EXPRESSION);
            let bucket = bucket.map(|bucket| digest(bucket.nested()));
            is_strange |= bucket.is_none_or(|bucket| !buckets.contains(&bucket));
        });
        match listed {
            Ok(()) if is_strange => {
                found.push(format!("set {set} has an entry that no packet made"));
            }
            Ok(()) => {}
            Err(NetlinkError::Changed) => return Ok(found),
            Err(why) => return Err(why),
        }
    }
    look.done(begun, found.is_empty());
    Ok(found)
}

/// A digest of an expression (`NFTA_EXPR_*`): its name and its terms. Padding, which is empty, is none of it.
pub(super) fn digest(expression: Attributes<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let value = |kind| expression.get(kind).map(|part| part.value);
    value(attribute::EXPRESSION_NAME).hash(&mut hasher);
    let terms = expression.get(attribute::EXPRESSION_DATA);
    for term in terms.iter().flat_map(|terms| terms.nested()) {
        if !term.value.is_empty() {
            (term.kind, term.value).hash(&mut hasher);
        }
    }
    hasher.finish()
}
