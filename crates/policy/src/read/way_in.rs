//! Whether a policy that is enforced leaves a way in for those who look after the host.

use crate::plan::{Action, DefaultAction, Direction, Mode, Plan, Rule};
use crate::protocol;
use crate::report::Report;
use crate::tree::Node;

/// Where an SSH server listens unless it is told otherwise (RFC 4253, 4.1).
const SSH: u16 = 22;

/// Warns at `mode` when inbound is denied, and no rule lets anybody in to an SSH server.
pub(super) fn check(plan: &Plan, mode: &Node, report: &mut Report) {
    let is_open = plan.default.inbound == DefaultAction::Allow;
    if plan.mode != Mode::Enforce || is_open || plan.rules.iter().any(is_way_in) {
        return;
    }
    report
        .warning(
            mode.span,
            "no-way-in",
            "enforced, this policy lets nobody in to tcp port 22: who looks after this host by SSH is locked out",
        )
        .expected(
            "a rule that allows tcp to port 22, or to the port where its SSH server listens, with ssh in its name",
        );
}

/// Whether it lets somebody in to SSH: by its port, or by its name where the server listens elsewhere.
fn is_way_in(rule: &Rule) -> bool {
    matches!(rule.action, Action::Allow | Action::Limit)
        && rule.directions.contains(Direction::In)
        && rule.protocols.contains(protocol::TCP)
        && rule.content.is_none()
        && (rule.port.matches(Some(SSH)) || rule.name.to_ascii_lowercase().contains("ssh"))
}
