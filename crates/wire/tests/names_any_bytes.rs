//! No bytes make the readers of names panic or contradict themselves, whole or cut anywhere.
#![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]

mod every_name;

use every_name::{SAMPLES, cut_tls_name, every_dns_name, every_http_name, every_tls_name};
use portcullis_wire::dns::{Message, Name, RecordData};
use portcullis_wire::http::{Http, RequestHost, request_head};
use portcullis_wire::tls::{ServerName, Sni, sni};
use proptest::prelude::*;

fn read_all(bytes: &[u8]) {
    every_dns_name(bytes);
    every_tls_name(bytes);
    every_http_name(bytes);
}

/// A DNS message with a header that announces little, and a body of what bodies are made of.
fn dns_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..12).prop_map(|label| [&[label.len() as u8][..], &label].concat()),
        2 => Just(vec![0]),
        3 => (0u16..80).prop_map(|at| (0xc000 | at).to_be_bytes().to_vec()),
        2 => Just(b"\0\x01\0\x01".to_vec()),
        2 => Just(b"\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01".to_vec()),
        1 => Just(b"\0\x05\0\x01\0\0\0\x3c\0\x02\xc0\x0c".to_vec()),
        1 => Just(b"\0\0\x29\x04\xd0\0\0\x80\0\0\0".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    let counts = prop::collection::vec(0u8..3, 4);
    (
        any::<[u8; 4]>(),
        counts,
        prop::collection::vec(piece, 0..14),
    )
        .prop_map(|(mut start, counts, pieces)| {
            start[2] &= 0x87;
            let counts = counts.into_iter().flat_map(|count| [0, count]);
            start
                .into_iter()
                .chain(counts)
                .chain(pieces.concat())
                .collect()
        })
}

/// Lines of what heads are made of.
fn http_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "GET",
        "CONNECT",
        " ",
        " ",
        "/",
        "*",
        "http://",
        "a.example",
        ":80",
        "@",
        "[::1]",
        " HTTP/1.1",
        " HTTP/1.0",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        "\t",
        "\0",
        "Host",
        "host:",
        "Host: a.example\r\n",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        ":",
        "X",
        "\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM",
    ]);
    let start = prop::sample::select(vec![
        "",
        "GET / HTTP/1.1\r\n",
        "GET http://b.example/ HTTP/1.1\r\n",
        "\r\n",
    ]);
    (start, prop::collection::vec(piece, 0..12))
        .prop_map(|(start, pieces)| [start, &pieces.concat()].concat().into_bytes())
}

/// A hello in records, with lengths that mostly fit.
fn tls_like() -> impl Strategy<Value = Vec<u8>> {
    let extension = prop_oneof![
        Just(b"\0\0\0\x0e\0\x0c\0\0\x09a.example".to_vec()),
        Just(b"\xfe\x0d\0\x01x".to_vec()),
        (any::<u16>(), prop::collection::vec(any::<u8>(), 0..8)).prop_map(|(kind, data)| {
            [&kind.to_be_bytes()[..], &[0, data.len() as u8], &data].concat()
        }),
    ];
    let flips = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (prop::collection::vec(extension, 0..4), 1usize..120, flips).prop_map(
        |(extensions, size, flips)| {
            let extensions = extensions.concat();
            let mut body = vec![3; 34];
            body.extend([0, 0, 2, 0x13, 1, 1, 0]);
            body.extend((extensions.len() as u16).to_be_bytes());
            body.extend(extensions);
            for (at, value) in &flips {
                let at = at.index(body.len());
                body[at] = *value;
            }
            let message = [&[1, 0, 0, body.len() as u8][..], &body].concat();
            let mut stream = Vec::new();
            for part in message.chunks(size) {
                stream.extend([22, 3, 1, 0, part.len() as u8]);
                stream.extend(part);
            }
            stream
        },
    )
}

