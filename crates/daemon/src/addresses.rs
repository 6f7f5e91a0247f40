//! What this host is, and whom it must not lose: own addresses, gateways, resolvers, DHCP and NTP servers, the peers of
//! live administrator sessions, its containers.

use std::net::IpAddr;

use ipnet::IpNet;
use kernel::interfaces::HostAddresses;
use policy::AddressSet;
use policy::address::host_prefix;

use crate::leases::Server;
use crate::sessions::Session;

/// Addresses that were found, with why each needs protection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// This host's own addresses.
    pub own: AddressSet,
    /// Prefixes that nothing may ban, and why: `own`, `broadcast`, `gateway`, `resolver`, `dhcp server`, `ntp server`,
    /// `session`, `guests`. Sorted.
    pub protected: Vec<(IpNet, &'static str)>,
    /// Live sessions with the SSH server, also of those who have not logged in: these are not protected.
    pub sessions: Vec<Session>,
}

impl Discovered {
    /// From what the kernel and the system tell.
    pub fn new(host: &HostAddresses, servers: &[Server], sessions: Vec<Session>) -> Self {
        let single = |address: &IpAddr| host_prefix(*address);
        let own: Vec<IpNet> = host.own.iter().map(|net| host_prefix(net.addr())).collect();
        let mut protected: Vec<(IpNet, &'static str)> = Vec::new();
        protected.extend(own.iter().map(|net| (*net, "own")));
        protected.extend(host.own.iter().filter_map(|net| match net {
            // Networks of one or two hosts (RFC 3021) have no broadcast address.
            IpNet::V4(v4) if v4.prefix_len() < 31 => {
                Some((single(&v4.broadcast().into()), "broadcast"))
            }
            IpNet::V4(_) | IpNet::V6(_) => None,
        }));
        protected.extend(host.guests.iter().map(|net| (*net, "guests")));
        protected.extend(
            host.gateways
                .iter()
                .map(|address| (single(address), "gateway")),
        );
        protected.extend(
            host.resolvers
                .iter()
                .map(|address| (single(address), "resolver")),
        );
        protected.extend(
            sessions
                .iter()
                .filter(|session| session.logged_in)
                .map(|session| (single(&session.peer.ip()), "session")),
        );
        protected.extend(
            servers
                .iter()
                .map(|server| (single(&server.address), server.what)),
        );
        protected.sort();
        // The first reason stands for an address with several.
        protected.dedup_by_key(|(net, _)| *net);
        Self {
            own: own.into_iter().collect(),
            protected,
            sessions,
        }
    }

    /// The protected prefixes as a set.
    pub fn protected_set(&self) -> AddressSet {
        self.protected.iter().map(|(net, _)| *net).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "constants")]
    use super::*;

    #[test]
    fn each_protected_prefix_says_why() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let host = HostAddresses {
            own: nets(&[
                "127.0.0.1/8",
                "192.0.2.10/24",
                "198.51.100.1/31",
                "172.17.0.1/16",
                "2001:db8::1/64",
            ]),
            gateways: vec!["192.0.2.1".parse().unwrap(), "fe80::1".parse().unwrap()],
            resolvers: vec!["192.0.2.1".parse().unwrap(), "9.9.9.9".parse().unwrap()],
            guests: nets(&["172.17.0.0/16"]),
        };
        let found = Discovered::new(&host, &[], Vec::new());
        let why: Vec<String> = found
            .protected
            .iter()
            .map(|(net, why)| format!("{net} {why}"))
            .collect();
        assert_eq!(
            why,
            [
                "9.9.9.9/32 resolver",
                "127.0.0.1/32 own",
                "127.255.255.255/32 broadcast",
                "172.17.0.0/16 guests",
                "172.17.0.1/32 own",
                "172.17.255.255/32 broadcast",
                "192.0.2.1/32 gateway",
                "192.0.2.10/32 own",
                "192.0.2.255/32 broadcast",
                "198.51.100.1/32 own",
                "2001:db8::1/128 own",
                "fe80::1/128 gateway",
            ]
        );
    }
}
