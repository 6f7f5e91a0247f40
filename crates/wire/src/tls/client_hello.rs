//! The ClientHello and its server name.

use std::fmt;

use super::TlsDefect;
use super::handshake::{Handshake, Stop};
use crate::Host;

/// Extension server_name (RFC 6066 section 3).
const SERVER_NAME: usize = 0;
/// Extension early_data (RFC 8446 section 4.2.10).
const EARLY_DATA: usize = 42;
/// Extension encrypted_client_hello (RFC 9849 section 5).
const ENCRYPTED_CLIENT_HELLO: usize = 0xfe0d;
/// The one kind of name there is (RFC 6066 section 3).
const HOST_NAME: u8 = 0;

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
/// Each call begins anew, so it is worth waiting for as many bytes as the last one asked for.
pub fn sni<'b>(stream: &[u8], room: &'b mut ServerName) -> Sni<'b> {
    match read(stream, &mut room.bytes) {
        Ok(Hello {
            name_len: Some(len),
            encrypted,
            early_data,
        }) => Sni::Name {
            host: Host::new(room.bytes.get(..len).unwrap_or_default()),
            encrypted,
            early_data,
        },
        Ok(Hello {
            name_len: None,
            encrypted,
            early_data,
        }) => Sni::Absent {
            encrypted,
            early_data,
        },
        Err(Stop::Incomplete(missing)) => Sni::Incomplete(missing),
        Err(Stop::NotTls) => Sni::NotTls,
        Err(Stop::Defect(defect)) => Sni::Malformed(defect),
    }
}

#[derive(Default)]
struct Hello {
    /// Length of the name that was put into the room.
    name_len: Option<usize>,
    encrypted: bool,
    early_data: bool,
}

fn read(stream: &[u8], room: &mut [u8; NAME_MAX]) -> Result<Hello, Stop> {
    let mut hello = Handshake::begin(stream)?;
    // Version and random.
    hello.skip(2 + 32)?;
    // Session id, cipher suites, compression methods.
    let len = usize::from(hello.byte()?);
    hello.skip(len)?;
    let len = hello.word()?;
    hello.skip(len)?;
    let len = usize::from(hello.byte()?);
    hello.skip(len)?;
    let mut found = Hello::default();
    if hello.left() == 0 {
        // Before extensions there were none (RFC 5246 section 7.4.1.2).
        return Ok(found);
    }
    if hello.word()? != hello.left() {
        return Err(TlsDefect::FieldLength.into());
    }
    let mut has_server_name = false;
    while hello.left() > 0 {
        let (kind, len) = (hello.word()?, hello.word()?);
        let end = hello
            .left()
            .checked_sub(len)
            .ok_or(TlsDefect::FieldLength)?;
        let seen = match kind {
            SERVER_NAME => {
                found.name_len = Some(read_names(&mut hello, end, room)?);
                &mut has_server_name
            }
            ENCRYPTED_CLIENT_HELLO => {
                hello.skip(len)?;
                &mut found.encrypted
            }
            EARLY_DATA => {
                hello.skip(len)?;
                &mut found.early_data
            }
            _ => {
                hello.skip(len)?;
                continue;
            }
        };
        if std::mem::replace(seen, true) {
            return Err(TlsDefect::RepeatedExtension.into());
        }
    }
    Ok(found)
}

/// Reads the extension, after which `end` bytes of the hello are left, and gives the length of the host name.
fn read_names(
    hello: &mut Handshake<'_>,
    end: usize,
    room: &mut [u8; NAME_MAX],
) -> Result<usize, Stop> {
    let left = |hello: &Handshake<'_>| {
        hello
            .left()
            .checked_sub(end)
            .ok_or(Stop::Defect(TlsDefect::FieldLength))
    };
    if hello.word()? != left(hello)? {
        return Err(TlsDefect::FieldLength.into());
    }
    let mut name_len = None;
    while left(hello)? > 0 {
        let kind = hello.byte()?;
        // Names of kinds to come begin with a length, too (RFC 6066 section 3).
        let len = hello.word()?;
        if len > left(hello)? {
            return Err(TlsDefect::FieldLength.into());
        }
        if kind != HOST_NAME {
            hello.skip(len)?;
            continue;
        }
        if len == 0 || name_len.is_some() {
            return Err(TlsDefect::NameList.into());
        }
        hello.copy(room.get_mut(..len).ok_or(TlsDefect::NameTooLong)?)?;
        name_len = Some(len);
    }
    name_len.ok_or(TlsDefect::NameList.into())
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