/// What these records carry.
fn message(mut records: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let [_, _, _, 0, len, rest @ ..] = records {
        let (part, rest) = rest.split_at(usize::from(*len));
        message.extend(part);
        records = rest;
    }
    message
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn bytes_that_look_like_dns(bytes in dns_like(), cut in 0usize..100) {
        every_dns_name(&bytes);
        every_dns_name(&bytes[..bytes.len().saturating_sub(cut)]);
    }

    #[test]
    fn bytes_that_look_like_http(bytes in http_like()) {
        every_http_name(&bytes);
    }

    #[test]
    fn bytes_that_look_like_tls(bytes in tls_like()) {
        every_tls_name(&bytes);
    }

    /// However a hello is spread over records and cut, whole or not, it comes to the same and as soon.
    #[test]
    fn any_cut_of_a_hello_is_the_whole(
        bytes in tls_like(),
        size in 1_usize..60,
        idle in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..3), 0..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut records: Vec<Vec<u8>> = (message(&bytes).chunks(size))
            .map(|part| [&[22, 3, 1, 0, part.len() as u8][..], part].concat())
            .collect();
        for (at, what) in idle {
            let record = [&b"\x16\x03\x01\0\0"[..], b"\x15\x03\x01\0\x02\x01\x5a", b"\x17\x03\x01\0\x01."][what];
            records.insert(at.index(records.len() + 1), record.to_vec());
        }
        let mut stream = records.concat();
        for (at, value) in flips {
            let at = at.index(stream.len());
            stream[at] = value;
        }
        cuts.sort_by_key(|cut| cut.index(stream.len() + 1));
        cut_tls_name(&stream, cuts.iter().map(|cut| cut.index(stream.len() + 1)));
        cut_tls_name(&stream, 0..stream.len());
    }

    /// A name is told by its labels alone, whatever bytes they hold.
    #[test]
    fn names_are_told_apart(
        one in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..4), 1..4),
        other in prop::collection::vec(prop::collection::vec(prop::sample::select(b".\\A0a".to_vec()), 1..4), 1..4),
    ) {
        let name = |labels: &[Vec<u8>]| {
            let mut message = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in labels {
                message.push(label.len() as u8);
                message.extend(label);
            }
            message.extend([0, 0, 1, 0, 1]);
            let mut name = Name::new();
            Message::parse(&message).unwrap().question(&mut name).unwrap();
            name
        };
        let same = one.len() == other.len()
            && one.iter().zip(&other).all(|(one, other)| one.eq_ignore_ascii_case(other));
        prop_assert_eq!(name(&one) == name(&other), same);
        let lower: Vec<_> = other.iter().map(|label| label.to_ascii_lowercase()).collect();
        prop_assert!(name(&lower) == name(&other));
    }
}

#[test]
fn samples_are_what_they_are_meant_to_be() {
    for bytes in SAMPLES {
        read_all(bytes);
    }
    let records = Message::parse(SAMPLES[0]).unwrap().records();
    let data: Vec<_> = records.map(|record| record.unwrap().data).collect();
    assert!(matches!(
        data[..],
        [RecordData::Cname(_), RecordData::A(_), RecordData::Opt(_)]
    ));
    assert!(matches!(
        sni(SAMPLES[1], &mut ServerName::new()),
        Sni::Name { host, .. } if host.as_bytes() == b"a.ex-ple"
    ));
    assert!(matches!(
        request_head(SAMPLES[2]),
        Http::Request(request) if matches!(request.host, RequestHost::Host(_))
    ));
}

#[test]
fn the_strategies_reach_every_outcome() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut seen = [0usize; 9];
    for _ in 0..10_000 {
        let dns = dns_like().new_tree(&mut runner).unwrap().current();
        let message = Message::parse(&dns).unwrap();
        let with_records = message.records().any(|record| record.is_ok());
        seen[if message.trailing().is_err() {
            0
        } else {
            1 + usize::from(with_records)
        }] += 1;
        let tls = tls_like().new_tree(&mut runner).unwrap().current();
        match sni(&tls, &mut ServerName::new()) {
            Sni::Name { .. } => seen[3] += 1,
            Sni::Absent { .. } => seen[4] += 1,
            Sni::Malformed(_) => seen[5] += 1,
            _ => {}
        }
        let http = http_like().new_tree(&mut runner).unwrap().current();
        if let Http::Request(request) = request_head(&http) {
            seen[match request.host {
                RequestHost::Host(_) => 6,
                RequestHost::Absent => 7,
                RequestHost::Ambiguous(_) => 8,
            }] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}
