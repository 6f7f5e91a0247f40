//! Files of addresses: plain lists, netsets, hosts files, reputation lists. One bad line never costs the good ones.

use std::net::IpAddr;

use crate::literal;

/// Bad lines that are told one by one; more are counted.
pub(crate) const SHOWN: usize = 3;

/// How the lines of a list are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListFormat {
    /// As [`Self::Plain`], and lines that look like those of a hosts file as [`Self::Hosts`].
    #[default]
    Auto,
    /// An address, prefix or range begins the line; what follows a blank, comma or semicolon is ignored.
    Plain,
    /// `ADDRESS NAME…`: the address, unless it is one that such files use for "nowhere" (`0.0.0.0`, `127.0.0.1`, `::`, `::1`).
    Hosts,
}

impl ListFormat {
    /// As the policy writes them.
    pub(crate) const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("plain", Self::Plain),
        ("cidr", Self::Plain),
        ("netset", Self::Plain),
        ("hosts", Self::Hosts),
    ];
}

/// A line that holds no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    /// From 1.
    pub(crate) line: u32,
    /// From 1, in characters.
    pub(crate) column: u32,
    pub(crate) what: String,
}

/// What a list file holds.
#[derive(Debug, Default)]
pub(crate) struct List {
    pub(crate) ranges: Vec<(u128, u128)>,
    /// The first few.
    pub(crate) bad: Vec<BadLine>,
    pub(crate) bad_count: usize,
    /// Lines of a hosts file that only name hosts.
    pub(crate) names_only: usize,
    /// Whether reading stopped because there are more than the ceiling allows.
    pub(crate) is_cut: bool,
}

/// Reads at most `most` ranges. The bytes need not be UTF-8: comments in old lists are not.
pub(crate) fn read(bytes: &[u8], format: ListFormat, most: usize) -> List {
    let mut list = List::default();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let end = line
            .iter()
            .position(|byte| matches!(byte, b'#' | b';'))
            .unwrap_or(line.len());
        let start = line[..end]
            .iter()
            .position(|byte| !byte.is_ascii_whitespace())
            .unwrap_or(end);
        let content = line[start..end].trim_ascii_end();
        if content.is_empty() {
            continue;
        }
        if list.ranges.len() >= most {
            list.is_cut = true;
            break;
        }
        if let Err(what) = read_line(content, format, &mut list) {
            list.bad_count += 1;
            if list.bad.len() < SHOWN {
                let before = String::from_utf8_lossy(&line[..start]);
                list.bad.push(BadLine {
                    line: index as u32 + 1,
                    column: before.chars().count() as u32 + 1,
                    what,
                });
            }
        }
    }
    list
}

fn read_line(content: &[u8], format: ListFormat, list: &mut List) -> Result<(), String> {
    let shown = || crate::diagnostic::quoted(&String::from_utf8_lossy(content));
    let text = std::str::from_utf8(content).map_err(|_| format!("{} is no address", shown()))?;
    let mut fields = text
        .split(|c: char| c.is_ascii_whitespace() || c == ',')
        .filter(|field| !field.is_empty());
    let first = fields.next().unwrap_or_default();
    let rest = fields.next();
    if format != ListFormat::Plain
        && let (Ok(address), Some(name)) = (first.parse::<IpAddr>(), rest)
        && (format == ListFormat::Hosts || names_host(name))
        && stands_for_nowhere(address)
    {
        list.names_only += 1;
        return Ok(());
    }
    // "192.0.2.1 - 192.0.2.9" has blanks in its address.
    let is_spaced_range = rest.is_some_and(|rest| rest == "-");
    let written = if is_spaced_range { text } else { first };
    match literal::read(written) {
        Ok(literal) => {
            list.ranges.extend(literal.ranges());
            Ok(())
        }
        Err(bad) => Err(format!(
            "{} {}",
            crate::diagnostic::quoted(written),
            bad.why
        )),
    }
}

/// Whether the second word of a line makes it a line of a hosts file.
fn names_host(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_alphabetic())
}

/// What hosts files put before the names that they block.
fn stands_for_nowhere(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::AddressSet;

    fn prefixes(text: &str, format: ListFormat) -> Vec<String> {
        let list = read(text.as_bytes(), format, usize::MAX);
        let set = AddressSet::from_ranges(list.ranges);
        set.prefixes().map(|prefix| prefix.to_string()).collect()
    }

    #[test]
    fn every_common_form_of_a_line() {
        for (line, prefix) in [
            ("192.0.2.1", "192.0.2.1/32"),
            ("192.0.2.0/24 ; SBL1234", "192.0.2.0/24"),
            ("  192.0.2.7/24\r", "192.0.2.0/24"),
            ("192.0.2.0-192.0.2.255", "192.0.2.0/24"),
            ("192.0.2.0 - 192.0.2.255", "192.0.2.0/24"),
            ("192.0.2.1,10,100", "192.0.2.1/32"),
            ("192.0.2.1\tbad-guy.example", "192.0.2.1/32"),
            ("2001:db8::/32 # a comment", "2001:db8::/32"),
        ] {
            assert_eq!(prefixes(line, ListFormat::Auto), [prefix], "{line}");
        }
    }

    #[test]
    fn hosts_files_block_names_not_their_placeholder() {
        let hosts =
            "127.0.0.1 localhost\n::1 localhost\n0.0.0.0 ads.example\n192.0.2.9 evil.example\n";
        for format in [ListFormat::Auto, ListFormat::Hosts] {
            assert_eq!(prefixes(hosts, format), ["192.0.2.9/32"]);
            assert_eq!(read(hosts.as_bytes(), format, 9).names_only, 3);
        }
        assert_eq!(prefixes("0.0.0.0 7", ListFormat::Auto), ["0.0.0.0/32"]);
    }

    #[test]
    fn bad_lines_are_counted_and_placed() {
        let list = read(
            b"\xef\xbb\xbf# caf\xe9\n192.0.2.1\n\n  example.com\n1.2.3\n1.2.3.4/99\n\xff\xfe\n192.0.2.2",
            ListFormat::Auto,
            usize::MAX,
        );
        assert_eq!(list.ranges.len(), 2);
        assert_eq!(list.bad_count, 4);
        let places: Vec<_> = list.bad.iter().map(|bad| (bad.line, bad.column)).collect();
        assert_eq!(places, [(4, 3), (5, 1), (6, 1)]);
        assert!(
            list.bad[0].what.contains("is a name"),
            "{}",
            list.bad[0].what
        );
    }

    #[test]
    fn the_ceiling_holds() {
        let list = read(b"1.1.1.1\n2.2.2.2\n3.3.3.3\n", ListFormat::Auto, 2);
        assert!(list.is_cut && list.ranges.len() == 2);
        assert!(!read(b"1.1.1.1\n2.2.2.2\n", ListFormat::Auto, 2).is_cut);
    }
}
