//! The ClientHello and its server name.

use std::fmt;

use super::TlsDefect;
use super::handshake::{Handshake, Stop, may_be_tls};
use crate::Host;

/// The type of the message (RFC 8446 section 4).
const CLIENT_HELLO: usize = 1;
/// Extension server_name (RFC 6066 section 3).
const SERVER_NAME: usize = 0;
/// Extension early_data (RFC 8446 section 4.2.10).
const EARLY_DATA: usize = 42;
/// Extension encrypted_client_hello (RFC 9849 section 5).
const ENCRYPTED_CLIENT_HELLO: usize = 0xfe0d;
/// The one kind of name there is (RFC 6066 section 3).
const HOST_NAME: usize = 0;

/// The longest name that is kept, the longest that DNS could hold.
const NAME_MAX: usize = 255;

/// What the beginning of a stream says about the server that the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sni<'b> {
    /// The hello is not whole: at least this many further bytes are needed, from 1 on.
    Incomplete(usize),
    /// A whole hello with a name. RFC 6066 allows DNS names alone; what else came is of another
    /// [kind](crate::HostKind).
    Name {
        /// The name as sent.
        host: Host<'b>,
        /// The hello carries an encrypted one, so this may be the name of a front, and the one that is meant is hidden.
        /// Browsers send the extension also where nothing is hidden (RFC 9849 section 6.2).
        encrypted: bool,
        /// The hello announces early data: records of it may stand before a second hello (RFC 8446 section 4.2.10).
        early_data: bool,
    },
    /// A whole hello without a name.
    Absent {
        /// As above.
        encrypted: bool,
        /// As above.
        early_data: bool,
    },
    /// No ClientHello of SSL 3 or TLS begins here. One in SSL 2's form, which cannot carry a name, counts as none.
    NotTls,
    /// A hello that every server must refuse.
    Malformed(TlsDefect),
}

/// The room that a name is put together in, as it may be spread over several records.
#[derive(Clone)]
pub struct ServerName {
    bytes: [u8; NAME_MAX],
}

impl ServerName {
    /// Room for a name.
    pub const fn new() -> Self {
        Self {
            bytes: [0; NAME_MAX],
        }
    }
}

impl Default for ServerName {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerName")
    }
}

/// Reads the first bytes of what a client sent. An answer other than [`Sni::Incomplete`] does not change when more bytes come.
///
/// Of a stream that comes in parts a [`HelloReader`] reads each once.
pub fn sni<'b>(stream: &[u8], room: &'b mut ServerName) -> Sni<'b> {
    HelloReader::default().read(stream, room)
}

/// Reads a hello that comes in parts: each byte is looked at once, but for those of the name, which are put together when the hello
/// is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HelloReader {
    message: Handshake,
    next: Field,
    found: Found,
}

/// What comes next in the message, behind what is to be passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    #[default]
    Type,
    Length,
    SessionId,
    CipherSuites,
    Compression,
    Extensions,
    Extension,
    /// The list of names, behind which so many bytes of the message are left.
    NameList {
        end: usize,
    },
    /// A name of that list.
    Name {
        end: usize,
    },
}

/// What the hello said until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    /// Where the host name begins, and its length, at most [`NAME_MAX`].
    name: Option<(Handshake, usize)>,
    encrypted: bool,
    early_data: bool,
}

