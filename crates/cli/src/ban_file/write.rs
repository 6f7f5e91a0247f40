//! The forms in which bans are written, and a file that is written whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use clap::ValueEnum;
use daemon::api::{Ban, PlainBans};
use daemon::record::escape::write_json;

use super::{csv, nft};
use crate::failure::Failure;
use crate::prefix::IpNetOrAddress;

/// How bans are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Everything that is known of each; `bans import` takes it back.
    #[default]
    Json,
    /// A table with a header.
    Csv,
    /// A script for `nft -f` with sets and timeouts.
    Nft,
    /// An address or prefix on each line.
    Plain,
    /// An object of addresses and the second each was banned, like banned_ips.json.
    BannedIps,
}

/// The bans in this form.
///
/// # Errors
///
/// When they cannot be written as JSON.
pub(crate) fn write(bans: &[Ban], form: Form) -> Result<Vec<u8>, Failure> {
    let short = |ban: &Ban| IpNetOrAddress(ban.prefix).to_string();
    let text = match form {
        Form::Json => return json(&bans),
        Form::BannedIps => {
            let plain: PlainBans = bans
                .iter()
                .map(|ban| (short(ban), ban.since.0.as_nanos() as f64 / 1e9))
                .collect::<BTreeMap<_, _>>();
            return json(&plain);
        }
        Form::Csv => csv::write(bans),
        Form::Nft => nft::write(bans),
        Form::Plain => bans.iter().map(|ban| short(ban) + "\n").collect(),
    };
    Ok(text.into_bytes())
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    write_json(value, &mut bytes)
        .map_err(|why| Failure::Failed(format!("the bans cannot be written as JSON: {why}")))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Puts the bytes in the file's place, so that whoever reads it finds the old ones or the new.
///
/// # Errors
///
/// When the disk refuses; then the file is as it was.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |why: io::Error| Failure::file("write", path, &why);
    if path.symlink_metadata().is_ok_and(|about| !about.is_file()) {
        return Err(Failure::Usage(format!(
            "{} is no regular file; leave --output out to write to standard output",
            path.display()
        )));
    }
    let Some(name) = path.file_name() else {
        return Err(Failure::Usage(format!("{} names no file", path.display())));
    };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let written = (|| {
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(|why: io::Error| {
        // What is left of it helps nobody.
        let _ = fs::remove_file(&temporary);
        failed(why)
    })
}
