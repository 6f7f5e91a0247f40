//! A virtual cable between two namespaces.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::netns::{Netns, ip};

/// Joins two namespaces by a veth pair, with addresses (`10.77.1.2/24`, `fd77:1::2/64`) that are usable at once.
///
/// Both ends and both loopbacks are up. The pair is made inside the namespaces, so that the caller's own is never touched.
/// Offloads stay as veth has them: segments of up to 64 KiB with unfilled checksums cross it, as on a real host's loopback.
///
/// # Errors
/// A name is taken, longer than 15 bytes, or an address is not one.
pub fn veth(
    a: &Netns,
    a_if: &str,
    a_addr: &[&str],
    b: &Netns,
    b_if: &str,
    b_addr: &[&str],
) -> anyhow::Result<()> {
    ip(&[
        "link",
        "add",
        "name",
        a_if,
        "netns",
        a.name(),
        "type",
        "veth",
        "peer",
        "name",
        b_if,
        "netns",
        b.name(),
    ])?;
    let ends = [(a, a_if, a_addr), (b, b_if, b_addr)];
    for (netns, interface, addresses) in ends {
        for address in addresses {
            // `nodad` is an IPv6 flag; ip refuses it for IPv4.
            let tail: &[&str] = if address.contains(':') {
                &["nodad"]
            } else {
                &[]
            };
            netns.run(
                "ip",
                &[&["addr", "add", address, "dev", interface], tail].concat(),
            )?;
        }
        netns.run("ip", &["link", "set", interface, "up"])?;
    }
    for (netns, interface, _) in ends {
        wait_for_ipv6(netns, interface)?;
    }
    Ok(())
}

/// Waits until the kernel's own work after "up" is done: a link-local address is there and no address is tentative. Until
/// then neighbour discovery loses its first question and repeats it only a second later.
fn wait_for_ipv6(netns: &Netns, interface: &str) -> anyhow::Result<()> {
    const LINK_LOCAL: &str = "20";
    const TENTATIVE: u32 = 0x40;
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        // A kernel without IPv6 has no such file, and nothing to wait for.
        let Ok(table) = netns.enter(|| fs::read_to_string("/proc/thread-self/net/if_inet6"))?
        else {
            return Ok(());
        };
        let mut local = false;
        let mut tentative = false;
        for line in table.lines() {
            // address, index, prefix length, scope, flags, name
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            if let [_, _, _, scope, flags, name] = fields[..]
                && name == interface
            {
                local |= scope == LINK_LOCAL;
                tentative |=
                    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & TENTATIVE != 0);
            }
        }
        if local && !tentative {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!(
                "{interface} in {} has no usable IPv6 address after 3 s:\n{table}",
                netns.name()
            );
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