impl HelloReader {
    /// The same as [`sni`] of the same bytes. `stream` begins with what the calls before were given, all of which were answered by
    /// [`Sni::Incomplete`].
    pub fn read<'b>(&mut self, stream: &[u8], room: &'b mut ServerName) -> Sni<'b> {
        match self.whole(stream, room) {
            Ok(read) => read,
            Err(Stop::Incomplete(missing)) => Sni::Incomplete(missing),
            Err(Stop::NotTls) => Sni::NotTls,
            Err(Stop::Defect(defect)) => Sni::Malformed(defect),
        }
    }

    /// What a whole hello says.
    fn whole<'b>(&mut self, stream: &[u8], room: &'b mut ServerName) -> Result<Sni<'b>, Stop> {
        self.advance(stream)?;
        let Found {
            name,
            encrypted,
            early_data,
        } = self.found;
        let Some((mut begin, len)) = name else {
            return Ok(Sni::Absent {
                encrypted,
                early_data,
            });
        };
        let name = room.bytes.get_mut(..len).ok_or(TlsDefect::NameTooLong)?;
        begin.copy(stream, name)?;
        Ok(Sni::Name {
            host: Host::new(name),
            encrypted,
            early_data,
        })
    }

    /// Bytes of the stream that were read: up to the end of the hello, once it is whole.
    pub fn stream_len(&self) -> usize {
        self.message.at()
    }

    /// Bytes that the last record which carries a part of the hello carries behind it, once it is whole. Clients leave none: before
    /// the server has answered there is nothing to say.
    pub fn behind(&self) -> usize {
        self.message.record()
    }

    /// Reads to the end of the hello.
    fn advance(&mut self, stream: &[u8]) -> Result<(), Stop> {
        let (message, found) = (&mut self.message, &mut self.found);
        // As soon as the first byte, or the second, is another protocol's, no more of it is awaited.
        if message.at() == 0 && !may_be_tls(stream) {
            return Err(Stop::NotTls);
        }
        loop {
            message.pass(stream)?;
            self.next = match self.next {
                Field::Type => {
                    if message.number(stream, 1, 0)? != CLIENT_HELLO {
                        return Err(Stop::NotTls);
                    }
                    Field::Length
                }
                Field::Length => {
                    let len = message.number(stream, 3, 0)?;
                    message.begin_body(len)?;
                    // Version and random.
                    message.skip(2 + 32)?;
                    Field::SessionId
                }
                Field::SessionId => {
                    let len = message.number(stream, 1, 0)?;
                    message.skip(len)?;
                    Field::CipherSuites
                }
                Field::CipherSuites => {
                    let len = message.number(stream, 2, 0)?;
                    message.skip(len)?;
                    Field::Compression
                }
                Field::Compression => {
                    let len = message.number(stream, 1, 0)?;
                    message.skip(len)?;
                    Field::Extensions
                }
                // Before extensions there were none (RFC 5246 section 7.4.1.2).
                Field::Extensions | Field::Extension if message.left() == 0 => return Ok(()),
                Field::Extensions => {
                    if message.number(stream, 2, 0)? != message.left() {
                        return Err(TlsDefect::FieldLength.into());
                    }
                    Field::Extension
                }
                Field::Extension => {
                    let header = message.number(stream, 4, 0)?;
                    found.extension(message, header >> 16, header & 0xffff)?
                }
                Field::NameList { end } => {
                    if message.number(stream, 2, end)? != message.left() - end {
                        return Err(TlsDefect::FieldLength.into());
                    }
                    Field::Name { end }
                }
                Field::Name { end } if message.left() == end => {
                    if found.name.is_none() {
                        return Err(TlsDefect::NameList.into());
                    }
                    Field::Extension
                }
                Field::Name { end } => {
                    let header = message.number(stream, 3, end)?;
                    found.name(message, header >> 16, header & 0xffff, end)?;
                    Field::Name { end }
                }
            };
        }
    }
}

impl Found {
    /// An extension of this kind and length; gives what comes next.
    fn extension(
        &mut self,
        message: &mut Handshake,
        kind: usize,
        len: usize,
    ) -> Result<Field, Stop> {
        let end = message.left().checked_sub(len);
        let end = end.ok_or(TlsDefect::FieldLength)?;
        let is_repeated = match kind {
            // One that was read to its end has left a name.
            SERVER_NAME if self.name.is_none() => return Ok(Field::NameList { end }),
            SERVER_NAME => true,
            ENCRYPTED_CLIENT_HELLO => std::mem::replace(&mut self.encrypted, true),
            EARLY_DATA => std::mem::replace(&mut self.early_data, true),
            _ => false,
        };
        if is_repeated {
            return Err(TlsDefect::RepeatedExtension.into());
        }
        message.skip(len)?;
        Ok(Field::Extension)
    }

