//! Making a listing of nft loadable again.
//!
//! `nft list table` writes what `nft -f` reads, but for two things: dates, which are read in the reader's time zone, and the
//! elements of meters, which hold the state of token buckets and would be read as something else.

/// The listing (made in UTC) without what does not load, or would load as something else.
pub(super) fn reloadable(listing: &str) -> String {
    let mut text = String::with_capacity(listing.len());
    let mut meter = false;
    let mut skipping = false;
    for line in listing.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix("set ") {
            meter = name.starts_with("limit_") || name.starts_with("rate_v");
        }
        if meter && trimmed.starts_with("elements = {") {
            skipping = true;
        }
        if skipping {
            skipping = !trimmed.ends_with('}');
            continue;
        }
        match seconds(line) {
            Some((before, seconds, after)) => text.push_str(&format!("{before}{seconds}{after}")),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// `meta time < "2030-01-01 00:00:00"`: what is before, the seconds since 1970, and what is after.
fn seconds(line: &str) -> Option<(&str, u64, &str)> {
    const BEGIN: &str = "meta time < ";
    let at = line.find(BEGIN)? + BEGIN.len();
    let (before, rest) = line.split_at(at);
    let (date, after) = rest.strip_prefix('"')?.split_once('"')?;
    let time = policy::Timestamp::parse_rfc3339(&format!("{}Z", date.replacen(' ', "T", 1)))?;
    Some((before, time.as_secs(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_become_seconds_and_buckets_go() {
        let listing = "table inet portcullis {\n\tset limit_1_v4 {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1 limit rate 5/second timeout 3s expires 2s,\n\t\t\t     10.0.0.2 limit rate 5/second timeout 3s expires 2s }\n\t}\n\tset ban4 {\n\t\telements = { 1.2.3.4 }\n\t}\n\tchain x {\n\t\tmeta time < \"2030-01-01 00:00:00\" goto rule_1\n\t}\n}\n";
        let wanted = "table inet portcullis {\n\tset limit_1_v4 {\n\t\ttype ipv4_addr\n\t}\n\tset ban4 {\n\t\telements = { 1.2.3.4 }\n\t}\n\tchain x {\n\t\tmeta time < 1893456000 goto rule_1\n\t}\n}\n";
        assert_eq!(reloadable(listing), wanted);
        assert_eq!(reloadable(wanted), wanted);
    }
}
