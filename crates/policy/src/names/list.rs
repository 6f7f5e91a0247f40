//! Files of names: hosts files, plain lists, AdBlock-style filters, all in one file if need be. One bad line never costs the good
//! ones, and a rule that is about pages and not about names is no bad line: it is skipped and counted.

use std::net::IpAddr;

use super::entries::NameEntries;
use super::pattern::{BadName, Pattern, Reach};
use crate::diagnostic::quoted;
use crate::list::{BadLine, SHOWN};

/// Longest line that is looked at, in bytes.
const LONGEST_LINE: usize = 4_096;

/// An entry of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed<'a> {
    pub(crate) pattern: Pattern<'a>,
    /// `@@` of AdBlock: an exception from what the list blocks.
    pub(crate) is_exception: bool,
}

/// What was found beside the entries.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The first few bad lines.
    pub(crate) bad: Vec<BadLine>,
    pub(crate) bad_count: usize,
    /// Rules that only a browser can follow: about paths, scripts, looks.
    pub(crate) skipped: usize,
    /// Whether a comment is `# empty`: then a list without names is meant so.
    pub(crate) says_empty: bool,
    /// Whether reading stopped because there are more than the ceiling allows.
    pub(crate) is_cut: bool,
}

/// What a line holds that is no entry.
enum Other {
    /// A rule that is not about names.
    Skipped,
    Bad(String),
}

/// Reads at most `most` entries of a list.
pub(crate) fn entries(bytes: &[u8], most: usize) -> (NameEntries, Tally) {
    let mut entries = NameEntries::default();
    let mut is_cut = false;
    let mut tally = read(bytes, |listed| {
        is_cut = entries.len() >= most;
        if !is_cut {
            entries.push(&listed.pattern, listed.is_exception);
        }
        !is_cut
    });
    tally.is_cut = is_cut;
    (entries, tally)
}

/// Reads a list and gives each entry to `take`, which says whether there is room for more. The bytes need not be UTF-8: comments in
/// old lists are not.
fn read(bytes: &[u8], mut take: impl FnMut(Listed<'_>) -> bool) -> Tally {
    let mut tally = Tally::default();
    let mut is_adblock = false;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let mut has_room = true;
        tally.says_empty |= says_empty(line);
        let read = read_line(line, &mut is_adblock, &mut |listed| {
            has_room &= take(listed);
        });
        match read {
            Ok(()) => {}
            Err(Other::Skipped) => tally.skipped += 1,
            Err(Other::Bad(what)) => {
                tally.bad_count += 1;
                if tally.bad.len() < SHOWN {
                    let blanks = line.len() - line.trim_ascii_start().len();
                    tally.bad.push(BadLine {
                        line: index as u32 + 1,
                        column: blanks as u32 + 1,
                        what,
                    });
                }
            }
        }
        if !has_room {
            break;
        }
    }
    tally
}

fn read_line<'a>(
    line: &'a [u8],
    is_adblock: &mut bool,
    take: &mut dyn FnMut(Listed<'a>),
) -> Result<(), Other> {
    let line = line.trim_ascii();
    if line.len() > LONGEST_LINE {
        return Err(Other::Bad(format!(
            "has {} bytes; a line has at most {LONGEST_LINE}",
            line.len()
        )));
    }
    if line.is_empty()
        || line.starts_with(b"#")
        || line.starts_with(b";")
        || line.starts_with(b"//")
    {
        return Ok(());
    }
    // "! comment" and "[Adblock Plus 2.0]" are AdBlock's.
    if line.starts_with(b"!") || line.starts_with(b"[Adblock") {
        *is_adblock = true;
        return Ok(());
    }
    let is_rule = line.starts_with(b"|") || line.starts_with(b"@@");
    let line = if is_rule && is_cosmetic_rule(line) {
        *is_adblock = true;
        return Err(Other::Skipped);
    } else if is_rule {
        without_remark(line)
    } else {
        without_comment(line)?
    };
    let text = std::str::from_utf8(line)
        .map_err(|_| bad(&String::from_utf8_lossy(line), &"is not UTF-8"))?;
    if is_rule {
        *is_adblock = true;
        return take_rule(text, take);
    }
    let mut words = text.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    if let Some(address) = address(first) {
        return take_hosts(address, first, words, take);
    }
    let read = match words.next() {
        // A category by number, as nDPI writes it.
        Some(more) if more.bytes().any(|byte| !byte.is_ascii_digit()) => {
            Err(bad(text, &"is more than a name"))
        }
        _ => entry(Pattern::parse(first), first),
    };
    match read {
        Ok(pattern) => {
            take(Listed {
                pattern,
                is_exception: false,
            });
            Ok(())
        }
        // "/ads/*", "-banner." and the like: parts of addresses of pages.
        Err(_) if *is_adblock => Err(Other::Skipped),
        Err(other) => Err(other),
    }
}

