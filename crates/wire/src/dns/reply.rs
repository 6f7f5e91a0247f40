//! A reply in the place of a server's, to a query that may not go out.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{CLASS_IN, Defect, Message, Rcode, RecordType};

/// The longest reply: header, a question with the longest name, one AAAA record and OPT. Below the 512 bytes that every
/// client takes over UDP (RFC 1035 section 4.2.1).
pub const REPLY_MAX: usize = 12 + (255 + 4) + (12 + 16) + (11 + 6);

/// UDP payload that we announce (the DNS flag day 2020's number, which passes every usual path unfragmented).
const UDP_PAYLOAD: [u8; 2] = 1232u16.to_be_bytes();
/// Extended DNS error 15, "Blocked", as an option of OPT (RFC 8914 sections 2 and 4.16).
const BLOCKED: [u8; 6] = [0, 15, 0, 2, 0, 15];

/// What to reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// REFUSED: the server will not, for reasons of policy. Many clients then ask the next server.
    Refused,
    /// NXDOMAIN: there is no such name. Without an SOA record, so nobody keeps it (RFC 2308 section 5).
    NxDomain,
    /// 0.0.0.0 to a question for A, `::` to one for AAAA, and to any other that there is none.
    Zero {
        /// Seconds that the answer may be kept; values from 2^31 on count as 0 (RFC 2181 section 8).
        ttl: u32,
    },
}

/// Why a message cannot be replied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswerable {
    /// It is a response. A reply to it could make two hosts talk forever.
    Response,
    /// Its opcode is not 0, a query: an update or a notification has no such answer.
    Opcode(u8),
    /// It has not one question, but this many (RFC 9619).
    Questions(u16),
    /// It is defective.
    Defect(Defect),
}

impl fmt::Display for Unanswerable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response => f.write_str("the DNS message is itself a response"),
            Self::Opcode(opcode) => write!(f, "the DNS message has opcode {opcode}, not a query's"),
            Self::Questions(count) => write!(f, "the DNS query has {count} questions, not one"),
            Self::Defect(defect) => defect.fmt(f),
        }
    }
}

impl std::error::Error for Unanswerable {}

impl From<Defect> for Unanswerable {
    fn from(defect: Defect) -> Self {
        Self::Defect(defect)
    }
}

/// Writes the reply to a query and gives its bytes: the payload of a UDP datagram; over TCP, their length goes before them.
///
/// It repeats the id and the question byte by byte, so that a client that mixes upper and lower case against forgery
/// recognises it, and the flags RD and CD. A query with OPT gets one, with the extended error "Blocked".
///
/// # Errors
/// The message is no query with exactly one question, or is defective anywhere. Then it is to be dropped, not answered.
pub fn reply<'b>(
    query: &Message<'_>,
    reply: Reply,
    buffer: &'b mut [u8; REPLY_MAX],
) -> Result<&'b [u8], Unanswerable> {
    if query.is_response() {
        return Err(Unanswerable::Response);
    }
    if query.opcode() != 0 {
        return Err(Unanswerable::Opcode(query.opcode()));
    }
    let question_end = query.after_questions()?;
    // The name of the first question cannot be compressed, as nothing stands before it that a pointer may lead to.
    let (Some(question), Some(Ok(asked)), 1) = (
        query.bytes().get(12..question_end),
        query.questions().next(),
        query.question_count(),
    ) else {
        return Err(Unanswerable::Questions(query.question_count()));
    };
    let edns = query.edns()?;

    let (rcode, address) = match reply {
        Reply::Refused => (Rcode::REFUSED, None),
        Reply::NxDomain => (Rcode::NX_DOMAIN, None),
        Reply::Zero { ttl } => (
            Rcode::NO_ERROR,
            zero(asked.record_type, asked.class).map(|zero| (zero, ttl)),
        ),
    };
    let header = query.header();
    let rd = header[2] & 0x01;
    let cd = header[3] & 0x10;
    let mut writer = Writer { buffer, len: 0 };
    writer.put(&header[..2]);
    // QR and RD; RA, CD and the code.
    writer.put(&[0x80 | rd, 0x80 | cd | rcode.0 as u8]);
    let counts = [
        1,
        u16::from(address.is_some()),
        0,
        u16::from(edns.is_some()),
    ];
    for count in counts {
        writer.put(&count.to_be_bytes());
    }
    writer.put(question);
    if let Some((zero, ttl)) = address {
        // The name is a pointer to the question's.
        writer.put(&[0xc0, 12]);
        writer.put(&asked.record_type.0.to_be_bytes());
        writer.put(&asked.class.to_be_bytes());
        let ttl = if ttl >> 31 == 0 { ttl } else { 0 };
        writer.put(&ttl.to_be_bytes());
        writer.put(&(zero.len() as u16).to_be_bytes());
        writer.put(zero);
    }
    if let Some(edns) = edns {
        writer.put(&[0]);
        writer.put(&RecordType::OPT.0.to_be_bytes());
        writer.put(&UDP_PAYLOAD);
        // Extended code and version 0; DO as it came (RFC 3225 section 3).
        writer.put(&[0, 0, u8::from(edns.dnssec_ok) << 7, 0]);
        writer.put(&(BLOCKED.len() as u16).to_be_bytes());
        writer.put(&BLOCKED);
    }
    Ok(writer.written())
}

