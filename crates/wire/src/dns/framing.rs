//! DNS over TCP: each message follows its length in two bytes (RFC 1035 section 4.2.2, RFC 7766 section 8).
//!
//! Nothing is kept here: a caller that reassembles a stream hands over what it has from the last message's end on, and
//! throws away what was used.

/// What stands at the beginning of a part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// No whole message yet: at least this many further bytes are needed, 1 to 65,536.
    NeedMore(usize),
    /// A message of 0 to 65,535 bytes. [`Message::parse`](super::Message::parse) says whether it is one.
    Message {
        /// The message, without its length.
        message: &'a [u8],
        /// The stream after it.
        rest: &'a [u8],
    },
}

/// Reads the message at the beginning of a stream, or of what is left of it.
pub fn framed(stream: &[u8]) -> Framed<'_> {
    let Some(([high, low], after)) = stream.split_first_chunk() else {
        return Framed::NeedMore(2 - stream.len());
    };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    match after.split_at_checked(len) {
        Some((message, rest)) => Framed::Message { message, rest },
        None => Framed::NeedMore(len - after.len()),
    }
}

/// Iterator over the whole messages at the beginning of a stream; a client may send several at once.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Begins where a message begins.
    pub fn new(stream: &'a [u8]) -> Self {
        Self { rest: stream }
    }

    /// What no message was taken from yet. After the last message: the beginning of the next, to be kept.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match framed(self.rest) {
            Framed::NeedMore(_) => None,
            Framed::Message { message, rest } => {
                self.rest = rest;
                Some(message)
            }
        }
    }
}

impl std::iter::FusedIterator for Messages<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings() {
        for (stream, missing) in [
            (&b""[..], 2),
            (b"\0", 1),
            (b"\0\x03", 3),
            (b"\0\x03ab", 1),
            (b"\xff\xff", 65_535),
        ] {
            assert_eq!(framed(stream), Framed::NeedMore(missing), "{stream:?}");
        }
        let whole = Framed::Message {
            message: &[],
            rest: b"x",
        };
        assert_eq!(framed(b"\0\0x"), whole);
    }

    #[test]
    fn messages_sent_at_once_come_one_by_one() {
        let stream = b"\0\x02ab\0\0\0\x01c\0\x04de";
        let mut messages = Messages::new(stream);
        assert_eq!(
            messages.by_ref().collect::<Vec<_>>(),
            [&b"ab"[..], b"", b"c"]
        );
        assert_eq!(messages.rest(), b"\0\x04de");
        assert_eq!(framed(messages.rest()), Framed::NeedMore(2));
    }

    #[test]
    fn however_it_is_cut_the_messages_are_the_same() {
        let stream = b"\0\x02ab\0\0\0\x01c\0\x03def";
        for cut in 0..=stream.len() {
            let mut first = Messages::new(&stream[..cut]);
            let mut all: Vec<Vec<u8>> = first.by_ref().map(<[u8]>::to_vec).collect();
            let kept = [first.rest(), &stream[cut..]].concat();
            all.extend(Messages::new(&kept).map(<[u8]>::to_vec));
            assert_eq!(all, [&b"ab"[..], b"", b"c", b"def"], "{cut}");
        }
    }
}
