//! A packet in words, as `test` takes it and `check` prints it: `in tcp 203.0.113.7:40000 to 192.0.2.1:22 on eth0`.

use std::net::IpAddr;

use daemon::api::TestPacket;
use policy::protocol;

/// Reads one packet.
///
/// # Errors
/// One sentence saying what was expected.
pub(crate) fn parse(text: &str) -> Result<TestPacket, String> {
    let mut words = text.split_whitespace().peekable();
    let mut next = |what: &str| {
        words
            .next()
            .ok_or(format!("{what} is missing in {text:?}; {SHAPE}"))
    };

    let direction = next("the direction")?;
    if !["in", "out", "forward"].contains(&direction) {
        return Err(format!("{direction:?} is no direction; {SHAPE}"));
    }
    let name = next("the protocol")?;
    let number = protocol::NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
        .or_else(|| name.parse().ok())
        .ok_or_else(|| {
            format!(
                "{name:?} is no protocol; write tcp, udp, icmp, icmpv6 or a number from 0 to 255"
            )
        })?;
    let mut source = next("the source")?;
    if source == "from" {
        source = next("the source")?;
    }
    let (source, source_port) = endpoint(source, number)?;
    let to = next("the word `to`")?;
    if to != "to" {
        return Err(format!("{to:?} stands where `to` was expected; {SHAPE}"));
    }
    let (destination, destination_port) = endpoint(next("the destination")?, number)?;
    if source.is_ipv4() != destination.is_ipv4() {
        return Err(format!(
            "{source} and {destination} are of two address families; no packet has both"
        ));
    }

    let mut packet = TestPacket {
        direction: direction.to_owned(),
        protocol: name.to_owned(),
        source: source.to_string(),
        source_port,
        destination: destination.to_string(),
        destination_port,
        ..TestPacket::default()
    };
    while let Some(word) = words.next() {
        match word {
            "on" => {
                let interface = words.next().ok_or("an interface is missing after `on`")?;
                packet.interface = Some(interface.to_owned());
            }
            "payload" => {
                let bytes: String = words.by_ref().collect();
                packet.payload_hex = Some(payload(&bytes)?);
            }
            _ => return Err(format!("{word:?} is one word too many; {SHAPE}")),
        }
    }
    Ok(packet)
}

const SHAPE: &str = "write it like `in tcp 203.0.113.7:40000 to 192.0.2.1:22`";

/// Hexadecimal digits in pairs, with or without spaces and `0x`; returned without.
///
/// # Errors
/// One sentence saying what was expected.
pub(crate) fn payload(text: &str) -> Result<String, String> {
    let plain: String = text.split_whitespace().collect();
    let plain = plain.strip_prefix("0x").unwrap_or(&plain);
    if !plain.len().is_multiple_of(2) || !plain.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(format!(
            "{text:?} is no payload; write its bytes in hexadecimal, like 68 01 00"
        ));
    }
    Ok(plain.to_ascii_lowercase())
}

/// `192.0.2.1:22`, `[2001:db8::1]:22`, or the address alone. A protocol with ports needs them, another has none.
fn endpoint(text: &str, protocol: u8) -> Result<(IpAddr, Option<u16>), String> {
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, tail) = rest.split_once(']').ok_or_else(|| {
                format!("the bracket of {text:?} is not closed; write [2001:db8::1]:22")
            })?;
            match tail.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None if tail.is_empty() => (address, None),
                None => return Err(format!("{text:?} is no address; write [2001:db8::1]:22")),
            }
        }
        None if text.matches(':').count() > 1 => (text, None),
        None => match text.split_once(':') {
            Some((address, port)) => (address, Some(port)),
            None => (text, None),
        },
    };
    let address: IpAddr = address.parse().map_err(|_| {
        format!("{address:?} is no address; write it like 203.0.113.7 or 2001:db8::7, names are not looked up")
    })?;
    let port = match port {
        Some(port) => Some(
            port.parse()
                .map_err(|_| format!("{port:?} is no port; write a number from 0 to 65535"))?,
        ),
        None => None,
    };
    match (protocol::has_ports(protocol), port) {
        (true, None) => Err(format!(
            "{text} has no port; write {}",
            if address.is_ipv4() {
                format!("{address}:22")
            } else {
                format!("[{address}]:22")
            }
        )),
        (false, Some(_)) => Err(format!("{text} has a port, and its protocol has none")),
        (_, port) => Ok((address, port)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn packets_are_read() {
        let packet = parse("in tcp 203.0.113.7:40000 to 192.0.2.1:22").unwrap();
        assert_eq!(
            (packet.source.as_str(), packet.source_port),
            ("203.0.113.7", Some(40_000))
        );
        assert_eq!(
            (packet.destination.as_str(), packet.destination_port),
            ("192.0.2.1", Some(22))
        );

        let packet = parse("out udp [2001:db8::1]:5353 to [2001:db8::2]:53 on eth0 payload 68 ?")
            .unwrap_err();
        assert!(packet.contains("hexadecimal"), "{packet}");

        let packet =
            parse("forward udp [2001:db8::1]:1 to [2001:db8::2]:53 on eth0 payload 68 0A ff")
                .unwrap();
        assert_eq!(packet.interface.as_deref(), Some("eth0"));
        assert_eq!(packet.payload_hex.as_deref(), Some("680aff"));

        for text in [
            "in icmp 192.0.2.7 to 192.0.2.1",
            "in icmpv6 2001:db8::7 to 2001:db8::1",
            "in 47 192.0.2.7 to 192.0.2.1",
        ] {
            assert_eq!(parse(text).unwrap().source_port, None, "{text}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, says) in [
            ("", "direction"),
            ("sideways tcp 1.2.3.4:1 to 1.2.3.5:2", "sideways"),
            ("in tpc 1.2.3.4:1 to 1.2.3.5:2", "tpc"),
            ("in tcp 1.2.3.4 to 1.2.3.5:2", "has no port"),
            ("in tcp 2001:db8::1 to [2001:db8::2]:22", "[2001:db8::1]:22"),
            ("in icmp 1.2.3.4:1 to 1.2.3.5", "has none"),
            ("in tcp host:1 to 1.2.3.5:2", "names are not looked up"),
            ("in tcp 1.2.3.4:70000 to 1.2.3.5:2", "70000"),
            ("in tcp 1.2.3.4:1 1.2.3.5:2", "`to`"),
            (
                "in tcp 1.2.3.4:1 to [2001:db8::1]:2",
                "two address families",
            ),
            ("in tcp 1.2.3.4:1 to 1.2.3.5:2 now", "too many"),
            ("in tcp 1.2.3.4:1 to [2001:db8::1:2", "not closed"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
    }
}
