//! Scripts as text: what they look like, and that nft takes them.

use policy::{Action, AddressSet, Plan, Rule};
use portcullis_kernel::datapath::{Datapath as _, Queues};
use portcullis_kernel::nft::{Context, HandUp, LOG_GROUP, Nft, Slot, compile};

use crate::plans;

pub(crate) fn script(
    plan: &Plan,
    hand_up: HandUp,
    queues: Option<Queues>,
    protected: &AddressSet,
) -> portcullis_kernel::nft::Script {
    compile(
        plan,
        &Context {
            protected,
            queues,
            hand_up,
            log_group: LOG_GROUP,
            slot: Slot::default(),
        },
    )
    .unwrap()
}

const QUEUES: Option<Queues> = Some(Queues { first: 4, count: 4 });

#[test]
fn a_server_policy_reads_well() {
    insta::assert_snapshot!(
        script(
            &plans::server(),
            HandUp::Mark,
            None,
            &plans::set(&["10.0.0.1/32", "fd00::1/128"])
        )
        .text
    );
}

#[test]
fn an_empty_policy_is_only_the_frame() {
    insta::assert_snapshot!(
        script(&Plan::default(), HandUp::Mark, None, &AddressSet::default()).text
    );
}

#[test]
fn floods_read_well() {
    let mut plan = plans::plan(Vec::new());
    plan.detect.syn_flood = Some(policy::SynFlood::default());
    plan.detect.icmp_flood = Some(policy::PacketFlood {
        response: policy::Response::Ban,
        ..policy::PacketFlood::icmp()
    });
    plan.detect.udp_flood = Some(policy::PacketFlood {
        response: policy::Response::Alert,
        ignore: plans::set(&["192.0.2.0/24"]),
        ..policy::PacketFlood::udp()
    });
    let protected = plans::set(&["10.0.0.1/32", "fd00::1/128"]);
    insta::assert_snapshot!(script(&plan, HandUp::Mark, None, &protected).text);
}

#[test]
fn content_rules_by_mark_and_by_queue() {
    let none = AddressSet::default();
    insta::assert_snapshot!(
        "content_by_mark",
        script(&plans::content_rules(), HandUp::Mark, QUEUES, &none).text
    );
    let queue = script(&plans::content_rules(), HandUp::Queue, QUEUES, &none).text;
    assert!(
        queue.contains("\t\tqueue flags bypass num 4-7\n"),
        "{queue}"
    );
    let mut closed = plans::content_rules();
    closed.on_failure = policy::OnFailure::Closed;
    let one = Some(Queues { first: 9, count: 1 });
    let queue = script(&closed, HandUp::Queue, one, &none).text;
    assert!(queue.contains("\t\tqueue num 9\n"), "{queue}");
}

/// Of a flow that a rule has let in, those behind it are not asked; of its answers all are.
#[test]
fn a_content_rule_behind_the_rule_that_lets_in_is_not_asked() {
    let none = AddressSet::default();
    let look = |name: &str, every_packet| Rule {
        content: plans::content(every_packet),
        ..plans::tcp(name, Action::Deny, 80)
    };
    let office = Rule {
        from: plans::of(&["192.0.2.0/24"]),
        ..plans::tcp("office", Action::Allow, 80)
    };
    let elsewhere = plans::tcp("elsewhere", Action::Allow, 81);
    let plan = plans::plan(vec![
        look("first", false),
        elsewhere,
        office,
        look("second", true),
        plans::tcp("rest", Action::Allow, 80),
    ]);
    let text = script(&plan, HandUp::Mark, QUEUES, &none).text;
    for wanted in [
        "chain unsettled_in {\n\t\ttcp dport 80 goto rule_0 comment \"first\"\n\t\tip saddr 192.0.2.0/24 tcp dport 80 accept comment \"office\"\n\t\ttcp dport 80 goto rule_3 comment \"second\"\n",
        "chain unsettled_in_answers {\n\t\ttcp dport 80 goto rule_0 comment \"first\"\n\t\ttcp dport 80 goto rule_3 comment \"second\"\n",
        "chain content_in {\n\t\tct mark & 0x3f000000 == 0x04000000 ct direction reply goto watched_in_answers\n\t\tct mark & 0x3f000000 == 0x04000000 goto watched_in\n\t\tct direction reply goto unsettled_in_answers\n\t\tgoto unsettled_in\n",
    ] {
        assert!(text.contains(wanted), "{wanted}{text}");
    }
}