    /// A name of this kind and length, in a list behind which `end` bytes of the message are left.
    fn name(
        &mut self,
        message: &mut Handshake,
        kind: usize,
        len: usize,
        end: usize,
    ) -> Result<(), Stop> {
        // Names of kinds to come begin with a length, too (RFC 6066 section 3).
        if len > message.left() - end {
            return Err(TlsDefect::FieldLength.into());
        }
        if kind == HOST_NAME {
            if len == 0 || self.name.is_some() {
                return Err(TlsDefect::NameList.into());
            }
            if len > NAME_MAX {
                return Err(TlsDefect::NameTooLong.into());
            }
            self.name = Some((*message, len));
        }
        message.skip(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostKind;

    /// A hello with these extensions; `None` for a hello from before extensions.
    fn hello(extensions: Option<&[u8]>) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([3, 1, 2, 3, 0, 4, 0x13, 1, 0x13, 2, 1, 0]);
        if let Some(extensions) = extensions {
            body.extend((extensions.len() as u16).to_be_bytes());
            body.extend(extensions);
        }
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        message
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        let mut extension = kind.to_be_bytes().to_vec();
        extension.extend((data.len() as u16).to_be_bytes());
        extension.extend(data);
        extension
    }

    fn server_name(names: &[(u8, &[u8])]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, name) in names {
            list.push(*kind);
            list.extend((name.len() as u16).to_be_bytes());
            list.extend(*name);
        }
        let len = (list.len() as u16).to_be_bytes();
        extension(0, &[&len[..], &list].concat())
    }

