//! What this host and this process have of what Portcullis can use, and one sentence for each thing that is missing.

mod capability;

pub use capability::{Capability, has_capability};
