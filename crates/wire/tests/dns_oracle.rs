//! DNS messages, whole and damaged, against hickory-proto: the same names, addresses and refusals. Each kind of
//! disagreement is named here with its reason.
#![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use hickory_proto::op;
use hickory_proto::rr::{self, RData, rdata};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};
use portcullis_wire::dns::{Defect, Message, Name, REPLY_MAX, Record, RecordData, Reply, reply};
use proptest::prelude::*;

/// The canonical form of their name, made from its labels alone.
fn canonical(name: &rr::Name) -> String {
    let escape = |byte: &u8| match byte.to_ascii_lowercase() {
        byte if byte.is_ascii_graphic() && !b".\\".contains(&byte) => char::from(byte).to_string(),
        byte => format!("\\{byte:03}"),
    };
    let labels: Vec<String> = name
        .iter()
        .map(|label| label.iter().map(escape).collect())
        .collect();
    labels.join(".")
}

/// What we read: questions, then records with the data that both read; or the first defect.
fn ours(bytes: &[u8]) -> Result<Vec<String>, Defect> {
    let message = Message::parse(bytes)?;
    let mut seen = Vec::new();
    for question in message.questions() {
        let question = question?;
        let (name, record_type) = (question.name.to_name(), question.record_type.0);
        seen.push(format!(
            "{} {record_type} {}",
            name.as_str(),
            question.class
        ));
    }
    for record in message.records() {
        let record = record?;
        let (name, data) = (record.name.to_name(), our_data(&record));
        if let RecordData::Opt(edns) = record.data {
            let (size, version, dnssec) = (edns.udp_payload_size, edns.version, edns.dnssec_ok);
            seen.push(format!("edns {size} {version} {dnssec}"));
            continue;
        }
        let (record_type, class, ttl) = (record.record_type.0, record.class, record.ttl);
        seen.push(format!(
            "{} {record_type} {class} {ttl} {data}",
            name.as_str()
        ));
    }
    // They keep OPT apart.
    seen.sort();
    Ok(seen)
}

fn our_data(record: &Record<'_>) -> String {
    match record.data {
        RecordData::A(address) => address.to_string(),
        RecordData::Aaaa(address) => address.to_string(),
        RecordData::Cname(target) => target.to_name().as_str().to_owned(),
        RecordData::Opt(_) | RecordData::Other(_) => "-".to_owned(),
    }
}

/// The same of what they read.
fn theirs(bytes: &[u8]) -> Result<Vec<String>, DecodeError> {
    let message = op::Message::from_vec(bytes)?;
    let questions = message.queries.iter().map(|query| {
        let (record_type, class) = (u16::from(query.query_type), u16::from(query.query_class));
        format!("{} {record_type} {class}", canonical(&query.name))
    });
    let records = message.all_sections().map(|record| {
        let data = match &record.data {
            RData::A(address) if record.dns_class == rr::DNSClass::IN => address.0.to_string(),
            RData::AAAA(address) if record.dns_class == rr::DNSClass::IN => address.0.to_string(),
            RData::CNAME(target) => canonical(&target.0),
            _ => "-".to_owned(),
        };
        let (record_type, class) = (u16::from(record.record_type()), u16::from(record.dns_class));
        // They leave RFC 2181 section 8 to the caller.
        let ttl = Some(record.ttl).filter(|ttl| ttl >> 31 == 0).unwrap_or(0);
        format!(
            "{} {record_type} {class} {ttl} {data}",
            canonical(&record.name)
        )
    });
    let edns = message.edns.iter().map(|edns| {
        let (size, version, flags) = (edns.max_payload(), edns.version(), edns.flags());
        format!("edns {size} {version} {}", flags.dnssec_ok)
    });
    let mut seen: Vec<String> = questions.chain(records).chain(edns).collect();
    seen.sort();
    Ok(seen)
}

/// Why we may refuse what they take: they follow pointers into the header, and any number of them.
fn may_refuse_alone(defect: Defect) -> bool {
    matches!(defect, Defect::PointerIntoHeader | Defect::TooManyPointers)
}

/// Why we may take what they refuse.
fn may_take_alone(error: &DecodeError, bytes: &[u8]) -> bool {
    match error {
        // Labels that a pointer leads to may run into those that led there: strange, but there is one reading.
        DecodeError::LabelOverlapsWithOther { .. } => true,
        // They read the data of all types, and refuse signatures outside the additional section; an A or AAAA of another
        // class than the Internet's is no address to us.
        _ => has_other_data(bytes),
    }
}

