//! The records of a message (RFC 1035 section 4.1.3): whose, and for A, AAAA and CNAME, what.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{CLASS_IN, Defect, Edns, EncodedName, Message, RecordType};

/// The opcode of a dynamic update (RFC 2136).
const UPDATE: u8 = 5;

/// The part of a message that a record stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// What was asked for, with the CNAMEs that lead there.
    Answer,
    /// The servers that would know.
    Authority,
    /// What else may help, and OPT.
    Additional,
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where it stands.
    pub section: Section,
    /// Whose it is.
    pub name: EncodedName<'a>,
    /// Its type.
    pub record_type: RecordType,
    /// Its class; 1 is the Internet. Of OPT, something else.
    pub class: u16,
    /// Seconds that it may be kept; with the top bit set it counts as 0 (RFC 2181 section 8).
    pub ttl: u32,
    /// What it says.
    pub data: RecordData<'a>,
}

/// The data of a record.
#[derive(Clone, Copy, Debug)]
pub enum RecordData<'a> {
    /// An address of the name (RFC 1035 section 3.4.1).
    A(Ipv4Addr),
    /// An address of the name (RFC 3596 section 2.2).
    Aaaa(Ipv6Addr),
    /// The name whose records count for this one, too (RFC 1035 section 3.3.1).
    Cname(EncodedName<'a>),
    /// EDNS (RFC 6891).
    Opt(Edns<'a>),
    /// Another type or class, unread. Names in it may be compressed.
    Other(&'a [u8]),
}

/// Iterator over the records of all sections; ends after the first defect.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    message: Message<'a>,
    /// `None` before the questions were passed, and after the end.
    at: Option<usize>,
    /// Still to come, by section.
    left: [u16; 3],
    started: bool,
    opt_seen: bool,
}

impl<'a> Records<'a> {
    pub(super) fn new(message: Message<'a>) -> Self {
        Self {
            message,
            at: None,
            left: [
                message.answer_count(),
                message.authority_count(),
                message.additional_count(),
            ],
            started: false,
            opt_seen: false,
        }
    }

    /// The place after the last record that was read; `None` before the first and after a defect.
    pub(super) fn place(&self) -> Option<usize> {
        self.at
    }

    fn read(&mut self) -> Result<Option<Record<'a>>, Defect> {
        if !self.started {
            self.started = true;
            self.at = Some(self.message.after_questions()?);
        }
        let Some(at) = self.at else {
            return Ok(None);
        };
        let sections = [Section::Answer, Section::Authority, Section::Additional];
        let mut waiting = sections.into_iter().zip(&mut self.left);
        let Some((section, left)) = waiting.find(|(_, left)| **left > 0) else {
            return Ok(None);
        };
        *left -= 1;
        let is_update = self.message.opcode() == UPDATE;
        let (record, after) = read_record(self.message.bytes(), at, section, is_update)?;
        if let RecordData::Opt(_) = record.data {
            let misplaced = section != Section::Additional || !record.name.is_root();
            if misplaced || std::mem::replace(&mut self.opt_seen, true) {
                return Err(Defect::Opt);
            }
        }
        self.at = Some(after);
        Ok(Some(record))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Defect>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.read().transpose();
        if let Some(Err(_)) = record {
            self.at = None;
        }
        record
    }
}

impl std::iter::FusedIterator for Records<'_> {}

