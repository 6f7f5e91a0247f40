//! Live SSH sessions into this host: whoever is behind one must not be locked out by a policy.
//!
//! A session is a connection to a port on which an SSH server listens or serves, whatever its number, or to port 22.

mod sockets;

use std::collections::HashSet;
use std::net::SocketAddr;

use engine::{Decision, Engine, Probe, Verdict};
use policy::{Direction, Interface, Timestamp, protocol};

use self::sockets::{Process, Row};

/// The port of SSH, also where no server's sockets can be seen.
const SSH: u16 = 22;
/// OpenSSH (since 9.8 each session is a program of its own), Dropbear, TinySSH.
const SERVERS: [&str; 4] = ["sshd", "sshd-session", "dropbear", "tinysshd"];
/// The user of OpenSSH's processes that talk to who has not logged in yet.
const CONFINED: &str = "sshd";

/// An established TCP connection to this host's SSH server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session {
    /// Where the administrator sits.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Whether its server has let somebody log in, as far as that shows: a mere connection is anybody's.
    pub logged_in: bool,
}

/// The sessions of the calling thread's network namespace, sorted. What cannot be read has none.
pub(crate) fn live() -> Vec<Session> {
    let confined = sockets::user(CONFINED);
    among(&sockets::rows(), &sockets::processes(&SERVERS), confined)
}

/// The sessions among the sockets, by the processes of SSH servers; `confined` is the user of those that nobody has logged in
/// to yet.
fn among(rows: &[Row], servers: &[Process], confined: Option<u32>) -> Vec<Session> {
    // Root's alone: anybody can give a process a name.
    let held = |wanted: &dyn Fn(&Process) -> bool| -> HashSet<u64> {
        (servers.iter())
            .filter(|process| wanted(process))
            .flat_map(|process| process.sockets.iter().copied())
            .collect()
    };
    let by_root = held(&|process| process.user == 0);
    // OpenSSH: "sshd: root@pts/0"; before the login "sshd: root [priv]" as root and "sshd: root [net]" as another user, who is
    // not called the same everywhere.
    let logged_in = held(&|process| {
        let knows = process.title.contains('@') || process.user != 0;
        knows && !process.title.contains('[') && Some(process.user) != confined
    });
    let listening: HashSet<u16> = (rows.iter())
        .filter(|row| row.listens)
        .map(|row| row.local.port())
        .collect();
    // Under socket activation somebody else listens, and a server's own connections onwards are no sessions.
    let ports: HashSet<u16> = (rows.iter())
        .filter(|row| by_root.contains(&row.inode))
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
            logged_in: logged_in.contains(&row.inode),
        })
        .collect();
    sessions.sort();
    sessions.dedup();
    sessions
}

/// Those that a policy must not cut: who is logged in; where that shows of nobody, as with servers that tell nothing, everybody.
pub(crate) fn worth_keeping(sessions: &[Session]) -> Vec<Session> {
    let certain = sessions.iter().any(|session| session.logged_in);
    (sessions.iter().copied())
        .filter(|session| session.logged_in || !certain)
        .collect()
}

/// The sessions whose like could not be begun anew under the engine's plan, each with what decides. Which interface a session
/// came by is not known: it counts as cut when no interface that the plan names would let it in.
pub(crate) fn cut(
    engine: &Engine,
    sessions: &[Session],
    now: Timestamp,
) -> Vec<(Session, Decision)> {
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
        let process = |user: u32, title: &str, sockets: &[u64]| Process {
            user,
            title: title.to_owned(),
            sockets: sockets.to_vec(),
        };
        // The server listens on 2222, serves what somebody else accepted on 8022, and forwards to port 443. Root is logged in
        // on 2222; on 8022 a name was given and no password yet; on 22 there is a user, who also calls a web server so.
        let servers = [
            process(
                0,
                "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
                &[1],
            ),
            process(0, "sshd: root@pts/0", &[11, 15]),
            process(0, "sshd: root [priv]", &[13]),
            process(105, "sshd: root [net]", &[13]),
            process(106, "sshd: root [net]", &[13]),
            process(1_000, "sshd: alice@notty", &[10, 3, 14]),
        ];
        let peers = |servers: &[Process]| -> Vec<(String, bool)> {
            (among(&rows, servers, Some(105)).iter())
                .map(|session| (session.peer.ip().to_string(), session.logged_in))
                .collect()
        };
        let expected = [
            ("203.0.113.1", true),
            ("203.0.113.2", true),
            ("203.0.113.3", false),
        ]
        .map(|(peer, logged_in)| (peer.to_owned(), logged_in));
        assert_eq!(peers(&servers), expected);
        assert_eq!(peers(&[]), [("203.0.113.1".to_owned(), false)]);
        assert_eq!(worth_keeping(&among(&rows, &servers, Some(105))).len(), 2);
        assert_eq!(worth_keeping(&among(&rows, &[], None)).len(), 1);
    }

    #[test]
    fn a_rule_for_one_interface_is_given_the_benefit_of_the_doubt() {
        let session = Session {
            local: "192.0.2.10:22".parse().unwrap(),
            peer: "203.0.113.7:40000".parse().unwrap(),
            logged_in: true,
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
