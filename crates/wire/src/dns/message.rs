//! A DNS message: its header (RFC 1035 section 4.1.1) and the way to its parts.

use super::encoded_name::{EncodedName, read};
use super::{Defect, Edns, Name, Rcode, Record, RecordData, RecordType, Records, Section};

/// A message whose header is there. What follows is read, and checked, by the iterators.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    header: &'a [u8; 12],
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes the payload of a UDP datagram, or a message out of a TCP stream (see [`framed`](super::framed)).
    ///
    /// # Errors
    /// Fewer than 12 bytes.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Defect> {
        let header = bytes.first_chunk().ok_or(Defect::HeaderTruncated)?;
        Ok(Self { header, bytes })
    }

    /// The whole message.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What ties a response to its query.
    #[inline]
    pub fn id(&self) -> u16 {
        self.word(0)
    }

    /// True for a response, false for a query.
    #[inline]
    pub fn is_response(&self) -> bool {
        self.header[2] & 0x80 != 0
    }

    /// Kind of query, 0 to 15; 0 is the usual one.
    #[inline]
    pub fn opcode(&self) -> u8 {
        self.header[2] >> 3 & 0x0f
    }

    /// The server answers for the zone itself.
    #[inline]
    pub fn is_authoritative(&self) -> bool {
        self.header[2] & 0x04 != 0
    }

    /// Something did not fit, and is to be asked for again over TCP.
    #[inline]
    pub fn is_truncated(&self) -> bool {
        self.header[2] & 0x02 != 0
    }

    /// The client wants the server to ask others.
    #[inline]
    pub fn recursion_desired(&self) -> bool {
        self.header[2] & 0x01 != 0
    }

    /// The server would ask others.
    #[inline]
    pub fn recursion_available(&self) -> bool {
        self.header[3] & 0x80 != 0
    }

    /// The client does DNSSEC itself (RFC 4035 section 3.2.2).
    #[inline]
    pub fn checking_disabled(&self) -> bool {
        self.header[3] & 0x10 != 0
    }

    /// The response code, without the upper bits that EDNS may add (see [`Edns::extended_rcode`]).
    #[inline]
    pub fn rcode(&self) -> Rcode {
        Rcode(u16::from(self.header[3] & 0x0f))
    }

    /// Questions that the header announces; RFC 9619 allows one at most.
    #[inline]
    pub fn question_count(&self) -> u16 {
        self.word(4)
    }

    /// Answers that the header announces.
    #[inline]
    pub fn answer_count(&self) -> u16 {
        self.word(6)
    }

    /// Authority records that the header announces.
    #[inline]
    pub fn authority_count(&self) -> u16 {
        self.word(8)
    }

    /// Additional records that the header announces.
    #[inline]
    pub fn additional_count(&self) -> u16 {
        self.word(10)
    }

    /// Writes the name of the first question in canonical form, and gives what is asked about it; `None` where the header
    /// announces no question. This is the hot path: nothing behind the question is looked at.
    ///
    /// # Errors
    /// The question is defective; what `name` then holds is nothing to rely on.
    #[inline]
    pub fn question(&self, name: &mut Name) -> Result<Option<(RecordType, u16)>, Defect> {
        if self.question_count() == 0 {
            name.clear();
            return Ok(None);
        }
        let at = read(self.bytes, 12, name)?;
        let (record_type, class) = type_and_class(self.bytes, at)?;
        Ok(Some((record_type, class)))
    }

    /// All questions. Servers answer one; a message with more is worth distrust.
    pub fn questions(&self) -> Questions<'a> {
        Questions {
            bytes: self.bytes,
            at: 12,
            left: self.question_count(),
        }
    }

    /// The records of all sections.
    pub fn records(&self) -> Records<'a> {
        Records::new(*self)
    }

    /// The records of the answer section.
    pub fn answers(&self) -> impl Iterator<Item = Result<Record<'a>, Defect>> + use<'a> {
        self.records()
            .take_while(|record| !matches!(record, Ok(record) if record.section != Section::Answer))
    }

    /// The OPT record, if there is one. Reads all records.
    ///
    /// # Errors
    /// Something in the message is defective.
    pub fn edns(&self) -> Result<Option<Edns<'a>>, Defect> {
        let mut found = None;
        for record in self.records() {
            if let RecordData::Opt(edns) = record?.data {
                found = Some(edns);
            }
        }
        Ok(found)
    }

    /// Reads the message to its end, and gives the number of bytes that follow after its last record.
    ///
    /// # Errors
    /// The first defect.
    pub fn trailing(&self) -> Result<usize, Defect> {
        let mut records = self.records();
        for record in records.by_ref() {
            record?;
        }
        // Reading without a defect leaves a place inside the message.
        Ok(self.bytes.len() - records.place().unwrap_or_default())
    }

    pub(super) fn after_questions(&self) -> Result<usize, Defect> {
        let mut questions = self.questions();
        for question in questions.by_ref() {
            question?;
        }
        Ok(questions.at)
    }

    pub(super) fn header(&self) -> &'a [u8; 12] {
        self.header
    }

    #[inline]
    fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.header[at], self.header[at + 1]])
    }
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The name asked about.
    pub name: EncodedName<'a>,
    /// The record type asked for.
    pub record_type: RecordType,
    /// The class; 1 is the Internet.
    pub class: u16,
}

