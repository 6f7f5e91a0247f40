//! Making a listing of nft loadable again.
//!
//! `nft list table` writes what `nft -f` reads, but for two things: dates, which are read in the reader's time zone, and the
//! elements of meters, which hold the state of token buckets and would be read as something else. What the kernel had to tell of its
//! own bans is left out too: it is of then.
//!
//! A ruleset that comes back stands behind the one that it replaces (see [`Slot`](super::Slot)).

use super::crowd;
use super::element;
use super::flood::METERS;
use super::own_ban;
use super::shield::BAN_SETS;
use crate::datapath::{HeldBan, Snapshot};
use crate::netlink::Socket;

/// The listing (made in UTC, priorities as numbers) without what does not load, or would load as something else, and with
/// the chains `later` by so much.
pub(super) fn reloadable(listing: &str, later: i32) -> String {
    let is_meter = |set: &str| {
        let own = [own_ban::BEGINS, "limit_"];
        let mut begins = METERS.iter().chain(&crowd::SETS).chain(&own);
        begins.any(|begin| set.starts_with(begin))
    };
    let mut text = String::with_capacity(listing.len());
    for line in without_elements(listing, is_meter) {
        // Of the table: somebody made it dormant.
        if line.starts_with("\tflags ") {
            continue;
        }
        match seconds(line).or_else(|| priority(line, later)) {
            Some((before, number, after)) => text.push_str(&format!("{before}{number}{after}")),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// The lines of a listing but for the elements of some sets, told by what stands behind the word `set` or `map`.
fn without_elements(
    listing: &str,
    is_left_out: impl Fn(&str) -> bool,
) -> impl Iterator<Item = &str> {
    let (mut left_out, mut skipping) = (false, false);
    listing.lines().filter(move |line| {
        let trimmed = line.trim();
        let name = (trimmed.strip_prefix("set ")).or_else(|| trimmed.strip_prefix("map "));
        if let Some(name) = name {
            left_out = is_left_out(name);
        }
        let begins = left_out && trimmed.starts_with("elements = {");
        let is_skipped = skipping || begins;
        skipping = is_skipped && !trimmed.ends_with('}');
        !is_skipped
    })
}

/// The script of a snapshot, with the bans of now in place of those that were held when it was taken. To be tried before the script as
/// it is: sets of another size may not hold them.
#[must_use]
pub fn script_with_bans(snapshot: &Snapshot) -> Option<String> {
    let mut socket = Socket::open(libc::NETLINK_NETFILTER).ok()?;
    let bans = element::all(&mut socket).ok()?;
    Some(with_bans(&snapshot.script, &bans))
}

/// The script with these bans and no others. As it is where it makes no sets for them: a table that was not there, or of another
/// version.
pub(super) fn with_bans(script: &str, bans: &[HeldBan]) -> String {
    let head = |name: &str| format!("{name} {{");
    let has = |name: &str| script.contains(&format!("\tset {}\n", head(name)));
    if !BAN_SETS.iter().all(|set| has(set.name)) {
        return script.to_owned();
    }
    let is_ban_set = |name: &str| BAN_SETS.iter().any(|set| name == head(set.name));
    let mut text = String::with_capacity(script.len());
    for line in without_elements(script, is_ban_set) {
        text.push_str(line);
        text.push('\n');
    }
    text + &element::script(bans)
}

/// `meta time < "2030-01-01 00:00:00"`: what is before, the seconds since 1970, and what is after.
fn seconds(line: &str) -> Option<(&str, i64, &str)> {
    const BEGIN: &str = "meta time < ";
    let at = line.find(BEGIN)? + BEGIN.len();
    let (before, rest) = line.split_at(at);
    let (date, after) = rest.strip_prefix('"')?.split_once('"')?;
    let time = policy::Timestamp::parse_rfc3339(&format!("{}Z", date.replacen(' ', "T", 1)))?;
    Some((before, i64::try_from(time.as_secs()).ok()?, after))
}

/// `type filter hook input priority -40; policy accept;`: what is before, the new priority, and what is after.
fn priority(line: &str, later: i32) -> Option<(&str, i64, &str)> {
    const BEGIN: &str = " priority ";
    line.trim_start().strip_prefix("type filter hook ")?;
    let (before, rest) = line.split_at(line.find(BEGIN)? + BEGIN.len());
    let (number, _) = rest.split_once(';')?;
    let priority: i64 = number.trim().parse().ok()?;
    Some((before, priority + i64::from(later), &rest[number.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_become_seconds_buckets_go_and_chains_stand_later() {
        let listing = "table inet portcullis {\n\tflags dormant\n\tset limit_1_v4 {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1 limit rate 5/second timeout 3s expires 2s,\n\t\t\t     10.0.0.2 limit rate 5/second timeout 3s expires 2s }\n\t}\n\tset ban4 {\n\t\telements = { 1.2.3.4 }\n\t}\n\tmap banned_by_v4 {\n\t\telements = { 1.2.3.4 : 0x00000007 }\n\t}\n\tchain x {\n\t\ttype filter hook input priority -40; policy accept;\n\t\tmeta time < \"2030-01-01 00:00:00\" goto rule_1\n\t}\n}\n";
        let wanted = "table inet portcullis {\n\tset limit_1_v4 {\n\t\ttype ipv4_addr\n\t}\n\tset ban4 {\n\t\telements = { 1.2.3.4 }\n\t}\n\tmap banned_by_v4 {\n\t}\n\tchain x {\n\t\ttype filter hook input priority -38; policy accept;\n\t\tmeta time < 1893456000 goto rule_1\n\t}\n}\n";
        assert_eq!(reloadable(listing, 2), wanted);
        assert_eq!(reloadable(wanted, 0), wanted);
        assert_eq!(with_bans(wanted, &[]), wanted, "no sets for all bans");
    }

    #[test]
    fn the_bans_of_now_stand_in_place_of_those_before() {
        let sets = BAN_SETS.map(|set| {
            format!(
                "\tset {} {{\n\t\ttype x\n\t\telements = {{ 1.2.3.4,\n\t\t\t     5.6.7.8 }}\n\t}}\n",
                set.name
            )
        });
        let others = "\tset office {\n\t\telements = { 1.2.3.4 }\n\t}\n";
        let script = format!("table inet portcullis {{\n{}{others}}}\n", sets.concat());
        let ban = HeldBan {
            prefix: ipnet::IpNet::from(std::net::IpAddr::from([9, 9, 9, 9])),
            remaining: None,
        };
        let with = with_bans(&script, &[ban]);
        assert_eq!(with.matches("1.2.3.4").count(), 1, "{with}");
        assert!(!with.contains("5.6.7.8"), "{with}");
        let end = "add element inet portcullis ban4 {\n\t9.9.9.9\n}\n";
        assert!(with.ends_with(end), "{with}");
    }
}
