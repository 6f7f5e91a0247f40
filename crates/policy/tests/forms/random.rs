//! Random policies: valid by construction, small values so that they meet.

use proptest::prelude::*;
use proptest::sample::select;

/// A policy as a table: what a printer writes down in each form.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) settings: Vec<(&'static str, Setting)>,
    pub(crate) sets: Vec<(String, bool, Vec<&'static str>)>,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub(crate) enum Setting {
    Word(&'static str),
    Number(u32),
    Flag(bool),
    Texts(Vec<&'static str>),
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) action: &'static str,
    pub(crate) name: Option<String>,
    pub(crate) direction: Vec<&'static str>,
    pub(crate) protocol: Vec<&'static str>,
    pub(crate) from: Vec<String>,
    pub(crate) to: Vec<String>,
    pub(crate) port: Vec<&'static str>,
    pub(crate) source_port: Vec<&'static str>,
    pub(crate) interface: Option<&'static str>,
    pub(crate) log: bool,
    pub(crate) expires: Option<&'static str>,
    pub(crate) ban_for: Option<&'static str>,
    pub(crate) rate: Option<(u32, &'static str, &'static str, Option<u32>)>,
    pub(crate) payload: Option<Payload>,
    /// Key and names.
    pub(crate) hosts: Option<(&'static str, Vec<&'static str>)>,
    pub(crate) enabled: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) pattern: Option<(&'static str, String)>,
    pub(crate) offset: Option<u32>,
    pub(crate) ignore_case: bool,
    pub(crate) min_len: Option<u32>,
    pub(crate) max_len: Option<u32>,
    pub(crate) stream: bool,
    pub(crate) depth: Option<u32>,
    pub(crate) every_packet: bool,
}

impl Policy {
    pub(crate) fn enabled_rules(&self) -> usize {
        self.rules.iter().filter(|rule| rule.enabled).count()
    }
}

fn setting() -> impl Strategy<Value = (&'static str, Setting)> {
    prop_oneof![
        select(vec!["observe", "enforce"]).prop_map(|word| ("mode", Setting::Word(word))),
        select(vec!["open", "closed", "last-known"])
            .prop_map(|word| ("on_failure", Setting::Word(word))),
        any::<bool>().prop_map(|flag| ("essentials", Setting::Flag(flag))),
        (
            select(vec!["inbound", "outbound", "forward"]),
            select(vec!["allow", "deny", "reject"])
        )
            .prop_map(|(key, word)| {
                let path = match key {
                    "inbound" => "default.inbound",
                    "outbound" => "default.outbound",
                    _ => "default.forward",
                };
                (path, Setting::Word(word))
            }),
        select(vec!["90s", "10m", "1h30m", "2d"])
            .prop_map(|word| ("ban.duration", Setting::Word(word))),
        (1_u32..100_000).prop_map(|number| ("ban.capacity", Setting::Number(number))),
        any::<bool>().prop_map(|flag| ("ban.ipv4.widen", Setting::Flag(flag))),
        (48_u32..64).prop_map(|length| ("ban.ipv6.collateral", Setting::Number(length))),
        any::<bool>().prop_map(|flag| ("detect.blocked.enabled", Setting::Flag(flag))),
        (1_u32..100).prop_map(|number| ("detect.blocked.packets", Setting::Number(number))),
        select(vec!["alert", "limit", "ban"])
            .prop_map(|word| ("detect.payload.response", Setting::Word(word))),
        any::<bool>().prop_map(|flag| ("detect.rate.established", Setting::Flag(flag))),
        Just((
            "detect.rate.ignore",
            Setting::Texts(vec!["@alpha", "192.0.2.9"])
        )),
        Just((
            "protect.addresses",
            Setting::Texts(vec!["@beta", "192.0.2.1", "2001:db8::/64"])
        )),
        any::<bool>().prop_map(|flag| ("protect.discover", Setting::Flag(flag))),
        select(vec!["64KiB", "1MiB", "3GB"])
            .prop_map(|word| ("log.rotate_bytes", Setting::Word(word))),
        (1_024_u32..9_999).prop_map(|number| ("limits.flows", Setting::Number(number))),
    ]
}

fn literals() -> Vec<&'static str> {
    vec![
        "10.0.0.0/8",
        "192.0.2.7",
        "192.0.2.0-192.0.2.40",
        "2001:db8::/32",
        "2001:db8::1",
        "::/0",
        "0.0.0.0/0",
        "::ffff:192.0.2.1",
        "fe80::1-fe80::ff",
    ]
}

fn addresses() -> impl Strategy<Value = Vec<String>> {
    let one = prop_oneof![3 => select(literals()), 1 => select(vec!["@alpha", "@beta"])];
    prop_oneof![
        2 => Just(Vec::new()),
        1 => Just(vec!["any".to_owned()]),
        // Both families, so that no two conditions exclude each other.
        3 => prop::collection::vec(one, 1..4).prop_map(|mut all| {
            all.extend(["198.51.100.1", "2001:db8:1::1"]);
            all.into_iter().map(str::to_owned).collect()
        }),
    ]
}

fn ports() -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![
        2 => Just(Vec::new()),
        2 => prop::collection::vec(select(vec!["0", "22", "80", "8000-8100", "81-90", "65535"]), 1..4),
    ]
}

