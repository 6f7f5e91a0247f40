//! Files of addresses: plain lists, netsets, hosts files, reputation lists. One bad line never costs the good ones.

use std::net::IpAddr;
use std::path::Path;

use crate::address::{IPV4_FIRST, IPV4_LAST};
use crate::literal::{self, Literal};

/// Bad lines that are told one by one; more are counted.
pub const SHOWN: usize = 3;

/// How the lines of a list are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListFormat {
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
pub struct BadLine {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// What is wrong with it: the text, and a few words.
    pub what: String,
}

impl BadLine {
    /// With its place.
    pub fn shown(&self, path: &Path) -> String {
        format!(
            "{}:{}:{} {}",
            path.display(),
            self.line,
            self.column,
            self.what
        )
    }
}

/// What a list file holds.
#[derive(Debug, Default)]
pub struct List {
    /// Inclusive ranges of keys ([`crate::address_key`]), in the order of the lines, not merged.
    pub ranges: Vec<(u128, u128)>,
    /// The first few.
    pub bad: Vec<BadLine>,
    /// All of them.
    pub bad_count: usize,
    /// Lines of a hosts file that only name hosts.
    pub names_only: usize,
    /// Whether a comment is `# empty`: then a list without addresses is meant so.
    pub says_empty: bool,
    /// Whether reading stopped because there are more than the ceiling allows.
    pub is_cut: bool,
}

/// Reads at most `most` ranges. The bytes need not be UTF-8: comments in old lists are not. A feed takes nothing wider than `/8`, IPv6 `/16`.
pub fn read(bytes: &[u8], format: ListFormat, is_feed: bool, most: usize) -> List {
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
            list.says_empty |= says_empty(&line[end..]);
            continue;
        }
        if list.ranges.len() >= most {
            list.is_cut = true;
            break;
        }
        if let Err(what) = read_line(content, format, is_feed, &mut list) {
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

/// Whether a comment says that the list is meant to hold nothing.
fn says_empty(comment: &[u8]) -> bool {
    let text = comment.trim_ascii_start();
    let text = text.strip_prefix(b"#").or_else(|| text.strip_prefix(b";"));
    text.is_some_and(|text| text.trim_ascii().eq_ignore_ascii_case(b"empty"))
}

/// The widest prefixes that a line of a feed may name, IPv4 and IPv6. A feed is written by strangers, and what it names is cut
/// off before the rules: one line must not be able to cut off the Internet.
const WIDEST: (u32, u32) = (8, 16);

/// Why a feed does not take these addresses, if it does not.
fn too_wide(literal: &Literal) -> Option<String> {
    let is_ipv4 = (IPV4_FIRST..=IPV4_LAST).contains(&literal.first);
    let (bits, length) = if is_ipv4 {
        (32, WIDEST.0)
    } else {
        (128, WIDEST.1)
    };
    let most = 1_u128 << (bits - length);
    (literal.last - literal.first >= most)
        .then(|| format!("is wider than /{length}, the most that a line of a feed may block"))
}

fn read_line(
    content: &[u8],
    format: ListFormat,
    is_feed: bool,
    list: &mut List,
) -> Result<(), String> {
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
    let bad = |why: &dyn std::fmt::Display| format!("{} {why}", crate::diagnostic::quoted(written));
    let literal = literal::read(written).map_err(|error| bad(&error.why))?;
    match too_wide(&literal).filter(|_| is_feed) {
        Some(why) => Err(bad(&why)),
        None => {
            list.ranges.extend(literal.ranges());
            Ok(())
        }
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
        let list = read(text.as_bytes(), format, false, usize::MAX);
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
            assert_eq!(read(hosts.as_bytes(), format, false, 9).names_only, 3);
        }
        assert_eq!(prefixes("0.0.0.0 7", ListFormat::Auto), ["0.0.0.0/32"]);
    }

    #[test]
    fn bad_lines_are_counted_and_placed() {
        let list = read(
            b"\xef\xbb\xbf# caf\xe9\n192.0.2.1\n\n  example.com\n1.2.3\n1.2.3.4/99\n\xff\xfe\n192.0.2.2",
            ListFormat::Auto,
            false,
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
        let list = read(b"1.1.1.1\n2.2.2.2\n3.3.3.3\n", ListFormat::Auto, false, 2);
        assert!(list.is_cut && list.ranges.len() == 2);
        assert!(!read(b"1.1.1.1\n2.2.2.2\n", ListFormat::Auto, false, 2).is_cut);
    }
    #[test]
    fn no_line_of_a_feed_cuts_off_the_internet() {
        for (line, is_taken) in [
            ("0.0.0.0/0", false),
            ("::/0", false),
            ("0.0.0.0-255.255.255.255", false),
            ("128.0.0.0/7", false),
            ("10.0.0.0/8", true),
            ("10.0.0.0-10.255.255.255", true),
            ("10.0.0.0-11.0.0.0", false),
            ("2000::/3", false),
            ("2001::/15", false),
            ("2001::/16", true),
            ("::ffff:0:0/96", false),
        ] {
            let feed = read(line.as_bytes(), ListFormat::Auto, true, 9);
            assert_eq!(feed.ranges.is_empty(), !is_taken, "{line}");
            assert_eq!(feed.bad_count, usize::from(!is_taken), "{line}");
            let set = read(line.as_bytes(), ListFormat::Auto, false, 9);
            assert_eq!(set.bad_count, 0, "a set may hold {line}");
        }
        let feed = read(b"0.0.0.0/0", ListFormat::Auto, true, 9);
        assert_eq!(
            feed.bad[0].what,
            "\"0.0.0.0/0\" is wider than /8, the most that a line of a feed may block"
        );
    }

    #[test]
    fn a_list_can_say_that_it_is_meant_to_be_empty() {
        for (text, says) in [
            ("# empty\n", true),
            ("# header\n  ;Empty \n", true),
            ("# not empty\n", false),
            ("", false),
        ] {
            let list = read(text.as_bytes(), ListFormat::Auto, true, 9);
            assert_eq!(list.says_empty, says, "{text:?}");
        }
    }
}