/// Whether a line is the comment which says that the list is meant to hold nothing.
fn says_empty(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let marks: [&[u8]; 4] = [b"#", b";", b"!", b"//"];
    let text = marks.iter().find_map(|mark| line.strip_prefix(*mark));
    text.is_some_and(|text| text.trim_ascii().eq_ignore_ascii_case(b"empty"))
}

/// A rule without the comment behind it, which begins behind a blank: `#` and `;` can stand in a rule, blanks cannot.
fn without_remark(rule: &[u8]) -> &[u8] {
    let is_begin =
        |pair: &[u8]| pair[0].is_ascii_whitespace() && matches!(pair[1], b'#' | b';' | b'!');
    match rule.windows(2).position(is_begin) {
        Some(at) => rule[..at].trim_ascii_end(),
        None => rule,
    }
}

/// Whether a rule is about the looks of a page: `||ads.example##.banner`. What stands behind `$` are options.
fn is_cosmetic_rule(rule: &[u8]) -> bool {
    let at = rule.iter().position(|byte| matches!(byte, b'#' | b'$'));
    at.is_some_and(|at| is_about_looks(rule, at))
}

/// Whether the `#` there begins what is about the looks of a page, and no comment.
fn is_about_looks(line: &[u8], at: usize) -> bool {
    let is_behind_blank = at > 0 && line[at - 1].is_ascii_whitespace();
    let is_mark =
        line[at] == b'#' && matches!(line.get(at + 1), Some(b'#' | b'@' | b'?' | b'$' | b'%'));
    is_mark && !is_behind_blank
}

/// What stands before `#` or `;`. "example.org##.banner" is not a name with a comment, but about the looks of a page.
fn without_comment(line: &[u8]) -> Result<&[u8], Other> {
    let Some(at) = line.iter().position(|byte| matches!(byte, b'#' | b';')) else {
        return Ok(line);
    };
    if is_about_looks(line, at) {
        return Err(Other::Skipped);
    }
    Ok(line[..at].trim_ascii_end())
}

/// The address at the begin of a line of a hosts file, perhaps with its zone: `fe80::1%lo0`.
fn address(word: &str) -> Option<IpAddr> {
    let word = word.split_once('%').map_or(word, |(address, _)| address);
    word.parse().ok()
}

/// `0.0.0.0 ads.example tracker.example`.
fn take_hosts<'a>(
    address: IpAddr,
    written: &str,
    names: impl Iterator<Item = &'a str>,
    take: &mut dyn FnMut(Listed<'a>),
) -> Result<(), Other> {
    let leads_nowhere = address.is_unspecified() || address.is_loopback();
    let (mut result, mut count) = (Ok(()), 0);
    for name in names {
        count += 1;
        if is_of_every_host(name) || name.parse::<IpAddr>().is_ok() {
            continue;
        }
        let read = if leads_nowhere {
            entry(Pattern::new(name, Reach::Itself), name)
        } else {
            let why =
                format!("is given the address {written}, which blocks nothing; 0.0.0.0 would");
            Err(bad(name, &why))
        };
        match read {
            Ok(pattern) => take(Listed {
                pattern,
                is_exception: false,
            }),
            // The first mistake stands for the line.
            Err(other) if result.is_ok() => result = Err(other),
            Err(_) => {}
        }
    }
    if count == 0 {
        return Err(bad(written, &BadName::Address));
    }
    result
}

