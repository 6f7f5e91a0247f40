//! What this host is, and whom it must not lose: own addresses, gateways, resolvers, DHCP and NTP servers, the peers of
//! live administrator sessions.

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
    /// Prefixes that nothing may ban, and why: `own`, `gateway`, `resolver`, `dhcp server`, `ntp server`,
    /// `session`. Sorted.
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