fn has_other_data(bytes: &[u8]) -> bool {
    let records = Message::parse(bytes).unwrap().records();
    records.flatten().any(|record| {
        matches!(record.data, RecordData::Other(_))
            || matches!(record.data, RecordData::Opt(edns) if !edns.options.is_empty())
    })
}

/// Compares; true where both took the message.
fn compare(bytes: &[u8]) -> bool {
    match (ours(bytes), theirs(bytes)) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours, theirs, "{bytes:?}");
            return true;
        }
        (Err(_), Err(_)) => {}
        (Err(defect), Ok(theirs)) => assert!(
            may_refuse_alone(defect),
            "{defect}, but they read {theirs:?} of {bytes:?}"
        ),
        (Ok(ours), Err(error)) => assert!(
            may_take_alone(&error, bytes),
            "{error}, but we read {ours:?} of {bytes:?}"
        ),
    }
    false
}

fn name() -> impl Strategy<Value = rr::Name> {
    let label = prop_oneof![
        6 => "[a-zA-Z0-9_-]{1,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 1..8),
        1 => Just(vec![b'a'; 63]),
    ];
    prop::collection::vec(label, 0..5).prop_filter_map("at most 255 bytes", |labels| {
        let mut name = rr::Name::from_labels(labels).ok()?;
        name.set_fqdn(true);
        Some(name)
    })
}

fn record() -> impl Strategy<Value = rr::Record> {
    let data = prop_oneof![
        any::<u32>().prop_map(|address| RData::A(rdata::A(Ipv4Addr::from(address)))),
        any::<u128>().prop_map(|address| RData::AAAA(rdata::AAAA(Ipv6Addr::from(address)))),
        name().prop_map(|target| RData::CNAME(rdata::CNAME(target))),
        name().prop_map(|target| RData::NS(rdata::NS(target))),
        name().prop_map(|target| RData::MX(rdata::MX::new(7, target))),
        "[ -~]{0,40}".prop_map(|text| RData::TXT(rdata::TXT::new(vec![text]))),
    ];
    (name(), any::<u32>(), data)
        .prop_map(|(name, ttl, data)| rr::Record::from_rdata(name, ttl, data))
}