/// What hosts files of every system hold.
fn is_of_every_host(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "localhost",
        "localhost.localdomain",
        "localhost4",
        "localhost4.localdomain4",
        "localhost6",
        "localhost6.localdomain6",
        "local",
        "broadcasthost",
        "ip6-localhost",
        "ip6-loopback",
        "ip6-localnet",
        "ip6-mcastprefix",
        "ip6-allnodes",
        "ip6-allrouters",
        "ip6-allhosts",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// `||ads.example^$important`, `|ads.example^`, `@@||good.example^`.
fn take_rule<'a>(text: &'a str, take: &mut dyn FnMut(Listed<'a>)) -> Result<(), Other> {
    let (body, is_exception) = match text.strip_prefix("@@") {
        Some(body) => (body, true),
        None => (text, false),
    };
    let (body, reach) = if let Some(body) = body.strip_prefix("||") {
        (body, Reach::Both)
    } else if let Some(body) = body.strip_prefix('|') {
        (body, Reach::Itself)
    } else {
        return Err(Other::Skipped);
    };
    let (name, options) = body.split_once('$').unwrap_or((body, ""));
    if !options.is_empty()
        && !options
            .split(',')
            .all(|option| is_taken(option, is_exception))
    {
        return Err(Other::Skipped);
    }
    let ended = name.strip_suffix('|').unwrap_or(name);
    let (name, is_ended) = match ended.strip_suffix('^') {
        Some(name) => (name, true),
        None => (ended, ended.len() < name.len()),
    };
    let (name, reach) = match name.strip_prefix("*.") {
        Some(name) => (name, Reach::Below),
        None => (name, reach),
    };
    // Without its end, "||ads." is the begin of many names; "||ads.example" is taken for the one that it most likely is.
    let is_begin = !is_ended && (name.ends_with('.') || !name.contains('.'));
    let is_of_pages =
        |byte: u8| matches!(byte, b'/' | b'*' | b'^' | b':' | b'?' | b'=' | b'&' | b'|');
    if is_begin || name.bytes().any(is_of_pages) {
        return Err(Other::Skipped);
    }
    match Pattern::new(name, reach) {
        // An address is nothing that is asked for by name.
        Err(BadName::Address) => Err(Other::Skipped),
        read => {
            let pattern = entry(read, text)?;
            take(Listed {
                pattern,
                is_exception,
            });
            Ok(())
        }
    }
}

/// Whether a rule with this option is taken as if it had none. Those that say from where or for what a page asks are, for what is
/// blocked: a name that a list blocks for all other pages is one that nobody misses. An exception must not grow.
fn is_taken(option: &str, is_exception: bool) -> bool {
    match option.trim() {
        "important" | "all" => true,
        "third-party" | "3p" | "document" | "doc" | "popup" | "network" => !is_exception,
        _ => false,
    }
}

/// The entry, unless it stands for a whole top-level domain: no list means that.
fn entry<'a>(read: Result<Pattern<'a>, BadName>, written: &str) -> Result<Pattern<'a>, Other> {
    match read {
        Ok(pattern) if pattern.is_top_level() => Err(bad(
            written,
            &"has one part only and would be a whole top-level domain",
        )),
        Ok(pattern) => Ok(pattern),
        Err(why) => Err(bad(written, &why)),
    }
}

