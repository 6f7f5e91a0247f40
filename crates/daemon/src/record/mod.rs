//! The record: events on their way to `eve.json`, `firewall.log`, the store and whoever follows. Nothing here decides anything,
//! and nothing here makes a packet wait.

pub mod ban;
pub mod community_id;
pub mod escape;
pub mod eve;
pub mod explain;
pub mod notice;
pub mod proto;
pub mod recorder;
pub mod text;
pub mod writer;

pub use eve::{Context, Eve, StatsLine, Sums};
pub use explain::decided;
pub use notice::{Notice, NoticeKind};
pub use recorder::Recorder;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
