//! A policy file for the verbs that need no daemon: `check`, `compile`, `test`, `replay`.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use policy::{Diagnostic, Policy, Timestamp};

use crate::failure::Failure;
use crate::screen::{spinner, visible};

/// A policy that can be used.
///
/// # Errors
/// The file may not be read, or every error in it.
pub(crate) fn load(file: &Path) -> Result<Policy, Failure> {
    let (policy, diagnostics) = examine(file)?;
    policy.ok_or_else(|| invalid(&diagnostics, &file.display().to_string()))
}

/// A policy, if it can be used, and everything that is wrong with it.
///
/// # Errors
/// The file may not be read. One that is not there is a diagnostic.
pub(crate) fn examine(file: &Path) -> Result<(Option<Policy>, Vec<Diagnostic>), Failure> {
    if let Err(why) = File::open(file)
        && why.kind() == io::ErrorKind::PermissionDenied
    {
        return Err(Failure::file("read", file, &why));
    }
    let spinner = spinner(&format!("reading {} and its lists", file.display()));
    let loaded = policy::load_path(file);
    spinner.finish_and_clear();
    Ok((loaded.policy, loaded.diagnostics))
}

/// The time, as far as a policy needs it: for rules that expire.
///
/// # Errors
/// A clock before 1970.
pub(crate) fn now() -> Result<Timestamp, Failure> {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| Failure::Failed("the clock stands before 1970; set it".into()))?;
    Ok(Timestamp::from_nanos(
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
    ))
}

fn invalid(diagnostics: &[Diagnostic], name: &str) -> Failure {
    let errors: Vec<String> = diagnostics
        .iter()
        .filter(|found| found.is_error())
        .map(|found| visible(&found.to_string()))
        .collect();
    Failure::InvalidPolicy(format!(
        "{}\n{name} cannot be used: mend what is listed above",
        errors.join("\n")
    ))
}