    /// The message in records of at most this many bytes.
    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let mut stream = Vec::new();
        for part in message.chunks(size) {
            stream.extend([22, 3, 1]);
            stream.extend((part.len() as u16).to_be_bytes());
            stream.extend(part);
        }
        stream
    }

    fn usual() -> Vec<u8> {
        let extensions = [
            extension(0x0a0a, b""),
            extension(10, &[0, 2, 0, 29]),
            server_name(&[(0, b"www.Example.com")]),
            extension(16, b"\0\x03\x02h2"),
        ];
        hello(Some(&extensions.concat()))
    }

    fn show(stream: &[u8]) -> String {
        match sni(stream, &mut ServerName::new()) {
            Sni::Incomplete(missing) => format!("incomplete {missing}"),
            Sni::Name {
                host, encrypted, ..
            } => {
                let kind = match host.kind() {
                    HostKind::Name => "name",
                    _ => "raw",
                };
                let name = host.as_bytes().escape_ascii();
                format!("{kind} {name}{}", if encrypted { " encrypted" } else { "" })
            }
            Sni::Absent { encrypted, .. } => format!("absent {encrypted}"),
            Sni::NotTls => "not tls".to_owned(),
            Sni::Malformed(defect) => defect.name().to_owned(),
        }
    }

    #[test]
    fn hellos() {
        let with = |extensions: &[u8]| hello(Some(extensions));
        let name = server_name(&[(0, b"a.example")]);
        let table = [
            (usual(), "name www.Example.com"),
            (hello(None), "absent false"),
            (with(b""), "absent false"),
            (with(&extension(0xfe0d, b"xyz")), "absent true"),
            (
                with(&[&name[..], &extension(0xfe0d, b"")].concat()),
                "name a.example encrypted",
            ),
            (with(&server_name(&[(0, b"192.0.2.1")])), "raw 192.0.2.1"),
            (with(&server_name(&[(0, b"a\0b")])), "raw a\\x00b"),
            // A kind of name to come is passed over.
            (
                with(&server_name(&[(9, b"zz"), (0, b"a.example")])),
                "name a.example",
            ),
            (with(&server_name(&[(9, b"zz")])), "tls-name-list"),
            (with(&server_name(&[])), "tls-name-list"),
            (with(&server_name(&[(0, b"")])), "tls-name-list"),
            (with(&server_name(&[(0, b"a"), (0, b"b")])), "tls-name-list"),
            (with(&extension(0, b"")), "tls-field-length"),
            (with(&extension(0, b"\0")), "tls-field-length"),
            (with(&extension(0, b"\0\x05\0\0\x01a")), "tls-field-length"),
            (with(&extension(0, b"\0\x04\0\0\x02a")), "tls-field-length"),
            (with(&extension(0, b"\0\x04\0\0\x01ab")), "tls-field-length"),
            (with(&[&name[..], &name].concat()), "tls-repeated-extension"),
            (
                with(&server_name(&[(0, &[b'a'; 256])])),
                "tls-name-too-long",
            ),
            (with(&[&name[..], &[0]].concat()), "tls-field-length"),
        ];
        for (message, expected) in table {
            assert_eq!(show(&records(&message, 1 << 14)), expected, "{message:?}");
            assert_eq!(show(&records(&message, 1)), expected, "{message:?}");
        }
    }

    #[test]
    fn however_it_is_spread_the_name_is_the_same() {
        let message = usual();
        for size in 1..=message.len() {
            let stream = records(&message, size);
            let more = [&stream[..], b"\x17\x03\x03"].concat();
            assert_eq!(show(&stream), "name www.Example.com");
            assert_eq!(show(&more), "name www.Example.com");
        }
    }

    /// OpenSSL 3.0 takes the empty records, GnuTLS the alerts.
    #[test]
    fn records_that_carry_nothing_hide_nothing() {
        let message = usual();
        for idle in [&b"\x16\x03\x01\0\0"[..], b"\x15\x03\x01\0\x02\x01\x5a"] {
            for at in 0..message.len() {
                let (first, second) = message.split_at(at);
                let stream = [
                    records(first, 1 << 14),
                    idle.repeat(32),
                    records(second, 1 << 14),
                ]
                .concat();
                assert_eq!(show(&stream), "name www.Example.com", "{at}");
                for cut in 0..stream.len() {
                    let Sni::Incomplete(missing) = sni(&stream[..cut], &mut ServerName::new())
                    else {
                        panic!("{cut} bytes are enough");
                    };
                    assert!(missing >= 1 && cut + missing <= stream.len(), "{at} {cut}");
                }
            }
        }
    }

    #[test]
    fn padding_hides_nothing() {
        let padding: Vec<_> = (0..3).map(|_| extension(21, &[0; 20_000])).collect();
        let message = hello(Some(
            &[padding.concat(), server_name(&[(0, b"a.example")])].concat(),
        ));
        for size in [1, 1 << 14] {
            assert_eq!(show(&records(&message, size)), "name a.example");
        }
    }

    /// Reads the stream in parts; gives how it ended, and how often bytes were looked for.
    fn show_in_parts(stream: &[u8], size: usize) -> (String, usize) {
        let mut reader = HelloReader::default();
        let mut cuts = (0..=stream.len()).step_by(size).chain([stream.len()]);
        let mut room = ServerName::new();
        let settled = cuts.find(|cut| {
            let read = reader.read(&stream[..*cut], &mut room);
            !matches!(read, Sni::Incomplete(_))
        });
        let end = settled.unwrap_or(stream.len());
        (show(&stream[..end]), reader.message.looks)
    }

    /// Records of one byte in segments of six, with as many that carry nothing between the last ones as may stand there: each costs
    /// as much as it would alone.
    #[test]
    fn the_work_grows_with_the_bytes_alone() {
        for (padding, size) in [(1_000, 6), (10_000, 6), (65_000, 6), (65_000, 1)] {
            let extensions = [
                extension(21, &vec![0; padding]),
                server_name(&[(0, b"a.example")]),
            ];
            let message = hello(Some(&extensions.concat()));
            let (first, last) = message.split_at(message.len() - 40);
            let mut stream = records(first, 1);
            for byte in last {
                stream.extend(b"\x16\x03\x01\0\0".repeat(32));
                stream.extend(records(&[*byte], 1));
            }
            let (read, looks) = show_in_parts(&stream, size);
            assert_eq!(read, "name a.example");
            // Two for a record, and two for a segment that brings nothing whole.
            let records = message.len() + 40 * 32;
            let most = 2 * records + 2 * stream.len() / size;
            assert!(looks <= most + 20, "{looks} looks at {records} records");
            assert!(show_in_parts(&stream, stream.len()).1 <= 2 * records + 20);
        }
    }

    /// A byte that was read is not looked at again, but those of the name.
    #[test]
    fn what_was_read_may_be_forgotten() {
        let stream = records(&usual(), 3);
        let name = stream.len() - 60;
        let mut reader = HelloReader::default();
        let mut room = ServerName::new();
        for cut in 0..stream.len() {
            let mut held = stream[..cut].to_vec();
            let gone = reader.stream_len().min(name);
            held[..gone].fill(0xff);
            assert!(
                matches!(reader.read(&held, &mut room), Sni::Incomplete(_)),
                "{cut}"
            );
        }
        assert!(
            matches!(reader.read(&stream, &mut room), Sni::Name { host, .. } if host.as_bytes() == b"www.Example.com")
        );
    }

    #[test]
    fn the_end_of_a_hello_is_told() {
        let hello = records(&usual(), 1 << 14);
        let mut longer = [&hello[..], b"\x01\0"].concat();
        longer[4] += 2;
        for (stream, behind) in [(&hello, 0), (&longer, 2)] {
            for more in [&b""[..], b"more"] {
                let stream = [&stream[..], more].concat();
                for cut in hello.len()..=stream.len() {
                    let mut reader = HelloReader::default();
                    let mut room = ServerName::new();
                    assert!(matches!(
                        reader.read(&stream[..cut], &mut room),
                        Sni::Name { .. }
                    ));
                    assert_eq!(
                        (reader.stream_len(), reader.behind()),
                        (hello.len(), behind)
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_missing_is_never_overstated() {
        let message = usual();
        for size in [1, 7, 40, message.len()] {
            let stream = records(&message, size);
            for cut in 0..stream.len() {
                let Sni::Incomplete(missing) = sni(&stream[..cut], &mut ServerName::new()) else {
                    panic!("{cut} bytes of records of {size} are enough");
                };
                assert!(
                    missing >= 1 && cut + missing <= stream.len(),
                    "{size} {cut}"
                );
            }
        }
        // In one record whose length is known it is exact.
        let stream = records(&message, message.len());
        assert_eq!(
            show(&stream[..20]),
            format!("incomplete {}", stream.len() - 20)
        );
    }

    #[test]
    fn what_is_no_client_hello() {
        let record = |bytes: &[u8]| [&[22, 3, 1][..], bytes].concat();
        let table: &[(Vec<u8>, &str)] = &[
            (b"".to_vec(), "incomplete 9"),
            (b"G".to_vec(), "not tls"),
            (b"GET / HTTP/1.1\r\n".to_vec(), "not tls"),
            (b"\x16\x02".to_vec(), "not tls"),
            // SSL 2's form.
            (b"\x80\x2e\x01\x03\x01".to_vec(), "not tls"),
            // ServerHello.
            (record(b"\0\x30\x02"), "not tls"),
            (record(b"\0\0"), "incomplete 9"),
            (record(b"\x40\x01\x01"), "tls-record-length"),
            (record(b"\0\x04\x01\x02\x01\x61"), "tls-hello-too-long"),
            (record(b"\0\x02\x01\0\x17\x03"), "tls-interleaved"),
            (b"\x16\x03\x01\0\0".repeat(33), "tls-record-length"),
            (record(b"\0\x04\x01\0\0\x29"), "incomplete 46"),
        ];
        for (stream, expected) in table {
            assert_eq!(show(stream), *expected, "{stream:?}");
        }
        // A session id that runs past the hello.
        let mut message = hello(None);
        message[4 + 34] = 200;
        assert_eq!(show(&records(&message, 99)), "tls-field-length");
    }
}