/// A name with everything that has to be escaped somewhere.
fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z \"'\\\\#,=é]{0,12}[a-z]"
}

fn payload() -> impl Strategy<Value = Payload> {
    let pattern = prop_oneof![
        1 => Just(None),
        3 => select(vec!["68 ?? 00", "6? ff", "00"]).prop_map(|bytes| Some(("bytes", bytes.to_owned()))),
        3 => "[a-z\"'#]{1,5}|GET \\\\\\\\x20|a\\\\\\\\\\\\\\\\".prop_map(|text| Some(("contains", text))),
        2 => select(vec!["dead", "00 ff"]).prop_map(|hex| Some(("contains_hex", hex.to_owned()))),
        3 => select(vec!["^a+$", "\\d{3}\"x", "[^']#", "a|b\\\\"]).prop_map(|text| Some(("regex", text.to_owned()))),
    ];
    let lengths = (prop::option::of(1_u32..9), prop::option::of(100_u32..200));
    let stream = (any::<bool>(), prop::option::of(100_u32..65_536));
    (pattern, any::<[bool; 2]>(), 0_u32..90, lengths, stream).prop_map(
        |(pattern, [ignore_case, every_packet], offset, (min_len, max_len), (stream, depth))| {
            let kind = pattern.as_ref().map(|(kind, _)| *kind);
            Payload {
                offset: (kind == Some("bytes") && offset % 3 > 0).then_some(offset),
                ignore_case: ignore_case && matches!(kind, Some("contains" | "regex")),
                min_len: if kind.is_none() {
                    Some(min_len.unwrap_or(2))
                } else {
                    min_len
                },
                max_len,
                stream,
                depth: depth.filter(|_| stream),
                every_packet,
                pattern,
            }
        },
    )
}

fn hosts() -> impl Strategy<Value = (&'static str, Vec<&'static str>)> {
    let names = vec![
        "a.example",
        "*.a.example",
        ".B.example.",
        "*",
        "b\u{fc}cher.example",
    ];
    let addresses = vec!["192.0.2.7", "[2001:db8::7]", "2001:db8::8"];
    let both = [names.clone(), addresses].concat();
    prop_oneof![
        (Just("sni"), prop::collection::vec(select(names), 1..4)),
        (Just("http_host"), prop::collection::vec(select(both), 1..4)),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let who = (
        select(vec!["allow", "deny", "reject", "limit", "ban"]),
        prop::option::of(name()),
        prop::collection::vec(select(vec!["in", "out", "forward"]), 0..3),
        prop_oneof![
            Just(vec![]),
            Just(vec!["tcp"]),
            Just(vec!["tcp", "udp"]),
            Just(vec!["132", "tcp"]),
            Just(vec!["icmp"]),
            Just(vec!["47"]),
            Just(vec!["any"]),
        ],
    );
    let what = (addresses(), addresses(), ports(), ports());
    let how = (
        prop::option::of(select(vec!["eth0", "wg*", "br-lan.1"])),
        any::<bool>(),
        prop::option::of(select(vec![
            "2027-01-01T00:00:00Z",
            "2030-06-01T12:00:00.5+02:00",
        ])),
        prop::option::of(select(vec!["90s", "1h", "7d"])),
        (
            1_u32..50,
            select(vec!["connections", "packets", "bytes"]),
            select(vec!["second", "minute", "hour", "day"]),
            prop::option::of(1_u32..99),
        ),
        (prop::option::of(payload()), prop::option::of(hosts())),
        prop::bool::weighted(0.9),
    );
    (who, what, how).prop_map(
        |(
            (action, name, direction, protocol),
            (from, to, port, source_port),
            (interface, log, expires, ban_for, rate, (payload, hosts), enabled),
        )| {
            let portless = protocol.iter().any(|p| matches!(*p, "icmp" | "47"));
            let over_tcp = matches!(protocol.as_slice(), [] | ["tcp" | "any"]);
            let hosts = hosts.filter(|_| over_tcp && payload.is_none());
            Rule {
                action,
                name,
                direction,
                port: if portless { Vec::new() } else { port },
                source_port: if portless { Vec::new() } else { source_port },
                protocol,
                from,
                to,
                interface,
                log,
                expires,
                ban_for: ban_for.filter(|_| action == "ban"),
                rate: (action == "limit").then_some(rate),
                payload,
                hosts,
                enabled,
            }
        },
    )
}

/// Any policy.
pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    let set = || prop::collection::vec(select(literals()), 1..4);
    let settings = prop::collection::vec(setting(), 0..8);
    (
        settings,
        set(),
        set(),
        any::<bool>(),
        prop::collection::vec(rule(), 0..6),
    )
        .prop_map(|(settings, alpha, beta, is_feed, rules)| {
            // Each setting once.
            let mut once: Vec<(&'static str, Setting)> = Vec::new();
            for (path, setting) in settings {
                if !once.iter().any(|(other, _)| *other == path) {
                    once.push((path, setting));
                }
            }
            Policy {
                settings: once,
                sets: vec![
                    ("beta".to_owned(), is_feed, beta),
                    ("alpha".to_owned(), false, alpha),
                ],
                rules,
            }
        })
}
