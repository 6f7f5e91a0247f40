//! Network namespaces for tests, benchmarks and the demonstration: made, used, gone.
//!
//! A [`Netns`] is a named network namespace that vanishes when the value is dropped, also by a panic. [`veth`] joins two of
//! them, [`Topology`] is the usual three (client, attacker, server). Everything that is run has a time limit, and everything
//! that is started is stopped. Nothing here touches the namespace the caller lives in.
//!
//! It needs root and iproute2; [`available`] says so beforehand. A test without them prints the reason and returns:
//!
//! ```no_run
//! if let Err(why) = portcullis_lab::available() {
//!     eprintln!("SKIPPED: {why}");
//!     return;
//! }
//! let server = portcullis_lab::Netns::new("server").expect("root and iproute2 are there");
//! assert!(server.run("ip", &["-br", "link"]).expect("ip works").contains("lo"));
//! ```

mod link;
mod live_frames;
mod netns;
mod process;
mod tap;
mod topology;
mod web;

pub use link::veth;
pub use live_frames::LiveFrames;
pub use netns::{Netns, available};
pub use process::{Guard, TIME_LIMIT};
pub use tap::{Ears, Heard, Mouth, Tap, stay_on_one_processor};
pub use topology::Topology;
pub use web::Web;
