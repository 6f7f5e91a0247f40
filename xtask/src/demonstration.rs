//! `make lab`: the firewall in front of real services, in network namespaces that are gone afterwards.

use anyhow::bail;

/// Runs it.
pub(crate) fn run() -> anyhow::Result<()> {
    if let Err(why) = lab::available() {
        bail!("{why}");
    }
    Ok(())
}
