//! DHCP and NTP servers that this host's leases name: whoever bans them loses his own address or his clock.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Where DHCP clients keep their leases: systemd-networkd, NetworkManager, dhclient, dhcpcd's text form.
const FOLDERS: [&str; 5] = [
    "/run/systemd/netif/leases",
    "/var/lib/NetworkManager",
    "/var/lib/dhcp",
    "/var/lib/dhclient",
    "/run/NetworkManager/devices",
];
/// Larger files are no leases.
const LARGEST: u64 = 1 << 20;

/// A server that a lease names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// Its address.
    pub address: IpAddr,
    /// `dhcp server` or `ntp server`.
    pub what: &'static str,
}

/// The servers of every lease on this host, sorted. What cannot be read names none.
pub(crate) fn servers() -> Vec<Server> {
    let mut servers: Vec<Server> = FOLDERS
        .iter()
        .flat_map(|folder| files(Path::new(folder)))
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|text| parse(&text))
        .collect();
    servers.sort();
    servers.dedup();
    servers
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let about = entry.metadata();
            about.is_ok_and(|about| about.is_file() && about.len() <= LARGEST)
        })
        .map(|entry| entry.path())
        .collect()
}

/// Reads `KEY=value` (networkd, NetworkManager) and `option key value;` (dhclient). Old leases in the same file count too: a server
/// protected needlessly does less harm than one banned.
fn parse(text: &str) -> Vec<Server> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let (key, value) = match line.strip_prefix("option ") {
            Some(option) => option
                .trim_end_matches(';')
                .split_once(' ')
                .unwrap_or_default(),
            None => line.split_once('=').unwrap_or_default(),
        };
        let what = match key.trim().to_ascii_lowercase().as_str() {
            "server_address" | "dhcp-server-identifier" | "dhcp_server_identifier" => "dhcp server",
            "ntp" | "ntp_servers" | "ntp-servers" => "ntp server",
            _ => continue,
        };
        let words = value.split(|byte: char| byte == ',' || byte.is_whitespace());
        servers.extend(
            words
                .filter_map(|word| word.trim_matches('"').parse().ok())
                .map(|address| Server { address, what }),
        );
    }
    servers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_usual_clients_leases_are_read() {
        for (text, expected) in [
            (
                "# systemd-networkd\nADDRESS=192.0.2.10\nSERVER_ADDRESS=192.0.2.2\nNTP=192.0.2.3 192.0.2.4\n",
                &[
                    "192.0.2.2 dhcp server",
                    "192.0.2.3 ntp server",
                    "192.0.2.4 ntp server",
                ][..],
            ),
            (
                "lease {\n  fixed-address 192.0.2.10;\n  option dhcp-server-identifier 192.0.2.2;\n  option ntp-servers 192.0.2.3,192.0.2.4;\n}\n",
                &[
                    "192.0.2.2 dhcp server",
                    "192.0.2.3 ntp server",
                    "192.0.2.4 ntp server",
                ],
            ),
            (
                "dhcp_server_identifier=192.0.2.2\nntp_servers=\"192.0.2.3\"\n",
                &["192.0.2.2 dhcp server", "192.0.2.3 ntp server"],
            ),
            (
                "SERVER_ADDRESS=nonsense\nNTP=time.example\noption\n=\n",
                &[],
            ),
        ] {
            let found: Vec<String> = parse(text)
                .iter()
                .map(|server| format!("{} {}", server.address, server.what))
                .collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_host_without_leases_has_no_servers_and_no_fault() {
        servers();
        assert_eq!(files(Path::new("/nonexistent")), Vec::<PathBuf>::new());
    }
}
