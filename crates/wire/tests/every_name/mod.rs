//! Reads every name that bytes hold as DNS, TLS and HTTP, and checks what must hold for any bytes. Shared by the property
//! tests and the fuzz targets. Allocates nothing.
#![allow(dead_code, reason = "each test and fuzz target uses its part of these")]

use std::hint::black_box;

use portcullis_wire::Host;
use portcullis_wire::dns::{
    EncodedName, Framed, Message, Messages, Name, REPLY_MAX, RecordData, Reply, framed, reply,
};
use portcullis_wire::http::{HeadReader, Http, RequestHost, request_head};
use portcullis_wire::tls::{HelloReader, ServerName, Sni, sni};

/// One message of each kind: a response with a CNAME and OPT, a hello, a request.
pub(crate) const SAMPLES: [&[u8]; 3] = [
    b"\x12\x34\x81\x80\0\x01\0\x02\0\0\0\x01\x03wWw\x07example\0\0\x01\0\x01\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01c\xc0\x10\
\x01c\xc0\x10\0\x01\0\x01\0\0\x01\0\0\x04\xc0\0\x02\x01\0\0\x29\x04\xd0\0\0\x80\0\0\0",
    b"\x16\x03\x01\0\x10\x01\0\0\x3c\x03\x030000000000\x16\x03\x01\0\x301111111111112222222222\0\0\x02\x13\x01\x01\0\0\x11\
\0\0\0\x0d\0\x0b\0\0\x08a.ex-ple",
    b"POST http://a.example:80/x HTTP/1.1\r\nHost: a.example\r\nX: y\r\n z\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];

/// Reads the bytes as a DNS message, and as a stream of them.
pub(crate) fn every_dns_name(bytes: &[u8]) {
    of_stream(bytes);
    let Ok(message) = Message::parse(bytes) else {
        assert!(bytes.len() < 12);
        return;
    };
    let mut name = Name::new();
    let first = message.question(&mut name);
    match message.questions().next() {
        None => assert_eq!(first, Ok(None)),
        Some(Err(defect)) => assert_eq!(first, Err(defect)),
        Some(Ok(question)) => {
            assert_eq!(first, Ok(Some((question.record_type, question.class))));
            assert!(question.name.to_name() == name);
            of_name(&question.name);
        }
    }
    let questions = message.questions().count();
    assert!(questions <= bytes.len() / 5 + 1);
    let mut defect = None;
    let mut answers = 0;
    for record in message.records() {
        assert_eq!(defect, None, "nothing comes after a defect");
        match record {
            Err(found) => defect = Some(found),
            Ok(record) => {
                of_name(&record.name);
                answers += usize::from(record.section == portcullis_wire::dns::Section::Answer);
                assert!(record.ttl < 1 << 31);
                if let RecordData::Cname(target) = record.data {
                    of_name(&target);
                }
            }
        }
    }
    assert_eq!(message.answers().filter(Result::is_ok).count(), answers);
    let trailing = message.trailing();
    assert_eq!(trailing.err(), defect);
    assert_eq!(message.edns().err(), defect);
    assert!(trailing.is_ok_and(|trailing| trailing <= bytes.len() - 12) || defect.is_some());
    of_reply(&message, defect.is_some());
}

fn of_name(encoded: &EncodedName<'_>) {
    let name = encoded.to_name();
    assert_eq!(encoded.is_root(), name.is_root());
    assert!(name.as_bytes().iter().all(u8::is_ascii_graphic));
    assert!(!name.as_bytes().iter().any(u8::is_ascii_uppercase));
    assert_eq!(name.as_str().as_bytes(), name.as_bytes());
    let labels = name.as_bytes().split(|byte| *byte == b'.');
    if !name.is_root() {
        assert!(labels.clone().all(|label| !label.is_empty()));
        assert_eq!(labels.count(), name.suffixes().count());
        // The text says all there is to say.
        assert!(Name::from_text(name.as_bytes()).as_ref() == Ok(&name));
    }
}

fn of_reply(query: &Message<'_>, is_defective: bool) {
    let mut buffer = [0; REPLY_MAX];
    for what in [
        Reply::Refused,
        Reply::NxDomain,
        Reply::Zero { ttl: u32::MAX },
    ] {
        let Ok(written) = reply(query, what, &mut buffer) else {
            continue;
        };
        assert!(!is_defective && !query.is_response());
        let replied = Message::parse(written).ok().filter(|replied| {
            replied.is_response() && replied.id() == query.id() && replied.trailing() == Ok(0)
        });
        let (mut asked, mut repeated) = (Name::new(), Name::new());
        let repeated_question = replied.map(|replied| replied.question(&mut repeated));
        assert_eq!(repeated_question, Some(query.question(&mut asked)));
        assert!(asked == repeated);
        assert!(reply(&replied.unwrap_or(*query), what, &mut [0; REPLY_MAX]).is_err());
    }
}

fn of_stream(bytes: &[u8]) {
    let mut messages = Messages::new(bytes);
    let mut used = 0;
    for message in messages.by_ref() {
        used += 2 + message.len();
    }
    assert_eq!(used + messages.rest().len(), bytes.len());
    match framed(messages.rest()) {
        Framed::NeedMore(missing) => assert!((1..=65_536).contains(&missing)),
        Framed::Message { .. } => panic!("a whole message was left over"),
    }
}

/// Places to cut a stream at: all of a short one, some of a long one.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(len / 128 + 1)
}