/// The address that leads nowhere, for the types that have one on the Internet.
fn zero(record_type: RecordType, class: u16) -> Option<&'static [u8]> {
    const V4: [u8; 4] = Ipv4Addr::UNSPECIFIED.octets();
    const V6: [u8; 16] = Ipv6Addr::UNSPECIFIED.octets();
    if class != CLASS_IN {
        return None;
    }
    match record_type {
        RecordType::A => Some(&V4),
        RecordType::AAAA => Some(&V6),
        _ => None,
    }
}

struct Writer<'b> {
    buffer: &'b mut [u8; REPLY_MAX],
    len: usize,
}

impl<'b> Writer<'b> {
    /// Appends; [`REPLY_MAX`] is the sum of the longest parts, so there is room.
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.buffer.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn written(self) -> &'b [u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;

    fn query(flags: [u8; 2], questions: u8, additional: u8, rest: &[u8]) -> Vec<u8> {
        let mut query = vec![
            0xab, 0xcd, flags[0], flags[1], 0, questions, 0, 0, 0, 0, 0, additional,
        ];
        query.extend(rest);
        query
    }

    fn answer(query: &[u8], what: Reply) -> Result<Vec<u8>, Unanswerable> {
        let mut buffer = [0; REPLY_MAX];
        reply(&Message::parse(query).unwrap(), what, &mut buffer).map(<[u8]>::to_vec)
    }

    const QUESTION_A: &[u8] = b"\x03aDs\x07ExAmple\0\0\x01\0\x01";
    const QUESTION_AAAA: &[u8] = b"\x03aDs\x07ExAmple\0\0\x1c\0\x01";
    const QUESTION_HTTPS: &[u8] = b"\x03aDs\x07ExAmple\0\0\x41\0\x01";
    const QUESTION_CHAOS: &[u8] = b"\x03aDs\x07ExAmple\0\0\x01\0\x03";
    const OPT: &[u8] = b"\0\0\x29\x10\0\0\0\x80\0\0\x0c\0\x0a\0\x08cccccccc";

    #[test]
    fn replies() {
        let reply_opt = b"\0\0\x29\x04\xd0\0\0\x80\0\0\x06\0\x0f\0\x02\0\x0f";
        let v4 = b"\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\0\0\0\0";
        let v6 = b"\xc0\x0c\0\x1c\0\x01\0\0\x01\x2c\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let zero = Reply::Zero { ttl: 300 };
        // Query flags and question, whether it has OPT; reply; flags, answer count and answer.
        type Case<'a> = ([u8; 2], &'a [u8], bool, Reply, [u8; 2], &'a [u8]);
        let table: &[Case<'_>] = &[
            ([1, 0], QUESTION_A, false, Reply::Refused, [0x81, 0x85], b""),
            ([1, 0], QUESTION_A, true, Reply::NxDomain, [0x81, 0x83], b""),
            ([0, 0x10], QUESTION_A, false, zero, [0x80, 0x90], v4),
            // AD asks whether the server says AD; it is not said.
            ([1, 0x20], QUESTION_AAAA, true, zero, [0x81, 0x80], v6),
            ([1, 0], QUESTION_HTTPS, true, zero, [0x81, 0x80], b""),
            ([1, 0], QUESTION_CHAOS, false, zero, [0x81, 0x80], b""),
        ];
        for (flags, question, with_opt, what, reply_flags, records) in table {
            let opt = if *with_opt { OPT } else { b"" };
            let asked = query(*flags, 1, u8::from(*with_opt), &[question, opt].concat());
            let opt = if *with_opt { &reply_opt[..] } else { b"" };
            let mut expected = query(
                *reply_flags,
                1,
                u8::from(*with_opt),
                &[question, *records, opt].concat(),
            );
            expected[7] = u8::from(!records.is_empty());
            let replied = answer(&asked, *what).unwrap();
            assert_eq!(replied, expected, "{what:?}");
            assert_eq!(Message::parse(&replied).unwrap().trailing(), Ok(0));
        }
    }

    #[test]
    fn the_longest_reply_fits() {
        let mut question = Vec::new();
        for len in [63u8, 63, 63, 61] {
            question.push(len);
            question.resize(question.len() + usize::from(len), b'a');
        }
        question.extend(b"\0\0\x1c\0\x01");
        let asked = query([1, 0], 1, 1, &[&question[..], OPT].concat());
        let replied = answer(&asked, Reply::Zero { ttl: u32::MAX }).unwrap();
        assert_eq!(replied.len(), REPLY_MAX);
        assert_eq!(Message::parse(&replied).unwrap().trailing(), Ok(0));
        const { assert!(REPLY_MAX <= 512) };
    }

    #[test]
    fn what_is_not_answered() {
        let twice = [QUESTION_A, QUESTION_A].concat();
        let table: &[(Vec<u8>, Unanswerable)] = &[
            (query([0x81, 0], 1, 0, QUESTION_A), Unanswerable::Response),
            (query([0x28, 0], 1, 0, QUESTION_A), Unanswerable::Opcode(5)),
            (query([1, 0], 0, 0, b""), Unanswerable::Questions(0)),
            (query([1, 0], 2, 0, &twice), Unanswerable::Questions(2)),
            (
                query([1, 0], 1, 0, b"\x01a"),
                Unanswerable::Defect(Defect::Truncated),
            ),
            (
                query([1, 0], 1, 1, QUESTION_A),
                Unanswerable::Defect(Defect::Truncated),
            ),
        ];
        for (asked, expected) in table {
            assert_eq!(answer(asked, Reply::Refused), Err(*expected));
        }
    }
}
