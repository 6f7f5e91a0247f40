//! A name as a message holds it: labels, and pointers to labels that stood before (RFC 1035 sections 3.1, 4.1.4).

use super::name::WIRE_MAX;
use super::{Defect, Name};

/// Where the question begins; nothing before is a name.
const HEADER_LEN: usize = 12;

/// A name has at most 127 labels, and a pointer that shortens it replaces at least one. It also bounds what a message full
/// of pointers to pointers can cost.
const POINTERS_MAX: usize = 126;

/// A name inside a message that was walked to its end, so that writing it cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct EncodedName<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> EncodedName<'a> {
    /// Walks the name at `at`, and gives it with the place after it.
    pub(super) fn parse(message: &'a [u8], at: usize) -> Result<(Self, usize), Defect> {
        let mut labels = Labels::new(message, at);
        while labels.next()?.is_some() {}
        Ok((Self { message, at }, labels.after))
    }

    /// Writes the canonical form.
    pub fn write_to(&self, name: &mut Name) {
        // It was walked before, so this does not fail.
        if read(self.message, self.at, name).is_err() {
            name.clear();
        }
    }

    /// The canonical form.
    pub fn to_name(&self) -> Name {
        let mut name = Name::new();
        self.write_to(&mut name);
        name
    }

    /// True for the root.
    pub fn is_root(&self) -> bool {
        matches!(Labels::new(self.message, self.at).next(), Ok(None))
    }
}

/// Writes the name at `at` in canonical form, and gives the place after it.
#[inline]
pub(super) fn read(message: &[u8], at: usize, name: &mut Name) -> Result<usize, Defect> {
    name.clear();
    let mut labels = Labels::new(message, at);
    while let Some(label) = labels.next()? {
        name.push(label)?;
    }
    Ok(labels.after)
}

/// The walk along one name.
struct Labels<'a> {
    message: &'a [u8],
    /// The next length byte.
    at: usize,
    /// Where the labels that a pointer may end began: pointers lead to before it, so that each run is nearer to the start.
    run: usize,
    pointers: usize,
    /// Bytes so far without compression, the root's included.
    wire: usize,
    /// The place after the name: after its first pointer or its root. 0 until that is known, where no name ends.
    after: usize,
}

impl<'a> Labels<'a> {
    #[inline]
    fn new(message: &'a [u8], at: usize) -> Self {
        Self {
            message,
            at,
            run: at,
            pointers: 0,
            wire: 1,
            after: 0,
        }
    }

