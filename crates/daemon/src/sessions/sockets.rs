//! TCP sockets and the programs that hold them, as /proc tells (Documentation/networking/proc_net_tcp.rst, proc(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) listens: bool,
    pub(super) established: bool,
    /// What names it among a process's files.
    pub(super) inode: u64,
}

/// The sockets of the calling thread's network namespace.
pub(super) fn rows() -> Vec<Row> {
    ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|table| parse(&table))
        .collect()
}

/// A process that holds sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// The user that it runs as.
    pub(super) user: u32,
    /// How it calls itself.
    pub(super) title: String,
    /// Inodes of its sockets.
    pub(super) sockets: Vec<u64>,
}

/// The processes of these names, as far as they can be seen.
pub(super) fn processes(names: &[&str]) -> Vec<Process> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    // Processes come and go under way: one that is gone holds nothing.
    processes
        .flatten()
        .map(|process| process.path())
        .filter(|path| {
            std::fs::read_to_string(path.join("comm"))
                .is_ok_and(|name| names.contains(&name.trim_end()))
        })
        .filter_map(|path| read_process(&path))
        .collect()
}

fn read_process(path: &Path) -> Option<Process> {
    // Not the owner of the folder: that is root for a process that may not be traced.
    let status = std::fs::read_to_string(path.join("status")).ok()?;
    let user = (status.lines())
        .find_map(|line| line.strip_prefix("Uid:"))?
        .split_ascii_whitespace()
        .next()?;
    let title = std::fs::read(path.join("cmdline")).ok()?;
    let sockets = std::fs::read_dir(path.join("fd"))
        .ok()?
        .flatten()
        .filter_map(|file| std::fs::read_link(file.path()).ok())
        .filter_map(|target| {
            let number = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            number.parse().ok()
        });
    Some(Process {
        user: user.parse().ok()?,
        title: String::from_utf8_lossy(&title)
            .trim_end_matches('\0')
            .to_owned(),
        sockets: sockets.collect(),
    })
}

/// The number of a user of this host.
pub(super) fn user(name: &str) -> Option<u32> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let number = (fields.next() == Some(name)).then(|| fields.nth(1))?;
        number?.parse().ok()
    })
}

/// Reads `/proc/net/tcp` or `tcp6`; lines that make no sense are passed over.
fn parse(table: &str) -> Vec<Row> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let state = *words.get(3)?;
        Some(Row {
            local: end(words.get(1)?)?,
            peer: end(words.get(2)?)?,
            listens: state == "0A",
            established: state == "01",
            inode: words.get(9)?.parse().ok()?,
        })
    };
    table.lines().skip(1).filter_map(row).collect()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn tables_of_both_families_are_read() {
        if cfg!(target_endian = "big") {
            return eprintln!("SKIPPED: the sample is from a little-endian machine");
        }
        let v4 = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                  0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1\n   \
                  1: 0A0200C0:0016 077100CB:9C40 01 00000000:00000000 00:00000000 00000000     0        0 78 1\n   2: half\n";
        let expected = [
            Row {
                local: "127.0.0.1:22".parse().unwrap(),
                peer: "0.0.0.0:0".parse().unwrap(),
                listens: true,
                established: false,
                inode: 77,
            },
            Row {
                local: "192.0.2.10:22".parse().unwrap(),
                peer: "203.0.113.7:40000".parse().unwrap(),
                listens: false,
                established: true,
                inode: 78,
            },
        ];
        assert_eq!(parse(v4), expected);
        let v6 = "header\n   \
                  0: 0000000000000000FFFF00000A0200C0:0016 0000000000000000FFFF0000077100CB:9C40 01 0:0 0:0 0 0 0 78\n   \
                  1: B80D0120000000000000000001000000:0016 B80D0120000000000000000007000000:9C40 01 0:0 0:0 0 0 0 79\n";
        let rows = parse(v6);
        assert_eq!(rows[0], expected[1]);
        assert_eq!(rows[1].local, "[2001:db8::1]:22".parse().unwrap());
        assert_eq!(rows[1].peer, "[2001:db8::7]:40000".parse().unwrap());
    }

    #[test]
    fn sockets_of_a_program_are_found_by_its_name() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        let ours: Vec<u64> = (processes(&[name.trim_end()]).into_iter())
            .flat_map(|process| process.sockets)
            .collect();
        let rows = rows();
        let find = |local| {
            let row = rows.iter().find(|row| row.local == local && row.inode != 0);
            *row.unwrap()
        };
        let listening = find(listener.local_addr().unwrap());
        let connected = find(stream.local_addr().unwrap());
        assert!(listening.listens && connected.established);
        assert!(ours.contains(&listening.inode) && ours.contains(&connected.inode));
        assert_eq!(processes(&["no program of this name"]), []);
        assert_eq!(user("root"), Some(0));
    }
}
