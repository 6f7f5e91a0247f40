//! The usual three: a client and an attacker, each with a cable of its own to the server.
//!
//! ```text
//! client   s0 10.77.1.2  fd77:1::2 ── c0 10.77.1.1  fd77:1::1  server
//! attacker s0 10.77.2.2  fd77:2::2 ── a0 10.77.2.1  fd77:2::1  server
//! ```

use crate::link::veth;
use crate::netns::Netns;

/// Three namespaces; client and attacker have their default route through the server, which does not forward unless told.
pub struct Topology {
    /// 10.77.1.2/24 and fd77:1::2/64 on `s0`.
    pub client: Netns,
    /// 10.77.2.2/24 and fd77:2::2/64 on `s0`.
    pub attacker: Netns,
    /// 10.77.1.1/24 and fd77:1::1/64 on `c0` (client), 10.77.2.1/24 and fd77:2::1/64 on `a0` (attacker).
    pub server: Netns,
}

impl Topology {
    /// Makes the three and joins them.
    ///
    /// # Errors
    /// As [`Netns::new`] and [`veth`].
    pub fn new() -> anyhow::Result<Topology> {
        let lab = Topology {
            client: Netns::new("client")?,
            attacker: Netns::new("attacker")?,
            server: Netns::new("server")?,
        };
        let (client, server) = (
            ["10.77.1.2/24", "fd77:1::2/64"],
            ["10.77.1.1/24", "fd77:1::1/64"],
        );
        veth(&lab.client, "s0", &client, &lab.server, "c0", &server)?;
        let (attacker, server) = (
            ["10.77.2.2/24", "fd77:2::2/64"],
            ["10.77.2.1/24", "fd77:2::1/64"],
        );
        veth(&lab.attacker, "s0", &attacker, &lab.server, "a0", &server)?;
        for (netns, v4, v6) in [
            (&lab.client, "10.77.1.1", "fd77:1::1"),
            (&lab.attacker, "10.77.2.1", "fd77:2::1"),
        ] {
            netns.run("ip", &["route", "add", "default", "via", v4])?;
            netns.run("ip", &["-6", "route", "add", "default", "via", v6])?;
        }
        Ok(lab)
    }

    /// Lets the server forward between client and attacker, or stops it.
    ///
    /// # Errors
    /// The setting cannot be written.
    pub fn forward(&self, on: bool) -> anyhow::Result<()> {
        let value = if on { "1" } else { "0" };
        self.server.sysctl("net.ipv4.ip_forward", value)?;
        self.server.sysctl("net.ipv6.conf.all.forwarding", value)
    }
}
