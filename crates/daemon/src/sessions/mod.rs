//! Live SSH sessions into this host: whoever is behind one must not be locked out by a policy.
//!
//! A session is a connection to a port on which an SSH server listens or serves, whatever its number, or to port 22.

mod sockets;

use std::collections::HashSet;
use std::net::SocketAddr;

use engine::{Decision, Engine, Probe, Verdict};
use policy::{Direction, Interface, Timestamp, protocol};

use self::sockets::Row;

/// The port of SSH, also where no server's sockets can be seen.
const SSH: u16 = 22;
/// OpenSSH (since 9.8 each session is a program of its own), Dropbear, TinySSH.
const SERVERS: [&str; 4] = ["sshd", "sshd-session", "dropbear", "tinysshd"];

/// An established TCP connection to this host's SSH server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session {
    /// Where the administrator sits.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
}

/// The sessions of the calling thread's network namespace, sorted. What cannot be read has none.
pub fn live() -> Vec<Session> {
    let rows = sockets::rows();
    among(&rows, &sockets::of_programs(&SERVERS))
}

/// The sessions among the sockets, where `servers` are those of SSH servers.
fn among(rows: &[Row], servers: &HashSet<u64>) -> Vec<Session> {
    let listening: HashSet<u16> = (rows.iter())
        .filter(|row| row.listens)
        .map(|row| row.local.port())
        .collect();
    // Under socket activation somebody else listens, and a server's own connections onwards are no sessions.
    let ports: HashSet<u16> = (rows.iter())
        .filter(|row| servers.contains(&row.inode))
        .map(|row| row.local.port())
        .filter(|port| listening.contains(port))
        .chain([SSH])
        .collect();
    let mut sessions: Vec<Session> = (rows.iter())
        .filter(|row| row.established && ports.contains(&row.local.port()))
        .filter(|row| !row.peer.ip().is_loopback())
        .map(|row| Session {
            peer: row.peer,
            local: row.local,
        })
        .collect();
    sessions.sort();
    sessions.dedup();
    sessions
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
    fn a_session_is_known_by_its_server_or_by_port_22() {
        let row = |local: &str, peer: &str, listens: bool, inode: u64| Row {
            local: local.parse().unwrap(),
            peer: peer.parse().unwrap(),
            listens,
            established: !listens,
            inode,
        };
        let rows = [
            row("0.0.0.0:2222", "0.0.0.0:0", true, 1),
            row("0.0.0.0:8022", "0.0.0.0:0", true, 2),
            row("0.0.0.0:80", "0.0.0.0:0", true, 3),
            row("192.0.2.10:22", "203.0.113.1:40000", false, 10),
            row("192.0.2.10:2222", "203.0.113.2:40000", false, 11),
            row("192.0.2.10:2222", "127.0.0.1:40000", false, 12),
            row("192.0.2.10:8022", "203.0.113.3:40000", false, 13),
            row("192.0.2.10:80", "203.0.113.4:40000", false, 14),
            row("192.0.2.10:41000", "203.0.113.5:443", false, 15),
        ];
        // The server listens on 2222, serves what somebody else accepted on 8022, and forwards to port 443.
        let servers = HashSet::from([1, 11, 13, 15]);
        let peers = |servers| -> Vec<String> {
            (among(&rows, servers).iter())
                .map(|session| session.peer.ip().to_string())
                .collect()
        };
        assert_eq!(
            peers(&servers),
            ["203.0.113.1", "203.0.113.2", "203.0.113.3"]
        );
        assert_eq!(peers(&HashSet::new()), ["203.0.113.1"]);
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
}