/// A message as they write it, with compressed names.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let records = || prop::collection::vec(record(), 0..4);
    let questions = prop::collection::vec(
        (name(), prop::sample::select(vec![1u16, 5, 28, 65, 255])),
        0..3,
    );
    let edns = prop::option::of((512u16.., any::<bool>()));
    (
        any::<u16>(),
        any::<bool>(),
        questions,
        records(),
        records(),
        records(),
        edns,
    )
        .prop_map(
            |(id, is_response, questions, answers, authorities, additionals, edns)| {
                let kind = if is_response {
                    op::MessageType::Response
                } else {
                    op::MessageType::Query
                };
                let mut message = op::Message::new(id, kind, op::OpCode::Query);
                for (name, record_type) in questions {
                    message.add_query(op::Query::query(name, rr::RecordType::from(record_type)));
                }
                message.add_answers(answers);
                message.add_authorities(authorities);
                message.add_additionals(additionals);
                if let Some((size, dnssec_ok)) = edns {
                    let mut edns = op::Edns::new();
                    edns.set_max_payload(size).set_dnssec_ok(dnssec_ok);
                    message.set_edns(edns);
                }
                message.to_vec().unwrap()
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn messages_are_read_alike(bytes in message()) {
        prop_assert!(compare(&bytes));
        prop_assert_eq!(Message::parse(&bytes).unwrap().trailing(), Ok(0));
    }

    #[test]
    fn damaged_messages_are_read_or_refused_alike(
        bytes in message(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        pointer in prop::option::of((any::<prop::sample::Index>(), 0u16..300)),
        cut in prop_oneof![Just(0usize), 0usize..40],
    ) {
        let mut bytes = bytes;
        for (at, value) in flips {
            // The id says nothing; the second byte of the flags only tells codes that neither judges.
            let at = 4 + at.index(bytes.len() - 4);
            bytes[at] = value;
        }
        if let Some((at, target)) = pointer {
            let at = at.index(bytes.len() - 1);
            if at >= 12 {
                bytes[at..at + 2].copy_from_slice(&(0xc000 | target).to_be_bytes());
            }
        }
        let kept = bytes.len().saturating_sub(cut).max(12);
        compare(&bytes[..kept]);
    }

    /// Names alone, out of pointers and labels at random.
    #[test]
    fn names_are_read_or_refused_alike(
        pieces in prop::collection::vec(
            prop_oneof![
                4 => prop::collection::vec(any::<u8>(), 1..5).prop_map(|label| [&[label.len() as u8][..], &label].concat()),
                1 => Just([&[63][..], &[b'x'; 63]].concat()),
                2 => Just(vec![0]),
                3 => (12u16..60).prop_map(|at| (0xc000 | at).to_be_bytes().to_vec()),
                1 => prop::collection::vec(any::<u8>(), 0..3),
            ],
            1..12,
        ),
        start in any::<prop::sample::Index>(),
    ) {
        // The message is one answer whose name begins anywhere behind an unread record.
        let soup = [&pieces.concat()[..], &[0]].concat();
        let mut bytes = vec![0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        bytes.extend([0, 0, 10, 0, 1, 0, 0, 0, 0]);
        bytes.extend((soup.len() as u16).to_be_bytes());
        bytes.extend(&soup);
        let target = 23 + start.index(soup.len());
        bytes.extend((0xc000 | target as u16).to_be_bytes());
        bytes.extend([0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]);
        let theirs = {
            let mut decoder = BinDecoder::new(&bytes);
            decoder.read_slice(target).unwrap();
            rr::Name::read(&mut decoder)
        };
        let records = Message::parse(&bytes).unwrap().records();
        let ours = records.last().unwrap().map(|record| record.name.to_name());
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours.as_str(), canonical(theirs)),
            (Ok(_), Err(DecodeError::LabelOverlapsWithOther { .. })) => {}
            // They follow pointers into the header.
            (Err(Defect::PointerIntoHeader), Ok(_)) => {}
            (Err(_), Err(_)) => {}
            _ => prop_assert!(false, "{:?}, {:?}", ours, theirs),
        }
    }

    #[test]
    fn our_replies_are_theirs_to_read(
        asked in name(),
        record_type in prop::sample::select(vec![1u16, 28, 65]),
        edns in any::<bool>(),
        ttl in 0u32..1 << 31,
    ) {
        let mut query = op::Message::query();
        query.add_query(op::Query::query(asked.clone(), rr::RecordType::from(record_type)));
        if edns {
            query.set_edns(op::Edns::new());
        }
        let bytes = query.to_vec().unwrap();
        let query = Message::parse(&bytes).unwrap();
        for (what, rcode) in [
            (Reply::Refused, op::ResponseCode::Refused),
            (Reply::NxDomain, op::ResponseCode::NXDomain),
            (Reply::Zero { ttl }, op::ResponseCode::NoError),
        ] {
            let mut buffer = [0; REPLY_MAX];
            let replied = op::Message::from_vec(reply(&query, what, &mut buffer).unwrap()).unwrap();
            prop_assert_eq!(replied.metadata.id, query.id());
            prop_assert_eq!(replied.metadata.response_code, rcode);
            prop_assert!(replied.queries[0].name.eq_case(&asked));
            prop_assert_eq!(replied.edns.is_some(), edns);
            let addresses: Vec<_> = replied.answers.iter().map(|record| (record.ttl, record.data.to_string())).collect();
            let expected = match (what, record_type) {
                (Reply::Zero { .. }, 1) => vec![(ttl, "0.0.0.0".to_owned())],
                (Reply::Zero { .. }, 28) => vec![(ttl, "::".to_owned())],
                _ => vec![],
            };
            prop_assert_eq!(addresses, expected);
        }
    }
}

#[test]
fn damage_leaves_some_messages_whole() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let (mut whole, mut refused) = (0, 0);
    for at in 0..3_000 {
        let mut bytes = message().new_tree(&mut runner).unwrap().current();
        let at = 12 + at % (bytes.len() - 11).max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = byte.wrapping_add(1);
        }
        if compare(&bytes) {
            whole += 1;
        } else {
            refused += 1;
        }
    }
    assert!(
        whole > 500 && refused > 200,
        "{whole} whole, {refused} refused"
    );
}

#[test]
fn a_name_is_written_as_theirs() {
    let name = rr::Name::from_str("Some.Example.").unwrap();
    let ours = Name::from_text(b"Some.Example.").unwrap();
    assert_eq!(canonical(&name), ours.as_str());
}
