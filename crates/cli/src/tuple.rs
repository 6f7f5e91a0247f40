//! A packet in words, as `test` takes it and `check` prints it: `in tcp 203.0.113.7:40000 to 192.0.2.1:22 on eth0`.

use std::net::{IpAddr, Ipv6Addr};

use daemon::api::TestPacket;
use engine::Probe;
use policy::names::Reach;
use policy::{Asks, Direction, HostField, HostPattern, Witness, protocol};

/// Reads one packet: what [`Witness`] prints, and what a person would write instead.
///
/// # Errors
/// One sentence saying what was expected.
pub(crate) fn parse(text: &str) -> Result<Witness, String> {
    let mut words = text.split_whitespace().peekable();
    let mut next = |what: &str| {
        words
            .next()
            .ok_or(format!("{what} is missing in {text:?}; {SHAPE}"))
    };

    let word = next("the direction")?;
    let direction = Direction::ALL
        .into_iter()
        .find(|direction| direction.name() == word)
        .ok_or_else(|| format!("{word:?} is no direction, which is in, out or forward; {SHAPE}"))?;
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
    let (source, source_port) = endpoint(source, number, 40_000)?;
    let to = next("the word `to`")?;
    if to != "to" {
        return Err(format!("{to:?} stands where `to` was expected; {SHAPE}"));
    }
    let (destination, destination_port) = endpoint(next("the destination")?, number, 22)?;
    if source.is_ipv4() != destination.is_ipv4() {
        return Err(format!(
            "{source} and {destination} are of two address families; no packet has both"
        ));
    }

    let mut packet = Witness {
        direction,
        protocol: number,
        source,
        destination,
        source_port,
        destination_port,
        interface: None,
        payload: Vec::new(),
        asks: None,
    };
    while let Some(word) = words.next() {
        match word {
            "on" => {
                let interface = words.next().ok_or("an interface is missing after `on`")?;
                packet.interface = Some(interface.to_owned());
            }
            "sni" | "http-host" | "host" => {
                let host = words
                    .next()
                    .ok_or(format!("a name is missing after `{word}`"))?;
                let field = if word == "sni" {
                    HostField::Sni
                } else {
                    HostField::HttpHost
                };
                ask(&mut packet, field, host)?;
            }
            "payload" => {
                let bytes: String = words.by_ref().collect();
                if packet.asks.is_some() {
                    return Err("a packet has one of sni, http-host and payload".to_owned());
                }
                packet.payload = payload(&bytes)?;
            }
            _ => return Err(format!("{word:?} is one word too many; {SHAPE}")),
        }
    }
    Ok(packet)
}

/// Lets the packet ask for a host.
///
/// # Errors
/// One sentence saying why it cannot.
pub(crate) fn ask(packet: &mut Witness, field: HostField, host: &str) -> Result<(), String> {
    let clause = field.clause();
    if packet.protocol != protocol::TCP {
        return Err(format!(
            "only tcp asks for a host; leave {clause} out, or write tcp"
        ));
    }
    if packet.asks.is_some() || !packet.payload.is_empty() {
        return Err("a packet has one of sni, http-host and payload".to_owned());
    }
    // As a resolver would be asked; what is no name is sent as it stands.
    let host = match HostPattern::parse(host, field) {
        Ok(HostPattern::Name(name)) if name.reach() == Reach::Itself => name.name().to_owned(),
        Ok(HostPattern::Address(IpAddr::V6(address))) => format!("[{address}]"),
        _ => host.to_owned(),
    };
    packet.asks = Some(Asks { field, host });
    Ok(())
}

const SHAPE: &str = "write it like `in tcp 203.0.113.7:40000 to 192.0.2.1:22`";

/// The packet as the engine judges it.
pub(crate) fn probe(packet: &Witness) -> Probe {
    Probe {
        direction: packet.direction,
        protocol: packet.protocol,
        source: packet.source,
        destination: packet.destination,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
        icmp: None,
        interface: packet.interface.clone(),
        payload: match &packet.asks {
            Some(asks) => asks.field.first_bytes(&asks.host),
            None => packet.payload.clone(),
        },
    }
}

/// The packet as the daemon is asked for it.
pub(crate) fn request(packet: &Witness) -> TestPacket {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    TestPacket {
        direction: packet.direction.name().to_owned(),
        protocol: packet.protocol.to_string(),
        source: packet.source.to_string(),
        source_port: packet.source_port,
        destination: packet.destination.to_string(),
        destination_port: packet.destination_port,
        interface: packet.interface.clone(),
        sni: asked(packet, HostField::Sni),
        http_host: asked(packet, HostField::HttpHost),
        payload_hex: (!packet.payload.is_empty()).then(|| hex(&packet.payload)),
    }
}