    #[inline]
    fn next(&mut self) -> Result<Option<&'a [u8]>, Defect> {
        loop {
            let rest = self.message.get(self.at..).unwrap_or_default();
            let (len, rest) = rest.split_first().ok_or(Defect::Truncated)?;
            match len {
                0 => {
                    if self.after == 0 {
                        self.after = self.at + 1;
                    }
                    return Ok(None);
                }
                1..=63 => {
                    let len = usize::from(*len);
                    self.wire += 1 + len;
                    if self.wire > WIRE_MAX {
                        return Err(Defect::NameTooLong);
                    }
                    self.at += 1 + len;
                    return rest.get(..len).map(Some).ok_or(Defect::Truncated);
                }
                64..=191 => return Err(Defect::LabelType),
                192..=255 => self.follow(*len, rest)?,
            }
        }
    }

    fn follow(&mut self, high: u8, rest: &[u8]) -> Result<(), Defect> {
        let low = rest.first().ok_or(Defect::Truncated)?;
        let target = usize::from(u16::from_be_bytes([high & 0x3f, *low]));
        if target >= self.run {
            return Err(Defect::PointerForward);
        }
        if target < HEADER_LEN {
            return Err(Defect::PointerIntoHeader);
        }
        self.pointers += 1;
        if self.pointers > POINTERS_MAX {
            return Err(Defect::TooManyPointers);
        }
        if self.after == 0 {
            self.after = self.at + 2;
        }
        (self.at, self.run) = (target, target);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;

    type Read = Result<(String, usize), Defect>;

    /// A message of an empty header and these bytes, and the name at this place of the bytes.
    fn at(place: usize, bytes: &[u8]) -> Read {
        let message = [&[0; HEADER_LEN], bytes].concat();
        let mut name = Name::new();
        let after = read(&message, HEADER_LEN + place, &mut name);
        let parsed = EncodedName::parse(&message, HEADER_LEN + place);
        assert_eq!(
            parsed.as_ref().map(|parsed| parsed.1),
            after.as_ref().copied()
        );
        if let Ok((parsed, _)) = parsed {
            assert_eq!(parsed.to_name(), name);
            assert_eq!(parsed.is_root(), name.is_root());
        }
        after.map(|after| (name.to_string(), after - HEADER_LEN))
    }

    #[test]
    fn names() {
        let ok = |text: &str, after| Ok((text.to_owned(), after));
        let table: &[(usize, &[u8], Read)] = &[
            (0, b"\x07Example\x03COM\0", ok("example.com", 13)),
            (0, b"\0", ok(".", 1)),
            (0, b"\x03a.b\x01c\0", ok("a\\046b.c", 7)),
            (0, b"\x02\xff\0\0", ok("\\255\\000", 4)),
            // Pointers: to a tail, to a pointer, to the root.
            (3, b"\x01a\0\x01b\xc0\x0c", ok("b.a", 7)),
            (5, b"\x01a\0\xc0\x0c\xc0\x0f", ok("a", 7)),
            (1, b"\0\xc0\x0c", ok(".", 3)),
            // To itself, forward, into its own labels, two that lead to one another.
            (0, b"\xc0\x0c", Err(Defect::PointerForward)),
            (0, b"\xc0\x0e\0", Err(Defect::PointerForward)),
            (0, b"\x01a\xc0\x0c", Err(Defect::PointerForward)),
            (2, b"\xc0\x0e\xc0\x0c", Err(Defect::PointerForward)),
            (0, b"\xc0\x05", Err(Defect::PointerIntoHeader)),
            (0, b"\x41a\0", Err(Defect::LabelType)),
            (0, b"\x81a\0", Err(Defect::LabelType)),
            (0, b"", Err(Defect::Truncated)),
            (0, b"\x01", Err(Defect::Truncated)),
            (0, b"\x03ab", Err(Defect::Truncated)),
            (0, b"\x02ab", Err(Defect::Truncated)),
            (0, b"\x02ab\xc0", Err(Defect::Truncated)),
            (99, b"\0", Err(Defect::Truncated)),
        ];
        for (place, bytes, expected) in table {
            assert_eq!(&at(*place, bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn the_longest_name() {
        let mut bytes = Vec::new();
        for len in [63, 63, 63, 61] {
            bytes.push(len);
            bytes.resize(bytes.len() + usize::from(len), b'a');
        }
        bytes.push(0);
        assert_eq!(bytes.len(), WIRE_MAX);
        assert_eq!(at(0, &bytes).unwrap().1, 255);
        // One byte more, before it and by a pointer.
        assert_eq!(
            at(0, &[b"\x01b", &bytes[..]].concat()),
            Err(Defect::NameTooLong)
        );
        assert_eq!(
            at(255, &[&bytes[..], b"\x01b\xc0\x0c"].concat()),
            Err(Defect::NameTooLong)
        );
    }

    #[test]
    fn a_chain_of_pointers_is_bounded() {
        let chain = |pointers: u16| -> Vec<u8> {
            let mut bytes = vec![1, b'a', 0, 0xc0, 12];
            for hop in 1..pointers {
                bytes.extend((0xc000 | (13 + 2 * hop)).to_be_bytes());
            }
            bytes
        };
        let last = |pointers: u16| usize::from(3 + 2 * (pointers - 1));
        assert_eq!(at(last(126), &chain(126)).unwrap().0, "a");
        assert_eq!(at(last(127), &chain(127)), Err(Defect::TooManyPointers));
    }
}
