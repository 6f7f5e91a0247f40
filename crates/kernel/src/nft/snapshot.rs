//! Making a listing of nft loadable again.
//!
//! `nft list table` writes what `nft -f` reads, but for two things: dates, which are read in the reader's time zone, and the
//! elements of meters, which hold the state of token buckets and would be read as something else.
//!
//! A ruleset that comes back stands behind the one that it replaces (see [`Slot`](super::Slot)).

use super::flood::METERS;

/// The listing (made in UTC, priorities as numbers) without what does not load, or would load as something else, and with
/// the chains `later` by so much.
pub(super) fn reloadable(listing: &str, later: i32) -> String {
    let mut text = String::with_capacity(listing.len());
    let mut meter = false;
    let mut skipping = false;
    for line in listing.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix("set ") {
            meter =
                name.starts_with("limit_") || METERS.iter().any(|begin| name.starts_with(begin));
        }
        if meter && trimmed.starts_with("elements = {") {
            skipping = true;
        }
        if skipping {
            skipping = !trimmed.ends_with('}');
            continue;
        }
        let changed = seconds(line).or_else(|| priority(line, later));
        match changed {
            Some((before, number, after)) => text.push_str(&format!("{before}{number}{after}")),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
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
        let listing = "table inet portcullis {\n\tset limit_1_v4 {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1 limit rate 5/second timeout 3s expires 2s,\n\t\t\t     10.0.0.2 limit rate 5/second timeout 3s expires 2s }\n\t}\n\tset ban4 {\n\t\telements = { 1.2.3.4 }\n\t}\n\tchain x {\n\t\ttype filter hook input priority -40; policy accept;\n\t\tmeta time < \"2030-01-01 00:00:00\" goto rule_1\n\t}\n}\n";
        let wanted = "table inet portcullis {\n\tset limit_1_v4 {\n\t\ttype ipv4_addr\n\t}\n\tset ban4 {\n\t\telements = { 1.2.3.4 }\n\t}\n\tchain x {\n\t\ttype filter hook input priority -38; policy accept;\n\t\tmeta time < 1893456000 goto rule_1\n\t}\n}\n";
        assert_eq!(reloadable(listing, 2), wanted);
        assert_eq!(reloadable(wanted, 0), wanted);
    }
}
