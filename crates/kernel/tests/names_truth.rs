//! The names that tshark saw in captures are the names that we see in the same frames.
//!
//! DNS is read out of each datagram. DNS over TCP, TLS and HTTP are read out of what the sender had sent in order up to the
//! frame, from the beginning of any of its segments on, since a capture may begin in the middle. What needs more than that –
//! tunnels, fragments, QUIC – is counted and not compared.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use portcullis_kernel::replay::Replay;
use portcullis_kernel::source::Source;
use wire::dns::{Message, Messages, Name};
use wire::http::{Body, Http, RequestHost, request_head};
use wire::tls::{ServerName, Sni, sni};
use wire::{Frame, Transport, parse_trusting_checksums};

fn data() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    folder.join("truth").is_dir().then_some(folder)
}

/// A row of a truth table, by the names in its first line.
type Row = HashMap<String, String>;

/// The rows of a table, by capture and frame.
fn truth(data: &Path, table: &str) -> BTreeMap<String, BTreeMap<u64, Row>> {
    let bytes = std::fs::read(data.join("truth").join(table)).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let heading: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let mut rows: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for line in lines {
        let cells = line.split('\t').map(ToOwned::to_owned);
        let row: Row = heading
            .iter()
            .map(|name| (*name).to_owned())
            .zip(cells)
            .collect();
        let frame = row["frame"].parse().unwrap();
        rows.entry(row["file"].clone())
            .or_default()
            .insert(frame, row);
    }
    rows
}

/// What one side of a connection sent, as far as it came in order.
#[derive(Default)]
struct Sent {
    next: Option<u32>,
    bytes: Vec<u8>,
    /// Where in `bytes` its segments begin.
    starts: Vec<usize>,
}

impl Sent {
    fn handle(&mut self, sequence: u32, is_syn: bool, payload: &[u8]) {
        let sequence = sequence.wrapping_add(u32::from(is_syn));
        if is_syn {
            *self = Self::default();
        }
        if self.next.is_some_and(|next| next != sequence) {
            // A gap, or the same again: what was before does not lead here.
            self.bytes.clear();
            self.starts.clear();
        }
        if !payload.is_empty() {
            self.starts.push(self.bytes.len());
            self.bytes.extend(payload);
        }
        self.next = Some(sequence.wrapping_add(payload.len() as u32));
    }

    /// The bytes from each segment's beginning on, the longest first; at most 64 of them.
    fn beginnings(&self) -> impl Iterator<Item = &[u8]> {
        let late = self.starts.len().saturating_sub(64);
        self.starts[late..]
            .iter()
            .map(|start| &self.bytes[*start..])
    }
}

