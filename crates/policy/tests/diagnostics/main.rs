//! What users read when a policy is wrong: every code at its exact place, all mistakes at once, and nothing twice.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot set up its own files has failed"
)]

mod codes;
mod elsewhere;
mod files;
mod forty;
mod kept;
mod marks;
mod mistakes;
mod shared_lists;
