//! Services that people call by name. Only for messages: a name may mean another port on another machine, so that no policy can say
//! one.

/// A service, its protocol and its port, by the names of `/etc/services` and those that people use.
pub(crate) struct Service {
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
}

const SERVICES: &[(&str, &str, u16)] = &[
    ("ftp", "tcp", 21),
    ("ssh", "tcp", 22),
    ("telnet", "tcp", 23),
    ("smtp", "tcp", 25),
    ("dns", "udp,tcp", 53),
    ("domain", "udp,tcp", 53),
    ("dhcp", "udp", 67),
    ("http", "tcp", 80),
    ("www", "tcp", 80),
    ("pop3", "tcp", 110),
    ("ntp", "udp", 123),
    ("imap", "tcp", 143),
    ("snmp", "udp", 161),
    ("ldap", "tcp", 389),
    ("https", "tcp", 443),
    ("smb", "tcp", 445),
    ("submission", "tcp", 587),
    ("imaps", "tcp", 993),
    ("mysql", "tcp", 3306),
    ("rdp", "tcp", 3389),
    ("postgres", "tcp", 5432),
    ("postgresql", "tcp", 5432),
    ("redis", "tcp", 6379),
    ("wireguard", "udp", 51820),
];

/// The service of this name, in any case.
pub(crate) fn named(name: &str) -> Option<Service> {
    let found = SERVICES
        .iter()
        .find(|(one, ..)| one.eq_ignore_ascii_case(name));
    found.map(|&(_, protocol, port)| Service { protocol, port })
}

/// Whether a service is known by this port.
pub(crate) fn has_port(port: u16) -> bool {
    SERVICES.iter().any(|&(.., one)| one == port)
}