/// Iterator over questions; ends after the first defect.
#[derive(Clone, Debug)]
pub struct Questions<'a> {
    bytes: &'a [u8],
    at: usize,
    left: u16,
}

impl<'a> Questions<'a> {
    fn read(&mut self) -> Result<Question<'a>, Defect> {
        let (name, at) = EncodedName::parse(self.bytes, self.at)?;
        let (record_type, class) = type_and_class(self.bytes, at)?;
        self.at = at + 4;
        Ok(Question {
            name,
            record_type,
            class,
        })
    }
}

impl<'a> Iterator for Questions<'a> {
    type Item = Result<Question<'a>, Defect>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let question = self.read();
        if question.is_err() {
            self.left = 0;
        }
        Some(question)
    }
}

impl std::iter::FusedIterator for Questions<'_> {}

#[inline]
fn type_and_class(bytes: &[u8], at: usize) -> Result<(RecordType, u16), Defect> {
    let fixed = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
    let [t0, t1, c0, c1] = *fixed.ok_or(Defect::Truncated)?;
    let record_type = RecordType(u16::from_be_bytes([t0, t1]));
    Ok((record_type, u16::from_be_bytes([c0, c1])))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;

    const QUERY: &[u8] = b"\x12\x34\x01\x10\0\x01\0\0\0\0\0\0\x03wWw\x07example\0\0\x1c\0\x01";

    #[test]
    fn header() {
        let message = Message::parse(QUERY).unwrap();
        assert_eq!(message.id(), 0x1234);
        assert!(!message.is_response() && message.recursion_desired());
        assert!(message.checking_disabled() && !message.is_truncated());
        assert_eq!((message.opcode(), message.rcode()), (0, Rcode::NO_ERROR));
        let response = b"\0\0\xae\x83\0\0\0\x01\0\x02\x01\x03";
        let response = Message::parse(response).unwrap();
        assert!(response.is_response() && response.is_authoritative() && response.is_truncated());
        assert!(response.recursion_available() && !response.recursion_desired());
        assert_eq!((response.opcode(), response.rcode()), (5, Rcode::NX_DOMAIN));
        assert_eq!(
            (
                response.question_count(),
                response.answer_count(),
                response.authority_count(),
                response.additional_count()
            ),
            (0, 1, 2, 259)
        );
        assert!(Message::parse(&QUERY[..11]).is_err());
    }

    #[test]
    fn the_question() {
        let mut name = Name::new();
        let message = Message::parse(QUERY).unwrap();
        assert_eq!(message.question(&mut name), Ok(Some((RecordType::AAAA, 1))));
        assert_eq!(name.as_str(), "www.example");
        assert_eq!(message.trailing(), Ok(0));
        for cut in 12..QUERY.len() {
            let cut = Message::parse(&QUERY[..cut]).unwrap();
            assert_eq!(cut.question(&mut name), Err(Defect::Truncated));
            assert_eq!(cut.trailing(), Err(Defect::Truncated));
        }
        let none = [&QUERY[..5], &[0; 7], b"junk"].concat();
        let none = Message::parse(&none).unwrap();
        assert_eq!(none.question(&mut name), Ok(None));
        assert_eq!(none.trailing(), Ok(4));
    }

    #[test]
    fn more_questions_share_their_names() {
        let mut message = QUERY.to_vec();
        message[5] = 2;
        message.extend(b"\x01x\xc0\x10\0\x01\0\x03");
        let message = Message::parse(&message).unwrap();
        let asked = message.questions().map(|question| {
            let question = question.unwrap();
            let name = question.name.to_name();
            (name.to_string(), question.record_type, question.class)
        });
        assert_eq!(
            asked.collect::<Vec<_>>(),
            [
                ("www.example".to_owned(), RecordType::AAAA, 1),
                ("x.example".to_owned(), RecordType::A, 3)
            ]
        );
    }
}