fn asked(packet: &Witness, field: HostField) -> Option<String> {
    let asks = packet.asks.as_ref().filter(|asks| asks.field == field);
    asks.map(|asks| asks.host.clone())
}

/// Bytes from hexadecimal digits in pairs, with or without spaces and `0x`.
///
/// # Errors
/// One sentence saying what was expected.
pub(crate) fn payload(text: &str) -> Result<Vec<u8>, String> {
    let plain: String = text.split_whitespace().collect();
    let digits: Option<Vec<u32>> = plain
        .strip_prefix("0x")
        .unwrap_or(&plain)
        .chars()
        .map(|digit| digit.to_digit(16))
        .collect();
    match digits {
        // Two digits below 16 make a number below 256.
        Some(digits) if digits.len().is_multiple_of(2) => Ok(digits
            .chunks_exact(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8)
            .collect()),
        _ => Err(format!(
            "{text:?} is no payload; write its bytes in hexadecimal, like 68 01 00"
        )),
    }
}

/// `192.0.2.1:22`, `[2001:db8::1]:22`, or the address alone. A protocol with ports needs them, another has none.
fn endpoint(text: &str, protocol: u8, example: u16) -> Result<(IpAddr, Option<u16>), String> {
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
            match (address, unbracketed(text)) {
                (IpAddr::V4(_), _) => format!("{address}:{example}"),
                (_, Some((address, port))) => format!("[{address}]:{port}"),
                (_, None) => format!("[{address}]:{example}"),
            }
        )),
        (false, Some(_)) => Err(format!("{text} has a port, and its protocol has none")),
        (_, port) => Ok((address, port)),
    }
}

/// What was probably meant by an IPv6 address whose last group reads as a port, when an address is left without it.
fn unbracketed(text: &str) -> Option<(Ipv6Addr, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    Some((address.parse().ok()?, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn packets_are_read() {
        let packet = parse("in tcp 203.0.113.7:40000 to 192.0.2.1:22").unwrap();
        assert_eq!(
            (packet.source_port, packet.destination_port),
            (Some(40_000), Some(22))
        );
        let packet =
            parse("in tcp from 203.0.113.7:40000 to 192.0.2.1:22 payload 0x680a FF").unwrap();
        assert_eq!(packet.payload, [0x68, 0x0a, 0xff]);
        assert_eq!(request(&packet).payload_hex.as_deref(), Some("680aff"));
        assert_eq!(probe(&packet).payload, packet.payload);
    }

    #[test]
    fn what_is_printed_is_read() {
        for text in [
            "in tcp 203.0.113.7:40000 to 192.0.2.1:22",
            "forward udp [2001:db8::1]:1 to [2001:db8::2]:53 on eth0 payload 68 0a ff",
            "in icmp 192.0.2.7 to 192.0.2.1",
            "out icmpv6 2001:db8::7 to 2001:db8::1 on wg0",
            "in 200 192.0.2.7 to 192.0.2.1",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, says) in [
            ("", "direction"),
            ("sideways tcp 1.2.3.4:1 to 1.2.3.5:2", "sideways"),
            ("in tpc 1.2.3.4:1 to 1.2.3.5:2", "tpc"),
            ("in tcp 1.2.3.4 to 1.2.3.5:2", "has no port"),
            ("in tcp 1.2.3.4 to 1.2.3.5", "write 1.2.3.4:40000"),
            ("in tcp 1.2.3.4:5 to 1.2.3.5", "write 1.2.3.5:22"),
            (
                "in tcp 2001:db8::1 to [2001:db8::2]:22",
                "[2001:db8::1]:40000",
            ),
            ("in tcp 1.2.3.4:5 to fd99::1:80", "write [fd99::1]:80"),
            ("in tcp fd99::1:ab to fd99::2", "write [fd99::1:ab]:40000"),
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
            ("in tcp 1.2.3.4:1 to 1.2.3.5:2 payload 6 8 ?", "hexadecimal"),
            ("in tcp 1.2.3.4:1 to 1.2.3.5:2 payload 680", "hexadecimal"),
            ("in tcp 1.2.3.4:1 to 1.2.3.5:2 on", "interface is missing"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
    }
}
