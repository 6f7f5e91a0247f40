//! Live SSH sessions into this host: whoever is behind one must not be locked out by a policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use engine::{Decision, Engine, Probe, Verdict};
use policy::{Direction, Interface, Timestamp, protocol};

/// The port of SSH.
const SSH: u16 = 22;

/// An established TCP connection to this host's SSH port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session {
    /// Where the administrator sits.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
}

/// The sessions of the calling thread's network namespace, sorted. What cannot be read has none.
pub fn live() -> Vec<Session> {
    let mut sessions: Vec<Session> = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|table| parse(&table))
        .collect();
    sessions.sort();
    sessions.dedup();
    sessions
}

/// Reads `/proc/net/tcp` or `tcp6` (Documentation/networking/proc_net_tcp.rst): sessions of our SSH port.
fn parse(table: &str) -> Vec<Session> {
    const ESTABLISHED: &str = "01";
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let (local, peer, state) = (words.next()?, words.next()?, words.next()?);
            let session = Session {
                local: end(local)?,
                peer: end(peer)?,
            };
            let remote = !session.peer.ip().is_loopback();
            (state == ESTABLISHED && session.local.port() == SSH && remote).then_some(session)
        })
        .collect()
}

/// `0100007F:0016`: each 32-bit word in the byte order of the machine, the port as a number.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            // A dual-stack listener sees IPv4 peers as mapped addresses.
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// The sessions whose like could not be begun anew under the engine's plan, each with what decides. Which interface a session
/// came by is not known: it counts as cut when no interface that the plan names would let it in.
pub fn cut(engine: &Engine, sessions: &[Session], now: Timestamp) -> Vec<(Session, Decision)> {
    let mut interfaces = vec![None];
    for rule in &engine.plan().rules {
        let name = match &rule.interface {
            Some(Interface::Named(name)) => name.clone(),
            Some(Interface::Prefix(begin)) => format!("{begin}0"),
            None => continue,
        };
        if !interfaces.contains(&Some(name.clone())) {
            interfaces.push(Some(name));
        }
    }
    let decide = |session: &Session, interface: &Option<String>| {
        let probe = Probe {
            direction: Direction::In,
            protocol: protocol::TCP,
            source: session.peer.ip(),
            destination: session.local.ip(),
            source_port: Some(session.peer.port()),
            destination_port: Some(session.local.port()),
            icmp: None,
            interface: interface.clone(),
            payload: Vec::new(),
        };
        engine.test(now, &probe)
    };
    sessions
        .iter()
        .filter_map(|session| {
            let mut decisions = interfaces
                .iter()
                .map(|interface| decide(session, interface));
            let first = decisions.next()?;
            let denied = |decision: &Decision| decision.verdict != Verdict::Allow;
            (denied(&first) && decisions.all(|decision| denied(&decision)))
                .then_some((*session, first))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn tables_of_both_families_are_read() {
        if cfg!(target_endian = "big") {
            return eprintln!("SKIPPED: the sample is from a little-endian machine");
        }
        let v4 = "  sl  local_address rem_address   st tx_queue\n   0: 0100007F:0016 00000000:0000 0A 00000000:00000000\n   \
                  1: 0A0200C0:0016 077100CB:9C40 01 00000000:00000000\n   2: 0A0200C0:0050 077100CB:9C41 01 0:0\n   \
                  3: 0100007F:0016 0100007F:9C40 01 0:0\n   4: half\n";
        let expected = Session {
            local: "192.0.2.10:22".parse().unwrap(),
            peer: "203.0.113.7:40000".parse().unwrap(),
        };
        assert_eq!(parse(v4), [expected]);
        let v6 = "  sl  local_address                         remote_address                        st\n   \
                  0: 0000000000000000FFFF00000A0200C0:0016 0000000000000000FFFF0000077100CB:9C40 01 0:0\n   \
                  1: B80D0120000000000000000001000000:0016 B80D0120000000000000000007000000:9C40 01 0:0\n";
        let native = Session {
            local: "[2001:db8::1]:22".parse().unwrap(),
            peer: "[2001:db8::7]:40000".parse().unwrap(),
        };
        assert_eq!(parse(v6), [expected, native]);
    }

    #[test]
    fn a_rule_for_one_interface_is_given_the_benefit_of_the_doubt() {
        let session = Session {
            local: "192.0.2.10:22".parse().unwrap(),
            peer: "203.0.113.7:40000".parse().unwrap(),
        };
        let cut_by = |text: &str| {
            let loaded =
                policy::load_text("p", text, policy::Format::Toml, std::path::Path::new("/"));
            let plan = std::sync::Arc::new(loaded.policy.unwrap().into_plan());
            let engine = Engine::new(engine::Setup {
                plan,
                own: policy::AddressSet::default(),
                protected: policy::AddressSet::default(),
                seed: 0,
            });
            cut(&engine, &[session], Timestamp::default()).len()
        };
        let rule =
            "[[rule]]\naction = \"allow\"\ndirection = \"in\"\nprotocol = \"tcp\"\nport = 22\n";
        assert_eq!(cut_by(""), 1);
        assert_eq!(cut_by(rule), 0);
        assert_eq!(cut_by(&format!("{rule}interface = \"wg*\"\n")), 0);
        assert_eq!(
            cut_by(&format!(
                "{rule}interface = \"wg*\"\nfrom = \"198.51.100.0/24\"\n"
            )),
            1
        );
    }

    #[test]
    fn real_tables_are_read_without_a_fault() {
        live();
    }
}