fn bad(written: &str, why: &dyn std::fmt::Display) -> Other {
    Other::Bad(format!("{} {why}", quoted(written)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries as text, exceptions with `@@`; then how many rules were skipped and lines are bad.
    fn listed(text: impl AsRef<[u8]>) -> (Vec<String>, usize, usize) {
        let mut all = Vec::new();
        let tally = read(text.as_ref(), |listed| {
            let mark = if listed.is_exception { "@@" } else { "" };
            all.push(format!("{mark}{}", listed.pattern));
            true
        });
        (all, tally.skipped, tally.bad_count)
    }

    #[test]
    fn every_common_form_of_a_line() {
        for (line, wanted) in [
            // Plain lists.
            ("ads.example", vec!["ads.example"]),
            ("  ADS.Example.  \r", vec!["ads.example"]),
            ("*.ads.example", vec!["*.ads.example"]),
            (".ads.example", vec![".ads.example"]),
            ("ads.example # a comment", vec!["ads.example"]),
            ("ads.example#comment", vec!["ads.example"]),
            ("ads.example ; a comment", vec!["ads.example"]),
            ("ads.example ## a comment", vec!["ads.example"]),
            ("cnhv.example\t99", vec!["cnhv.example"]),
            ("bücher.example", vec!["xn--bcher-kva.example"]),
            ("", vec![]),
            ("# comment", vec![]),
            ("; comment", vec![]),
            ("! comment", vec![]),
            ("// comment", vec![]),
            // Hosts files.
            ("0.0.0.0 ads.example", vec!["ads.example"]),
            (
                "127.0.0.1\tads.example  b.example # c.example",
                vec!["ads.example", "b.example"],
            ),
            ("::1 ads.example", vec!["ads.example"]),
            (":: ads.example", vec!["ads.example"]),
            ("127.0.0.1 localhost", vec![]),
            ("127.0.0.1 LOCALHOST ads.example", vec!["ads.example"]),
            ("fe80::1%lo0 localhost", vec![]),
            ("ff02::1 ip6-allnodes", vec![]),
            ("255.255.255.255 broadcasthost", vec![]),
            ("0.0.0.0 0.0.0.0", vec![]),
            // AdBlock.
            ("[Adblock Plus 2.0]", vec![]),
            ("||ads.example^", vec![".ads.example"]),
            ("||ads.example", vec![".ads.example"]),
            ("||ads.example^|", vec![".ads.example"]),
            ("||ads.example^ # mine", vec![".ads.example"]),
            ("||ads.example^\t! mine", vec![".ads.example"]),
            ("@@||good.example^ ; mine", vec!["@@.good.example"]),
            ("||*.ads.example^", vec!["*.ads.example"]),
            ("|ads.example^", vec!["ads.example"]),
            ("||ads.example^$important", vec![".ads.example"]),
            ("||ads.example^$third-party,popup", vec![".ads.example"]),
            ("||ads.example^$document", vec![".ads.example"]),
            ("@@||good.example^", vec!["@@.good.example"]),
            ("@@||good.example^$important", vec!["@@.good.example"]),
            ("@@|good.example^|", vec!["@@good.example"]),
        ] {
            let wanted: Vec<_> = wanted.into_iter().map(str::to_owned).collect();
            assert_eq!(listed(line), (wanted, 0, 0), "{line}");
        }
    }

    #[test]
    fn rules_about_pages_are_skipped() {
        for line in [
            "example.org##.banner",
            "example.org,example.com#@#.banner",
            "example.org#?#div:has(.ad)",
            "||example.org##.banner",
            "||example.org^#@#.banner",
            "@@||example.org#?#div:has(.ad)",
            "|example.org#$#body { overflow: auto; }",
            "||ads.example/path^",
            "||ads.example^$script",
            "||ads.example^$~third-party",
            "||ads.example^$domain=example.org",
            "||ads.example^$badfilter",
            "||ads*.example^",
            "||ads.",
            "||ads",
            "||192.0.2.1^",
            "|https://ads.example^",
            "@@||good.example^$script",
            "@@||good.example^$document",
            "@@/banner/*",
            "!\n/banner/*",
            "!\n-banner.",
            "!\n&ad_box=",
        ] {
            assert_eq!(listed(line), (vec![], 1, 0), "{line}");
        }
    }

    #[test]
    fn bad_lines() {
        for (line, what) in [
            ("ad s.example", "\"ad s.example\" is more than a name"),
            (
                "http://ads.example/",
                "\"http://ads.example/\" holds ':'; a name has letters, digits, - and _",
            ),
            ("192.0.2.1", "\"192.0.2.1\" is an address, not a name"),
            ("0.0.0.0", "\"0.0.0.0\" is an address, not a name"),
            (
                "com",
                "\"com\" has one part only and would be a whole top-level domain",
            ),
            (
                "*.com",
                "\"*.com\" has one part only and would be a whole top-level domain",
            ),
            (
                "*",
                "\"*\" has one part only and would be a whole top-level domain",
            ),
            (
                "||com^",
                "\"||com^\" has one part only and would be a whole top-level domain",
            ),
            (
                "0.0.0.0 com",
                "\"com\" has one part only and would be a whole top-level domain",
            ),
            (
                "||ads..example^",
                "\"||ads..example^\" has an empty part between two dots",
            ),
            (
                "192.0.2.1 nas.example",
                "\"nas.example\" is given the address 192.0.2.1, which blocks nothing; 0.0.0.0 would",
            ),
        ] {
            let tally = read(line.as_bytes(), |listed| panic!("{line}: {listed:?}"));
            let found: Vec<_> = tally.bad.iter().map(|bad| bad.what.as_str()).collect();
            assert_eq!(found, [what], "{line}");
        }
    }

    #[test]
    fn bad_lines_are_counted_and_cost_nothing_else() {
        let text = b"\xef\xbb\xbf# caf\xe9\na.example\n\n  b c\n0.0.0.0 d.example e..example f.example\n\xff\xfe\ncom\r\n||g.example^\r\nh.example";
        let (all, skipped, bad) = listed(text);
        assert_eq!(
            all,
            [
                "a.example",
                "d.example",
                "f.example",
                ".g.example",
                "h.example"
            ]
        );
        assert_eq!((skipped, bad), (0, 4));
        let tally = read(text, |_| true);
        let places: Vec<_> = tally.bad.iter().map(|bad| (bad.line, bad.column)).collect();
        assert_eq!(places, [(4, 3), (5, 1), (6, 1)]);
    }

    #[test]
    fn a_list_can_say_that_it_is_meant_to_be_empty() {
        for (text, says) in [
            ("# empty\n", true),
            ("! Title: ads\n  !Empty \n", true),
            ("# not empty\n", false),
            ("ads.example # empty\n", false),
            ("", false),
        ] {
            assert_eq!(entries(text.as_bytes(), 9).1.says_empty, says, "{text:?}");
        }
    }

    #[test]
    fn lines_are_bounded_and_so_is_the_list() {
        let long = "0.0.0.0 ".to_owned() + &"a.example ".repeat(1_000);
        assert_eq!(
            listed(long + "\nb.example"),
            (vec!["b.example".to_owned()], 0, 1)
        );
        let mut room = 2;
        read(b"a.example\nb.example\nc.example\n", |_| {
            room -= 1;
            room > 0
        });
        assert_eq!(room, 0);
        let three = b"a.example\nb.example\nc.example\n";
        let (some, tally) = entries(three, 2);
        assert_eq!((some.len(), tally.is_cut), (2, true));
        let (all, tally) = entries(three, 3);
        assert_eq!((all.len(), tally.is_cut), (3, false));
    }
}
