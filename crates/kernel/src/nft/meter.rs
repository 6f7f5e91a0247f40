//! What somebody else puts into the sets that packets fill with their token buckets.
//!
//! The kernel takes an element without a bucket, or with another bucket than the rule's, and the rule then measures its source by that:
//! never, or as generously as somebody wrote. Each packet of the source prolongs it, so that it lasts as long as the source sends. A
//! `limit` rule lets such a source pass, and a detector bans it with its first packet. What packets put there has the bucket that their
//! rule says; what has not is somebody else's. An element that is taken out is a bucket that is full again, as for who was silent:
//! that does no harm, and is not looked for.
//!
//! The sets of loud ports hold no buckets, but who stands there is logged less. What packets put there stays for as long as the set says; what
//! somebody gave a time of its own, or none, would keep a port's scans out of the log for that long.
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

    /// A look is over. It is still due where not all was seen, and at once where something was found: that is told until it is put
    /// right, which empties the sets.
    fn done(&mut self, begun: Instant, seen: Seen) {
        self.is_due = seen != Seen::Clean;
        let now = Instant::now();
        let pause = (now - begun) * SHARE;
        self.not_before = now.checked_add(pause).filter(|_| seen != Seen::Strangers);
    }
}

/// What a look has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// All, and nothing strange.
    Clean,
    /// Something strange.
    Strangers,
    /// Not all, and nothing strange so far.
    Part,
}

/// The sets that hold what no packet put there: one line each. What changes meanwhile is looked at again the next time.
pub(super) fn strangers(
    socket: &mut Socket,
    state: &State,
    look: &mut Look,
) -> Result<Vec<String>, NetlinkError> {
    let begun = Instant::now();
    let mut found = Vec::new();
    let looked = look_at_all(socket, state, &mut found);
    look.done(
        begun,
        match &looked {
            _ if !found.is_empty() => Seen::Strangers,
            Ok(()) => Seen::Clean,
            Err(_) => Seen::Part,
        },
    );
    match looked {
        Ok(()) | Err(NetlinkError::Changed) => Ok(found),
        Err(why) => Err(why),
    }
}

fn look_at_all(
    socket: &mut Socket,
    state: &State,
    found: &mut Vec<String>,
) -> Result<(), NetlinkError> {
    let mut look_at = |set: &str, is_strange: &dyn Fn(Attributes<'_>) -> bool| {
        let mut any = false;
        elements(socket, set, |element| any |= is_strange(element))?;
        if any {
            found.push(format!("set {set} has an entry that no packet made"));
        }
        Ok(())
    };
    for (set, buckets) in &state.buckets {
        if !crowd::LOGGED.iter().any(|begin| set.starts_with(begin)) {
            look_at(set, &|element| {
                let bucket = element.get(attribute::ELEMENT_EXPRESSION);
                let bucket = bucket.map(|bucket| digest(bucket.nested()));
                bucket.is_none_or(|bucket| !buckets.contains(&bucket))
            })?;
        }
    }
    let sets = state.sets.iter();
    for (name, set) in sets.filter(|(name, set)| set.is_meter() && name.starts_with(crowd::LOUD)) {
        look_at(name, &|element| !stays_as_set(element, set.timeout))?;
    }
    Ok(())
}

/// Whether an element stays for as long as its set says. The kernel tells an element's time where packets made it, and where somebody
/// named another than the set's; what stays for good may have none, and never has an end.
fn stays_as_set(element: Attributes<'_>, timeout: u64) -> bool {
    let own = element.get(attribute::ELEMENT_TIMEOUT);
    let own = own.map_or(Some(timeout), |own| own.be64());
    own == Some(timeout) && element.get(attribute::ELEMENT_EXPIRATION).is_some()
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