fn read_record(
    message: &[u8],
    at: usize,
    section: Section,
    is_update: bool,
) -> Result<(Record<'_>, usize), Defect> {
    let (name, at) = EncodedName::parse(message, at)?;
    let fixed = message.get(at..).and_then(<[u8]>::first_chunk::<10>);
    let [t0, t1, c0, c1, s0, s1, s2, s3, l0, l1] = *fixed.ok_or(Defect::Truncated)?;
    let start = at + 10;
    let after = start + usize::from(u16::from_be_bytes([l0, l1]));
    let data = message.get(start..after).ok_or(Defect::Truncated)?;
    let record_type = RecordType(u16::from_be_bytes([t0, t1]));
    let class = u16::from_be_bytes([c0, c1]);
    let ttl = u32::from_be_bytes([s0, s1, s2, s3]);
    let data = match (record_type, class) {
        // An update means by empty data that a record set exists or goes (RFC 2136 section 2.4).
        (_, _) if is_update && data.is_empty() && record_type != RecordType::OPT => {
            RecordData::Other(data)
        }
        (RecordType::OPT, _) => RecordData::Opt(Edns::new(class, ttl, data)),
        (RecordType::A, CLASS_IN) => RecordData::A(Ipv4Addr::from(
            <[u8; 4]>::try_from(data).map_err(|_| Defect::DataLength)?,
        )),
        (RecordType::AAAA, CLASS_IN) => RecordData::Aaaa(Ipv6Addr::from(
            <[u8; 16]>::try_from(data).map_err(|_| Defect::DataLength)?,
        )),
        (RecordType::CNAME, _) => {
            let (target, end) = EncodedName::parse(message, start)?;
            if end != after {
                return Err(Defect::DataLength);
            }
            RecordData::Cname(target)
        }
        _ => RecordData::Other(data),
    };
    let record = Record {
        section,
        name,
        record_type,
        class,
        ttl: if ttl >> 31 == 0 { ttl } else { 0 },
        data,
    };
    Ok((record, after))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;

    /// Answers to one question `a.b`, counted as given.
    fn response(counts: [u8; 3], records: &[u8]) -> Vec<u8> {
        let [answers, authorities, additional] = counts;
        let mut message = vec![
            0,
            7,
            0x81,
            0x80,
            0,
            1,
            0,
            answers,
            0,
            authorities,
            0,
            additional,
        ];
        message.extend(b"\x01a\x01b\0\0\x01\0\x01");
        message.extend(records);
        message
    }

    fn show(message: &[u8]) -> Vec<String> {
        let records = Message::parse(message).unwrap().records();
        let shown = records.map(|record| match record {
            Err(defect) => defect.name().to_owned(),
            Ok(record) => {
                let data = match record.data {
                    RecordData::A(address) => address.to_string(),
                    RecordData::Aaaa(address) => address.to_string(),
                    RecordData::Cname(name) => name.to_name().to_string(),
                    RecordData::Opt(edns) => format!("{edns:?}"),
                    RecordData::Other(data) => format!("{data:?}"),
                };
                let name = record.name.to_name();
                let (section, kind, ttl) = (record.section, record.record_type, record.ttl);
                format!("{section:?} {name} {ttl} {} {kind} {data}", record.class)
            }
        });
        shown.collect()
    }

    #[test]
    fn records_of_all_sections() {
        let records = [
            &b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01c\xc0\x0e"[..],
            b"\x01c\xc0\x0e\0\x01\0\x01\0\0\x01\0\0\x04\xc0\0\x02\x01",
            b"\xc0\x0c\0\x1c\0\x01\x80\0\0\0\0\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01",
            b"\xc0\x0e\0\x02\0\x01\0\0\0\x01\0\x01\0",
            b"\0\0\x29\x04\xd0\x01\0\x80\0\0\0",
        ]
        .concat();
        assert_eq!(
            show(&response([3, 1, 1], &records)),
            [
                "Answer a.b 60 1 CNAME c.b",
                "Answer c.b 256 1 A 192.0.2.1",
                "Answer a.b 0 1 AAAA 2001:db8::1",
                "Authority b 1 1 NS [0]",
                "Additional . 16809984 1232 OPT Edns { udp_payload_size: 1232, extended_rcode: 1, version: 0, \
                 dnssec_ok: true, options: [] }",
            ]
        );
    }

    #[test]
    fn defects_end_the_iteration() {
        let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";
        let table: &[([u8; 3], &[u8], &str)] = &[
            ([1, 0, 0], b"", "dns-truncated"),
            (
                [1, 0, 0],
                b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0",
                "dns-truncated",
            ),
            (
                [1, 0, 0],
                b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x01\x02\x03",
                "dns-truncated",
            ),
            (
                [1, 0, 0],
                b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x03\x01\x02\x03",
                "dns-data-length",
            ),
            (
                [1, 0, 0],
                b"\xc0\x0c\0\x1c\0\x01\0\0\0\0\0\x03\x01\x02\x03",
                "dns-data-length",
            ),
            // A CNAME that ends before its data, and one that runs past it.
            (
                [1, 0, 0],
                b"\xc0\x0c\0\x05\0\x01\0\0\0\0\0\x03\xc0\x0c\0",
                "dns-data-length",
            ),
            (
                [1, 0, 0],
                b"\xc0\x0c\0\x05\0\x01\0\0\0\0\0\x01\x01a\0",
                "dns-data-length",
            ),
            (
                [1, 0, 0],
                b"\xc0\x15\0\x05\0\x01\0\0\0\0\0\x01\x01a\0",
                "dns-pointer-forward",
            ),
            ([1, 0, 0], opt, "dns-opt"),
            ([0, 0, 1], b"\x01a\0\0\x29\x04\xd0\0\0\0\0\0\0", "dns-opt"),
        ];
        for (counts, records, expected) in table {
            assert_eq!(
                show(&response(*counts, records)),
                [*expected],
                "{records:?}"
            );
        }
        let twice = show(&response([0, 0, 3], &[&opt[..], opt, opt].concat()));
        assert_eq!(twice.len(), 2);
        assert_eq!(twice[1], "dns-opt");
    }

    #[test]
    fn an_update_may_have_records_without_data() {
        let mut update = response([1, 0, 0], b"\xc0\x0c\0\x01\0\xff\0\0\0\0\0\0");
        update[2] = 0x28;
        assert_eq!(show(&update), ["Answer a.b 0 255 A []"]);
        update[2] = 0x28 | 0x80;
        update[26] = 1;
        assert_eq!(show(&update), ["Answer a.b 0 1 A []"]);
    }

    #[test]
    fn another_class_has_other_data() {
        let chaos = b"\xc0\x0c\0\x01\0\x03\0\0\0\0\0\x03\x01\x02\x03";
        assert_eq!(
            show(&response([1, 0, 0], chaos)),
            ["Answer a.b 0 3 A [1, 2, 3]"]
        );
    }
}
