//! JSON: what `bans export` writes, an object of addresses and seconds (`banned_ips.json`), or an array of addresses.

use daemon::api::{ImportedBan, PlainBans};
use policy::Timestamp;
use serde_json::Value;

use super::{Bad, Found, Wish, begun, open_ended};

/// Reads it; one bad entry costs itself alone.
///
/// # Errors
///
/// Why it is no JSON, or none that could hold bans.
pub(super) fn read(bytes: &[u8], wish: Wish) -> Result<Found, String> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|why| format!("it is no JSON ({why})"))?;
    match value {
        Value::Array(entries) => Ok(array(entries, wish)),
        Value::Object(entries) => object(entries, wish),
        _ => Err("it is neither an array nor an object".to_owned()),
    }
}

fn array(entries: Vec<Value>, wish: Wish) -> Found {
    let mut bad = Bad::default();
    let mut bans = Vec::new();
    for (at, entry) in entries.into_iter().enumerate() {
        let entry = match entry {
            Value::String(prefix) => {
                bans.push(open_ended(prefix, None, wish));
                continue;
            }
            Value::Object(entry) if entry.get("prefix").is_some_and(Value::is_string) => entry,
            Value::Object(_) => {
                bad.add(|| format!("entry {}: it names no address in \"prefix\"", at + 1));
                continue;
            }
            other => {
                let what = "is neither an address nor an object with a \"prefix\"";
                bad.add(|| format!("entry {}: {} {what}", at + 1, kind(&other)));
                continue;
            }
        };
        match serde_json::from_value::<ImportedBan>(entry.into()) {
            Ok(ban) if ban.since.is_none() && ban.expires.is_none() => {
                bans.push(ImportedBan {
                    reason: ban.reason,
                    times_banned: ban.times_banned,
                    ..open_ended(ban.prefix, None, wish)
                });
            }
            Ok(ban) => bans.push(ban),
            Err(why) => bad.add(|| format!("entry {}: {why}", at + 1)),
        }
    }
    Found::full("JSON", bans, bad)
}

/// What a value is, in a word or as it stands.
fn kind(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    }
}

/// Address → the second in which the ban began, as a number or as a text of one.
fn object(entries: serde_json::Map<String, Value>, wish: Wish) -> Result<Found, String> {
    let mut bad = Bad::default();
    let mut bans = PlainBans::new();
    // Of one that is none of this, all that is wrong is one thing.
    let mut is_ours = entries.is_empty();
    for (address, begin) in entries {
        let seconds = match &begin {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(seconds) = seconds else {
            bad.add(|| format!("{address:?}: {begin} is no number of seconds"));
            continue;
        };
        is_ours = true;
        match Timestamp::from_secs_f64(seconds) {
            Ok(_) => drop(bans.insert(address, seconds)),
            Err(why) => bad.add(|| format!("{address:?}: {begin} {why}")),
        }
    }
    if !is_ours {
        return Err(format!(
            "it must be what `bans export` writes, or an object of addresses and seconds ({})",
            bad.first.join("; ")
        ));
    }
    Ok(Found {
        form: "an object of addresses and the second in which each was banned",
        bans: begun(bans, wish),
        expired: 0,
        bad,
    })
}