/// What a frame is to us.
enum Seen<'a> {
    Datagram(&'a [u8]),
    Segment(&'a Sent),
    /// Another transport, a fragment, a tunnel, a link or a file that is not read.
    Other,
}

/// Goes through a capture and hands over the frames that have a row.
fn frames(path: &Path, rows: &BTreeMap<u64, Row>, mut handle: impl FnMut(u64, &Row, &Seen<'_>)) {
    // tshark reads compressed captures, too.
    let Ok(mut replay) = Replay::open(path) else {
        return rows
            .iter()
            .for_each(|(number, row)| handle(*number, row, &Seen::Other));
    };
    let mut streams: HashMap<(SocketAddr, SocketAddr), Sent> = HashMap::new();
    let mut number = 0;
    while let Some(captured) = replay.next().unwrap() {
        number += 1;
        let parsed = captured
            .link
            .map(|link| parse_trusting_checksums(link, captured.bytes, captured.wire_len));
        let mut seen = Seen::Other;
        if let Some(Ok(Frame::Ip(packet))) = parsed {
            match packet.transport() {
                Transport::Udp(_) => seen = Seen::Datagram(packet.payload()),
                Transport::Tcp(tcp) => {
                    let key = (
                        SocketAddr::new(packet.source(), tcp.source_port()),
                        SocketAddr::new(packet.destination(), tcp.destination_port()),
                    );
                    let sent = streams.entry(key).or_default();
                    sent.handle(tcp.sequence(), tcp.flags().syn(), packet.payload());
                    seen = Seen::Segment(sent);
                }
                _ => {}
            }
        }
        if let Some(row) = rows.get(&number) {
            handle(number, row, &seen);
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    agreed: usize,
    out_of_reach: usize,
    /// Refused by both, or ambiguous to us for a reason that is named here.
    refused: usize,
    differences: Vec<String>,
}

impl Tally {
    fn finish(&self, table: &str, least: usize) {
        let rows = self.agreed + self.out_of_reach + self.refused + self.differences.len();
        eprintln!(
            "{table}: {rows} rows, {} agreed, {} refused or ambiguous, {} out of reach",
            self.agreed, self.refused, self.out_of_reach
        );
        assert!(
            self.differences.is_empty(),
            "{} differ:\n{}",
            self.differences.len(),
            self.differences.join("\n")
        );
        assert!(self.agreed >= least, "only {} rows agreed", self.agreed);
    }
}

/// Compares each row of a table that we can reach. `compare` says whether the frame holds what the row says; `None` where it
/// is none of ours to read.
fn compare_all(
    table: &str,
    least: usize,
    compare: impl Fn(&Row, &Seen<'_>) -> Option<Result<bool, String>>,
) {
    let Some(data) = data() else {
        eprintln!("SKIPPED: no truth tables under ../shared/data/truth");
        return;
    };
    let mut tally = Tally::default();
    for (file, rows) in truth(&data, table) {
        frames(
            &data.join("pcap").join(&file),
            &rows,
            |number, row, seen| match compare(row, seen) {
                None => tally.out_of_reach += 1,
                Some(Ok(true)) => tally.agreed += 1,
                Some(Ok(false)) => tally.refused += 1,
                Some(Err(difference)) => {
                    tally
                        .differences
                        .push(format!("{file} frame {number}: {difference}"));
                }
            },
        );
    }
    tally.finish(table, least);
}

/// A name as tshark shows it, with control characters in octal. What is no ASCII it replaces as its version likes, so it is
/// left out on both sides.
fn shown(name: &Name) -> String {
    if name.is_root() {
        return "<Root>".to_owned();
    }
    let mut text = String::new();
    let mut rest = name.as_str();
    while let Some(next) = rest.chars().next() {
        rest = &rest[1..];
        if next != '\\' {
            text.push(next);
            continue;
        }
        // An escape is a backslash and three digits.
        match rest[..3].parse::<u8>().unwrap() {
            control @ (0..=6 | 14..=31) => text.push_str(&format!("\\{control:03o}")),
            byte @ 32..=126 => text.push(char::from(byte)),
            _ => {}
        }
        rest = &rest[3..];
    }
    text
}

/// The names asked about, up to a defect, which tshark shows as a name, too.
fn questions(message: &[u8]) -> Vec<String> {
    let questions = Message::parse(message)
        .into_iter()
        .flat_map(|message| message.questions());
    questions
        .map(|question| match question {
            Ok(question) => shown(&question.name.to_name()),
            Err(_) => "<Name too long>".to_owned(),
        })
        .collect()
}

#[test]
fn dns_names() {
    compare_all("dns.tsv", 1300, |row, seen| {
        let expected = row["qname"].replace(|char: char| !char.is_ascii(), "");
        // In a tunnel, as the ports of several layers tell.
        if row["udp_dport"].contains(',') {
            return None;
        }
        let found = match seen {
            Seen::Other => return None,
            Seen::Datagram(payload) => vec![questions(payload)],
            Seen::Segment(sent) => sent
                .beginnings()
                .map(|stream| Messages::new(stream).flat_map(questions).collect())
                .collect(),
        };
        let is_same = |names: &Vec<String>| names.join(",").eq_ignore_ascii_case(&expected);
        // tshark says "too long" of every name that it cannot read, once for each question announced.
        let is_refused = |names: &Vec<String>| {
            expected.contains("<Name too long>")
                && names.last().is_some_and(|last| last.starts_with('<'))
        };
        Some(if found.iter().any(is_same) {
            Ok(true)
        } else if found.iter().any(is_refused) {
            Ok(false)
        } else {
            Err(format!("{expected:?} {found:?}"))
        })
    });
}

#[test]
fn server_names() {
    compare_all("sni.tsv", 115, |row, seen| {
        let Seen::Segment(sent) = seen else {
            return None;
        };
        // The PROXY protocol's line stands before the hello in the same segment.
        if sent.bytes.starts_with(b"PROXY ") {
            return None;
        }
        let mut found = Vec::new();
        for stream in sent.beginnings() {
            let mut room = ServerName::new();
            if let Sni::Name { host, .. } = sni(stream, &mut room) {
                found.push(String::from_utf8_lossy(host.as_bytes()).into_owned());
            }
        }
        Some(if found.contains(&row["sni"]) {
            Ok(true)
        } else {
            Err(format!("{:?} {found:?}", row["sni"]))
        })
    });
}

/// Heads that tshark reads and we call ambiguous: capture, frame and why.
const AMBIGUOUS: &[(&str, &str, &str)] = &[
    ("http-uri-spaces/input.pcap", "5", "http-request-line"),
    ("http/no-uri.pcap", "4", "http-request-line"),
    ("http/connect-with-smtp.pcap", "4", "http-request-line"),
    ("WebattackRCE.pcap", "87", "http-target"),
    ("fuzz-2006-09-29-28586.pcap", "13", "http-field-name"),
    ("fuzz-2006-09-29-28586.pcap", "20", "http-control-character"),
    ("fuzz-2006-09-29-28586.pcap", "36", "http-target"),
    ("fuzz-2006-09-29-28586.pcap", "120", "http-field-name"),
    (
        "ndpi_match_string_subprotocol__error.pcapng",
        "2",
        "http-control-character",
    ),
];

/// The hosts of the requests that stand one after the other, without ports, and whether more may come after a body whose end
/// is not told.
fn hosts(stream: &[u8]) -> (Vec<String>, bool) {
    let mut hosts = Vec::new();
    let mut rest = stream;
    while let Http::Request(request) = request_head(rest) {
        hosts.push(match request.host {
            RequestHost::Host(host) => String::from_utf8_lossy(host.as_bytes()).into_owned(),
            RequestHost::Absent => String::new(),
            RequestHost::Ambiguous(ambiguity) => ambiguity.name().to_owned(),
        });
        let Body::Length(len) = request.body else {
            return (hosts, true);
        };
        rest = &rest[request.head_len..];
        rest = rest.get(len as usize..).unwrap_or_default();
    }
    (hosts, false)
}

/// The hosts that tshark shows, without ports; of CONNECT, that of the target, which it does not call a host.
fn expected_hosts(row: &Row) -> Vec<String> {
    let cell = if row["host"].is_empty() && row["method"] == "CONNECT" {
        &row["uri"]
    } else {
        &row["host"]
    };
    let hosts = cell.split(',').map(|host| match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name.to_owned(),
        _ => host.to_owned(),
    });
    hosts.collect()
}

#[test]
fn http_hosts() {
    compare_all("http.tsv", 1500, |row, seen| {
        let expected = expected_hosts(row);
        let found: Vec<(Vec<String>, bool)> = match seen {
            Seen::Other => return None,
            // TCP in a tunnel.
            Seen::Datagram(_) if !row["tcp_dport"].is_empty() => return None,
            Seen::Datagram(payload) => vec![hosts(payload)],
            Seen::Segment(sent) => sent.beginnings().map(hosts).collect(),
        };
        // A head that the capture does not hold to its end: tshark shows what there is of it.
        if expected == [""] && found.iter().all(|(hosts, _)| hosts.is_empty()) {
            return None;
        }
        let is_same = |(hosts, goes_on): &(Vec<String>, bool)| {
            *hosts == expected || *goes_on && !hosts.is_empty() && expected.starts_with(hosts)
        };
        let is_ambiguous = AMBIGUOUS.iter().any(|(file, frame, why)| {
            row["file"].ends_with(file)
                && row["frame"] == *frame
                && found.iter().any(|(hosts, _)| hosts == &[*why])
        });
        Some(if found.iter().any(is_same) {
            Ok(true)
        } else if is_ambiguous {
            Ok(false)
        } else {
            Err(format!("{expected:?} {:?} {found:?}", row["uri"]))
        })
    });
}
