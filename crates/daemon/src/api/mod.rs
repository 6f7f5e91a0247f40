//! The words of the control API: every request and response under [`PREFIX`] on the Unix socket, as serde types.
//!
//! No behaviour lives here: the server fills these types, the command line and the dashboard read them. Shapes are a contract;
//! fields may be added, none removed or renamed. Times are RFC 3339 in UTC with microseconds, durations are seconds.
//!
//! | method and path (below `/api/v1`) | request | response |
//! |---|---|---|
//! | `GET status` | | [`Status`] |
//! | `GET rules` | | `[`[`Rule`]`]` |
//! | `GET sets` | | `[`[`Set`]`]` |
//! | `GET sets/{name}` | | [`SetAddresses`] |
//! | `GET flows` | query [`FlowQuery`] | `[`[`Flow`]`]` |
//! | `GET events` | query [`EventQuery`] | EVE objects, newest first; with `follow=true` NDJSON, oldest first, without end |
//! | `GET stats` | query [`StatsQuery`] | [`Stats`] |
//! | `GET why/{subject}` | an address, a prefix or an event's number | [`Why`] |
//! | `GET bans` | | `[`[`Ban`]`]` |
//! | `POST bans` | [`BanRequest`] | [`Ban`] |
//! | `DELETE bans` | query [`UnbanQuery`] | [`Unbanned`] |
//! | `POST bans/import` | [`BanImport`] | [`Imported`] |
//! | `GET allow` | | `[`[`Allowed`]`]` |
//! | `POST allow` | [`AllowRequest`] | [`Allowed`] |
//! | `DELETE allow` | query [`AllowQuery`] | [`Disallowed`] |
//! | `GET policy` | | [`PolicyText`] |
//! | `GET policy/history` | | `[`[`PolicyVersion`]`]` |
//! | `POST policy/apply` | [`ApplyRequest`] | [`Applied`] |
//! | `POST policy/confirm` | | [`Applied`] |
//! | `POST policy/rollback` | | [`Applied`] |
//! | `POST policy/reload` | | [`Applied`] |
//! | `POST flush` | | [`Flushed`] |
//! | `POST test` | [`TestRequest`] | `[`[`TestResult`]`]` |
//! | `POST dns/test` | [`DnsTestRequest`] | `[`[`DnsTestResult`]`]` |
//!
//! Every failure is an [`Error`] with a status that says its kind: 400 the request makes no sense, 403 the caller may not, 404
//! no such thing, 409 not now (nothing to confirm, another apply pending, refused without `force`), 422 the policy is invalid
//! (with `findings`), 503 the engine does not answer.

mod ban;
mod dns;
mod event;
mod policy;
mod status;
mod test;
mod time;
mod totals;

pub use ban::{
    AllowQuery, AllowRequest, Allowed, Ban, BanImport, BanRequest, Disallowed, Evidence, Imported,
    ImportedBan, NotImported, PlainBans, UnbanQuery, Unbanned,
};
pub use dns::{DnsTestRequest, DnsTestResult};
pub use event::{
    BanHistory, Decided, EventQuery, FLOWS, Flow, FlowQuery, Minute, Stats, StatsQuery, TopDenied,
    Why, WhyCount, WhyFeed,
};
pub use policy::{
    Applied, ApplyRequest, Finding, Flushed, Format, PolicyText, PolicyVersion, Rule, Set,
    SetAddresses, Severity,
};
pub use status::{
    Backend, DetectorStatus, DnsStatus, Drift, Essential, FeedFile, FeedStatus, List, Losses,
    Pending, PolicyStatus, Protected, Queue, Record, Sink, Stale, Status,
};
pub use test::{TestPacket, TestRequest, TestResult};
pub use time::Time;
pub use totals::Totals;

use serde::{Deserialize, Serialize};

/// What every path begins with.
pub const PREFIX: &str = "/api/v1";

/// Where the socket is when nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/portcullis/api.sock";

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Error {
    /// One sentence with the mend.
    pub error: String,
    /// For an invalid policy: everything that is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}
