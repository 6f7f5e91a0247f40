//! What a list holds, as a text: an address, a range or a name on each line; and its digest.

use std::fmt::Write as _;

use policy::{Entries, address_key, key_address};
use sha1::{Digest, Sha1};

/// The first 16 hexadecimal digits of the SHA-1 of what a list holds, however it was written.
pub(crate) fn digest(entries: &Entries) -> String {
    let mut hash = Sha1::new();
    match entries {
        Entries::Addresses(addresses) => {
            for (first, last) in addresses.ranges() {
                hash.update(first.to_be_bytes());
                hash.update(last.to_be_bytes());
            }
        }
        Entries::Names(names) => hash.update(names.text()),
    }
    hex(&hash.finalize()[..8])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A range or a name on each line.
pub(super) fn written(entries: &Entries) -> String {
    let addresses = match entries {
        Entries::Addresses(addresses) => addresses,
        Entries::Names(names) => return names.text().to_owned(),
    };
    let mut text = String::new();
    for &(first, last) in addresses.ranges() {
        let (first, last) = (key_address(first), key_address(last));
        // Writing to a string does not fail.
        let _ = if first == last {
            writeln!(text, "{first}")
        } else {
            writeln!(text, "{first}-{last}")
        };
    }
    text
}

pub(super) fn range(line: &str) -> Option<(u128, u128)> {
    let (first, last) = line.split_once('-').unwrap_or((line, line));
    Some((
        address_key(first.parse().ok()?),
        address_key(last.parse().ok()?),
    ))
}