/// Reads the bytes as a TLS client's stream, whole and cut.
pub(crate) fn every_tls_name(bytes: &[u8]) {
    let mut room = ServerName::new();
    let whole = sni(bytes, &mut room);
    if let Sni::Name { host, .. } = &whole {
        assert!((1..=255).contains(&host.as_bytes().len()));
        of_host(host);
    }
    for cut in cuts(bytes.len()) {
        match sni(&bytes[..cut], &mut ServerName::new()) {
            Sni::Incomplete(missing) => {
                assert!(missing >= 1);
                let is_answered = matches!(whole, Sni::Name { .. } | Sni::Absent { .. });
                assert!(!is_answered || cut + missing <= bytes.len());
            }
            settled => assert_eq!(settled, whole, "{cut}"),
        }
    }
    cut_tls_name(bytes, cuts(bytes.len()));
    cut_tls_name(bytes, cuts(bytes.len()).step_by(3));
}

/// What is read as it comes is what is read at once, after each part, and as soon.
pub(crate) fn cut_tls_name(bytes: &[u8], cuts: impl Iterator<Item = usize>) {
    let mut reader = HelloReader::default();
    for cut in cuts.chain([bytes.len()]) {
        let (mut room, mut whole_room) = (ServerName::new(), ServerName::new());
        let read = reader.read(&bytes[..cut], &mut room);
        assert_eq!(read, sni(&bytes[..cut], &mut whole_room), "{cut}");
        let len = reader.stream_len();
        assert!(len <= cut);
        if matches!(read, Sni::Incomplete(_)) {
            continue;
        }
        if matches!(read, Sni::Name { .. } | Sni::Absent { .. }) {
            // It ends where it was first whole.
            let (hello, early) = (&bytes[..len], &bytes[..len - 1]);
            assert_eq!(sni(hello, &mut whole_room), read);
            let early = sni(early, &mut whole_room);
            assert!(matches!(early, Sni::Incomplete(1..)));
        }
        return;
    }
}

/// Reads the bytes as an HTTP client's stream, whole and cut.
pub(crate) fn every_http_name(bytes: &[u8]) {
    let whole = request_head(bytes);
    assert!(whole != Http::Incomplete || bytes.len() < portcullis_wire::http::HEAD_MAX);
    if let Http::Request(request) = &whole {
        assert!((1..=bytes.len()).contains(&request.head_len));
        assert!(bytes[..request.head_len].ends_with(b"\n"));
        // The head alone says the same, but where that of HTTP/2 begins so.
        let head = &bytes[..request.head_len];
        assert!(request_head(head) == whole || head == b"PRI * HTTP/2.0\r\n\r\n");
        if let RequestHost::Host(host) = &request.host {
            assert!(!host.as_bytes().is_empty());
            of_host(host);
        }
    }
    // What is read as it comes is what is read at once.
    let mut reader = HeadReader::default();
    let parts = cuts(bytes.len()).chain([bytes.len()]);
    let read = parts.map(|cut| reader.read(&bytes[..cut]));
    let mut settled = read.skip_while(|read| *read == Http::Incomplete);
    assert_eq!(settled.next().unwrap_or(Http::Incomplete), whole);
    for cut in cuts(bytes.len()) {
        let early = request_head(&bytes[..cut]);
        assert!(early == Http::Incomplete || early == whole, "{cut}");
    }
}

fn of_host(host: &Host<'_>) {
    assert!(host.is_same(host));
    black_box(host.kind());
    if let Ok(name) = Name::from_text(host.as_bytes()) {
        assert!(name.as_bytes().iter().all(u8::is_ascii_graphic));
    } else {
        assert!(host.kind() != portcullis_wire::HostKind::Name);
    }
}
