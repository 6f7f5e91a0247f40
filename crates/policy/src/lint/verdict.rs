//! When two rules decide alike.

use std::mem::discriminant;

use crate::plan::{Action, DefaultAction, Rule};

/// As a sentence needs it, without its s.
pub(super) fn name(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "denie",
        Action::Reject => "reject",
        Action::Limit => "limit",
        Action::Ban(_) => "ban",
    }
}

/// Whether packets get through, if perhaps not all of them.
pub(super) fn passes(action: Action) -> bool {
    matches!(action, Action::Allow | Action::Limit)
}

/// Whether it makes no difference which of the two decides. A rule that records what the other does not is different.
pub(super) fn alike(first: &Rule, second: &Rule) -> bool {
    discriminant(&first.action) == discriminant(&second.action)
        && first.rate == second.rate
        && (first.log || !second.log)
}

/// Whether the default does what the action does.
pub(super) fn is_default(action: Action, default: DefaultAction) -> bool {
    matches!(
        (action, default),
        (Action::Allow, DefaultAction::Allow)
            | (Action::Deny, DefaultAction::Deny)
            | (Action::Reject, DefaultAction::Reject)
    )
}
