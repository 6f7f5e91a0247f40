//! What the host says of itself, in namespaces whose addresses and routes the test makes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    unsafe_code,
    reason = "giving up root for one thread has no safe interface"
)]

use std::net::IpAddr;
use std::time::Duration;

use lab::{Netns, Topology, veth};
use portcullis_kernel::interfaces::{Changes, host_addresses};
use portcullis_kernel::probe::{Missing, Support, probe};

fn ready() -> bool {
    lab::available()
        .inspect_err(|why| eprintln!("SKIPPED: {why}"))
        .is_ok()
}

#[test]
fn own_addresses_and_gateways_of_every_kind_of_route() {
    if !ready() {
        return;
    }
    let lab = Topology::new().unwrap();
    let server = lab.server.enter(host_addresses).unwrap().unwrap();
    let own: Vec<String> = server.own.iter().map(ToString::to_string).collect();
    for address in [
        "127.0.0.1/8",
        "10.77.1.1/24",
        "10.77.2.1/24",
        "::1/128",
        "fd77:1::1/64",
        "fd77:2::1/64",
    ] {
        assert!(
            own.contains(&address.to_owned()),
            "{address} is not in {own:?}"
        );
    }
    assert_eq!(
        own.iter()
            .filter(|address| address.starts_with("fe80:"))
            .count(),
        2,
        "{own:?}"
    );
    assert!(server.gateways.is_empty(), "{:?}", server.gateways);

    let client = &lab.client;
    client
        .sh("ip route add 192.0.2.0/24 via 10.77.1.77
             ip route add 198.51.100.0/24 nexthop via 10.77.1.10 nexthop via 10.77.1.11
             ip route add 203.0.113.0/24 via inet6 fe80::7 dev s0
             ip route add 192.0.2.0/25 via 10.77.1.78 table 77
             ip -6 route add 2001:db8::/32 nexthop via fd77:1::10 nexthop via fd77:1::11")
        .unwrap();
    let gateways = client.enter(host_addresses).unwrap().unwrap().gateways;
    let expected: Vec<IpAddr> = [
        "10.77.1.1",
        "10.77.1.10",
        "10.77.1.11",
        "10.77.1.77",
        "10.77.1.78",
        "fd77:1::1",
        "fd77:1::10",
        "fd77:1::11",
        "fe80::7",
    ]
    .iter()
    .map(|text| text.parse().unwrap())
    .collect();
    let mut sorted = expected.clone();
    sorted.sort();
    assert_eq!(gateways, sorted);
}

#[test]
fn networks_of_containers_and_next_hop_objects_are_found() {
    if !ready() {
        return;
    }
    let host = Netns::new("guests").unwrap();
    let made = host.sh("ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up
                        ip addr add fd17::1/64 dev docker0
                        ip link add br-lan type bridge; ip addr add 192.0.2.1/24 dev br-lan; ip link set br-lan up
                        ip link add docker9 type veth peer name eth9; ip addr add 198.51.100.1/24 dev docker9");
    made.unwrap();
    let found = host.enter(host_addresses).unwrap().unwrap();
    let guests: Vec<String> = found.guests.iter().map(ToString::to_string).collect();
    assert_eq!(
        guests,
        ["172.17.0.0/16", "fd17::/64"],
        "what carries the LAN is not theirs, nor what is no bridge"
    );
    let hop =
        "sysctl -qw net.ipv4.nexthop_compat_mode=0; ip nexthop add id 7 via 192.0.2.77 dev br-lan
               ip route add 203.0.113.0/24 nhid 7";
    if let Err(why) = host.sh(hop) {
        eprintln!("SKIPPED: no next-hop objects here: {why}");
        return;
    }
    let found = host.enter(host_addresses).unwrap().unwrap();
    let gateway: IpAddr = "192.0.2.77".parse().unwrap();
    assert_eq!(found.gateways, [gateway]);
}

#[test]
fn a_change_of_addresses_or_routes_is_told() {
    if !ready() {
        return;
    }
    let (a, b) = (
        Netns::new("changes_a").unwrap(),
        Netns::new("changes_b").unwrap(),
    );
    veth(&a, "v0", &["10.8.0.1/24"], &b, "v0", &[]).unwrap();
    let mut changes = a.enter(Changes::open).unwrap().unwrap();
    assert!(!changes.changed(Duration::from_millis(50)).unwrap());
    for change in [
        "ip addr add 10.8.0.9/24 dev v0",
        "ip route add 192.0.2.0/24 via 10.8.0.7",
        "ip -6 addr add fd08::1/64 dev v0 nodad",
    ] {
        a.sh(change).unwrap();
        assert!(changes.changed(Duration::from_secs(2)).unwrap(), "{change}");
        while changes.changed(Duration::from_millis(100)).unwrap() {}
    }
}

#[test]
fn probing_leaves_no_trace_and_agrees_with_itself() {
    if !ready() {
        return;
    }
    let netns = Netns::new("probe").unwrap();
    let host = netns.enter(probe).unwrap();
    assert_eq!(netns.run("nft", &["list", "ruleset"]).unwrap(), "");
    let legacy = netns
        .enter(|| std::fs::read_to_string("/proc/thread-self/net/ip_tables_names"))
        .unwrap();
    assert_eq!(legacy.unwrap_or_default(), "");

    // The lab needs root and the tests of this crate need nft.
    assert!(host.net_admin && host.net_raw);
    assert_eq!(host.nf_tables, Support::Yes, "{host:?}");
    for support in [
        host.nft_queue,
        host.nfqueue,
        host.queue_conntrack,
        host.nflog,
        host.conntrack,
    ] {
        assert_ne!(support, Support::Unknown, "{host:?}");
    }
    let tried = netns
        .sh("nft add table inet t; nft 'add chain inet t c'; nft add rule inet t c queue num 0");
    assert_eq!(host.nft_queue == Support::Yes, tried.is_ok());
    for missing in host.missing() {
        let sentence = missing.to_string();
        eprintln!("{sentence}");
        assert!(
            !sentence.contains('\n') && !sentence.contains(". ") && sentence.contains(';'),
            "{sentence}"
        );
    }
}

#[test]
fn without_root_what_cannot_be_known_is_unknown() {
    if !ready() {
        return;
    }
    let netns = Netns::new("no_root").unwrap();
    let host = netns.enter(|| {
        // SAFETY: no pointers are passed. The bare system call, unlike libc's wrapper, concerns this thread only, and the
        // threads that it starts.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
        assert_eq!(changed, 0);
        probe()
    });
    let host = host.unwrap();
    assert!(!host.net_admin && !host.net_raw);
    assert_eq!(
        (host.nf_tables, host.nft_queue, host.nflog),
        (Support::Unknown, Support::Unknown, Support::Unknown)
    );
    assert!(host.nft.is_some());
    assert_eq!(host.missing(), [Missing::NetAdmin, Missing::NetRaw]);
}