#[test]
fn questions_to_name_servers_by_mark_and_by_queue() {
    let none = AddressSet::default();
    let mut plan = plans::server();
    plan.dns = Some(plans::names(&[(53, 53)]));
    let text = script(&plan, HandUp::Mark, QUEUES, &none).text;
    for wanted in [
        "\t\tth dport 53 iif != \"lo\" jump questions\n",
        "\t\tth dport 53 jump questions\n",
        "\t\tmeta mark set meta mark | 0x18000000\n",
        "\t\tmeta l4proto udp meta mark & 0xff000000 == 0x20000000 notrack\n",
        "\t\tiif != \"lo\" update @questions_v6 { ip6 saddr & ffff:ffff:ffff:ffff:: limit rate over 200000/second burst 200000 packets } counter name \"questions_over\" drop\n",
    ] {
        assert!(text.contains(wanted), "{wanted}{text}");
    }
    assert!(!text.contains("queue"), "{text}");
    plan.dns = Some(plans::names(&[(53, 53), (5353, 5355)]));
    let text = script(&plan, HandUp::Queue, QUEUES, &none).text;
    assert!(
        text.contains("th dport { 53, 5353-5355 } jump questions"),
        "{text}"
    );
    let queue = "\t\tmeta mark & 0x08000000 != 0 queue flags bypass num 4-7\n";
    assert_eq!(text.matches(queue).count(), 3, "{text}");
    // Nobody looks: they pass, or do not.
    let open = script(&plan, HandUp::Mark, None, &none).text;
    assert!(!open.contains("questions"), "{open}");
    plan.on_failure = policy::OnFailure::Closed;
    let closed = script(&plan, HandUp::Mark, None, &none).text;
    let drops = "\tchain questions {\n\t\tmeta l4proto != { tcp, udp } return\n\t\tct direction reply tcp flags & (rst) == rst return\n\t\tct state related tcp flags & (rst) == rst return\n\t\tdrop\n";
    assert!(closed.contains(drops), "{closed}");
    plan.mode = policy::Mode::Observe;
    let observed = script(&plan, HandUp::Mark, None, &none).text;
    assert!(!observed.contains("questions"), "{observed}");
}

#[test]
fn nft_takes_what_hands_up_questions() {
    let Some(mut lab) = crate::stage::Lab::new() else {
        return;
    };
    let before = lab.ruleset();
    let mut plan = plans::content_rules();
    plan.dns = Some(plans::names(&[(53, 53), (5353, 5355)]));
    for on_failure in [policy::OnFailure::Open, policy::OnFailure::Closed] {
        plan.on_failure = on_failure;
        lab.try_apply(&plan, Some(Queues { first: 0, count: 2 }))
            .unwrap();
        lab.try_apply(&plan, None).unwrap();
    }
    plan.dns = Some(policy::DnsFilter {
        ports: policy::PortSet::Any,
        ..plans::names(&[])
    });
    lab.try_apply(&plan, Some(Queues { first: 0, count: 2 }))
        .unwrap();
    lab.with(Nft::remove).unwrap();
    assert_eq!(lab.ruleset(), before);
}

mod random {
    use ipnet::IpNet;
    use policy::{
        Action, AddressMatch, AddressSet, DefaultAction, Directions, Interface, Plan, PortSet,
        Protocols, Rate, RateUnit, Response, Rule, SetId, Timestamp,
    };
    use proptest::prelude::*;

    use crate::plans::{content, rule};

    fn addresses() -> impl Strategy<Value = AddressSet> {
        let prefix = prop_oneof![
            (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| IpNet::new(
                std::net::Ipv4Addr::from_bits(bits).into(),
                length
            )
            .unwrap()),
            (any::<u128>(), 0u8..=128).prop_map(|(bits, length)| IpNet::new(
                std::net::Ipv6Addr::from_bits(bits).into(),
                length
            )
            .unwrap()),
        ];
        prop::collection::vec(prefix, 0..30).prop_map(|prefixes| prefixes.into_iter().collect())
    }

    fn address_match() -> impl Strategy<Value = AddressMatch> {
        prop_oneof![
            Just(AddressMatch::Any),
            (
                addresses(),
                prop::collection::vec((0u32..3).prop_map(SetId), 0..3)
            )
                .prop_map(|(inline, sets)| AddressMatch::Of { inline, sets }),
        ]
    }

