//! What happens to the firewall itself, beside what happens to packets: the record holds both.

use policy::Timestamp;

/// One thing that happened to the firewall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// When.
    pub at: Timestamp,
    /// What kind of thing.
    pub kind: NoticeKind,
    /// One sentence for people.
    pub text: String,
}

/// Kinds of notices: each is an `event_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoticeKind {
    /// Somebody else changed what is ours in the kernel, and it was put back.
    Drift,
    /// A policy came into force, was refused, confirmed or rolled back.
    Policy,
    /// The daemon began or ended, or a part of it failed or came back.
    Daemon,
}

impl NoticeKind {
    /// As `event_type` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::Policy => "policy",
            Self::Daemon => "daemon",
        }
    }
}