    fn ports() -> impl Strategy<Value = PortSet> {
        prop_oneof![
            Just(PortSet::Any),
            prop::collection::vec((any::<u16>(), any::<u16>()), 0..12).prop_map(|ranges| {
                PortSet::from_ranges(ranges.into_iter().map(|(a, b)| (a.min(b), a.max(b))))
            }),
        ]
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let action = prop_oneof![
            Just(Action::Allow),
            Just(Action::Deny),
            Just(Action::Reject),
            Just(Action::Limit),
            (0u64..1_000_000_000_000)
                .prop_map(|millis| Action::Ban(std::time::Duration::from_millis(millis))),
        ];
        let protocols = prop_oneof![
            Just(Protocols::ANY),
            prop::collection::vec(any::<u8>(), 0..9)
                .prop_map(|numbers| numbers.into_iter().collect()),
            prop::sample::select(vec![1, 6, 17, 58, 132]).prop_map(Protocols::one),
        ];
        let interface = prop_oneof![
            3 => Just(None),
            1 => "[a-z0-9.*@-]{1,14}".prop_map(|name| Some(Interface::Named(name))),
            1 => "[a-z0-9.]{1,14}".prop_map(|name| Some(Interface::Prefix(name))),
        ];
        let rate = (
            1u32..,
            1u32..,
            prop::sample::select(vec![1u64, 60, 3_600, 86_400]),
            0usize..3,
        )
            .prop_map(|(amount, burst, per, unit)| Rate {
                amount: amount.try_into().unwrap(),
                unit: [RateUnit::Connections, RateUnit::Packets, RateUnit::Bytes][unit],
                per: std::time::Duration::from_secs(per),
                burst: burst.try_into().unwrap(),
            });
        let directions = prop_oneof![
            Just(Directions::ALL),
            prop::sample::select(policy::Direction::ALL.to_vec()).prop_map(Directions::one),
        ];
        let rest = (
            any::<bool>(),
            prop::option::weighted(0.2, any::<bool>()),
            rate,
            prop::option::of(any::<u64>()),
            "\\PC{0,140}",
        );
        (
            action,
            protocols,
            address_match(),
            address_match(),
            ports(),
            ports(),
            interface,
            directions,
            rest,
        )
            .prop_map(
                |(
                    action,
                    protocols,
                    from,
                    to,
                    source_port,
                    port,
                    interface,
                    directions,
                    (log, seen, rate, expires, name),
                )| Rule {
                    directions,
                    protocols,
                    from,
                    to,
                    source_port,
                    port,
                    interface,
                    log,
                    content: seen.and_then(content),
                    rate: (action == Action::Limit).then_some(rate),
                    expires: expires.map(Timestamp::from_nanos),
                    ..rule(&name, action)
                },
            )
    }

    pub(super) fn plan() -> impl Strategy<Value = Plan> {
        let default = || {
            prop::sample::select(vec![
                DefaultAction::Allow,
                DefaultAction::Deny,
                DefaultAction::Reject,
            ])
        };
        let detector = (
            1u32..,
            1u64..100_000_000,
            any::<bool>(),
            addresses(),
            0usize..3,
        )
            .prop_map(|(packets, window, established, ignore, response)| {
                policy::RateLimit {
                    packets,
                    window: std::time::Duration::from_millis(window),
                    established,
                    response: [Response::Alert, Response::Limit, Response::Ban][response],
                    ban: std::time::Duration::from_secs(window),
                    ignore,
                }
            });
        let sets = prop::collection::vec(addresses(), 3);
        (
            prop::collection::vec(any_rule(), 0..40),
            sets,
            (default(), default(), default()),
            prop::option::of(detector),
            addresses(),
            any::<[bool; 3]>(),
        )
            .prop_map(
                |(
                    rules,
                    sets,
                    (inbound, outbound, forward),
                    rate,
                    protected,
                    [essentials, observe, closed],
                )| {
                    let mut plan = crate::plans::plan(rules);
                    plan.sets = sets
                        .into_iter()
                        .map(|addresses| policy::NamedSet {
                            name: "some-set".into(),
                            addresses,
                        })
                        .collect();
                    plan.feeds = vec![SetId(2), SetId(0)];
                    plan.default = policy::Defaults {
                        inbound,
                        outbound,
                        forward,
                    };
                    if let Some(rate) = &rate {
                        let flood = policy::PacketFlood {
                            packets: rate.packets,
                            window: rate.window,
                            response: rate.response,
                            ban: rate.ban,
                            ignore: rate.ignore.clone(),
                        };
                        plan.detect.syn_flood = Some(policy::SynFlood {
                            half_open: rate.packets,
                            host_half_open: rate.packets.saturating_mul(3),
                            window: rate.window,
                            response: rate.response,
                            ban: rate.ban,
                            ignore: rate.ignore.clone(),
                        });
                        plan.detect.icmp_flood = Some(flood.clone());
                        plan.detect.udp_flood = Some(flood);
                    }
                    plan.detect.rate = rate;
                    plan.protect.addresses = protected;
                    plan.essentials = essentials;
                    if observe {
                        plan.mode = policy::Mode::Observe;
                    }
                    if closed {
                        plan.on_failure = policy::OnFailure::Closed;
                    }
                    plan
                },
            )
    }
}

#[test]
fn nft_takes_the_script_of_any_plan() {
    if let Err(why) = lab::available() {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let netns = lab::Netns::new("check").unwrap();
    let cases = proptest::test_runner::Config::with_cases(100);
    let mut runner = proptest::test_runner::TestRunner::new(cases);
    let strategy = (random::plan(), proptest::option::of(0u16..100));
    let result = runner.run(&strategy, |(plan, queues)| {
        let queues = queues.map(|first| Queues {
            first,
            count: 1 + first % 5,
        });
        let none = AddressSet::default();
        let script = || script(&plan, HandUp::Mark, queues, &none);
        proptest::prop_assert_eq!(script(), script(), "the same plan, the same script");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, script().text.as_bytes()).unwrap();
        let path = file.path().to_string_lossy().into_owned();
        let output = netns.output("nft", &["-c", "-f", &path]).unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        let first: Vec<&str> = words.lines().take(6).collect();
        proptest::prop_assert!(output.status.success(), "{}", first.join("\n"));
        Ok(())
    });
    if let Err(why) = result {
        panic!("{why}");
    }
}
