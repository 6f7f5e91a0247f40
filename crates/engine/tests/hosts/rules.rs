//! What rules do with the hosts that they name.

use crate::common::*;
use crate::{Client, HTTP, SNI, get, hosts, policy, told};
use Direction::{In, Out};
use Verdict::{Allow, Drop};
use engine::{Probe, Reason, Verdict};
use policy::{Action, Direction, HostField, Rate, RateUnit, Rule, RuleId};

#[test]
fn a_named_server_is_denied_and_another_on_the_same_address_is_not() {
    for (address, host) in [(CLIENT, HOST), (CLIENT6, HOST6)] {
        for (field, asked, verdict) in [
            (SNI, "ads.example", Drop),
            (SNI, "ADS.Example.", Drop),
            (SNI, "a.ads.example", Drop),
            (SNI, "bads.example", Allow),
            (SNI, "good.example", Allow),
            (HTTP, "ads.example:8080", Drop),
            (HTTP, "192.0.2.9", Drop),
            (HTTP, "192.0.2.9:80", Drop),
            (HTTP, "[2001:db8::9]:80", Drop),
            (HTTP, "192.0.2.8", Allow),
            (HTTP, "good.example", Allow),
        ] {
            let plan = policy(vec![
                hosts(Action::Deny, SNI, &[".ads.example"]),
                hosts(
                    Action::Deny,
                    HTTP,
                    &["ads.example", "192.0.2.9", "2001:db8::9"],
                ),
            ]);
            let mut client = Client::from(address, host, plan);
            assert_eq!(client.send(&field.first_bytes(asked)), verdict, "{asked}");
            let named = told(&mut client.bench);
            assert_eq!(named.len(), usize::from(verdict == Drop), "{named:?}");
        }
    }
}

#[test]
fn the_same_segment_again_is_dropped_and_told_once() {
    let mut client = Client::new(policy(vec![hosts(Action::Deny, SNI, &["ads.example"])]));
    let hello = SNI.first_bytes("ads.example");
    for _ in 0..3 {
        assert_eq!(client.at(100, &hello).reason, Reason::Rule(RuleId(0)));
    }
    // And what is cut otherwise, or follows.
    assert_eq!(client.at(100, &hello[..10]).verdict, Drop);
    assert_eq!(client.at(100 + hello.len() as u32, b"more").verdict, Drop);
    assert_eq!(told(&mut client.bench), ["sni ads.example"]);
}

/// Below a name is whatever ends in it, as servers that answer for all below it see it.
#[test]
fn no_label_is_too_strange_to_be_below_a_name() {
    let long = format!("{}.ads.example", "x".repeat(80));
    for (field, asked) in [
        (SNI, &*long),
        (SNI, "a b.ads.example"),
        (SNI, "\u{fc}.ads.example"),
        (HTTP, &*long),
        (HTTP, "a!b.ADS.example:80"),
        (HTTP, "a..ads.example"),
    ] {
        let mut client = Client::new(policy(vec![hosts(Action::Deny, field, &["*.ads.example"])]));
        assert_eq!(client.send(&field.first_bytes(asked)), Drop, "{asked}");
    }
}

/// An allow list: the named ones pass, whoever names another does not, and what names nobody is not looked at.
#[test]
fn an_allow_list_of_names() {
    let list = |field| {
        policy(vec![
            hosts(Action::Allow, field, &[".good.example"]),
            hosts(Action::Deny, field, &["*"]),
        ])
    };
    for (field, asked, verdict) in [
        (SNI, "www.good.example", Allow),
        (SNI, "bad.example", Drop),
        (SNI, "192.0.2.1", Drop),
        (HTTP, "good.example", Allow),
        (HTTP, "bad.example", Drop),
        (HTTP, "127.1", Drop),
        (SNI, "bad.example\0.good.example", Drop),
        (HTTP, "bad.example/.good.example", Drop),
        (HTTP, "bad.example .good.example", Drop),
    ] {
        let mut client = Client::new(list(field));
        assert_eq!(client.send(&field.first_bytes(asked)), verdict, "{asked}");
    }
    let mut client = Client::new(list(HTTP));
    assert_eq!(client.send(&get("good.example")), Allow);
    let both = [get("good.example"), get("bad.example")].concat();
    assert_eq!(client.send(&both), Drop, "no host passes beside another");
    let mut client = Client::new(list(HTTP));
    let head = b"GET / HTTP/1.1\r\nHost: good.example\r\nHost: www.good.example\r\n\r\n";
    assert_eq!(
        client.send(head),
        Drop,
        "what has two readings is not let pass"
    );
}

#[test]
fn what_is_over_the_rate_does_not_pass_when_it_comes_again() {
    let rate = Rate {
        amount: 1.try_into().unwrap(),
        unit: RateUnit::Connections,
        per: std::time::Duration::from_secs(60),
        burst: 1.try_into().unwrap(),
    };
    let rule = Rule {
        rate: Some(rate),
        ..hosts(Action::Limit, SNI, &["a.example"])
    };
    let hello = SNI.first_bytes("a.example");
    let mut client = Client::new(policy(vec![rule]));
    assert_eq!(client.send(&hello), Allow);
    let second = |client: &mut Client, flags, sequence, payload: &[u8]| {
        let packet = tcp(CLIENT, 5_001, HOST, 443, flags, sequence, payload);
        client.bench.verdict(In, &packet)
    };
    assert_eq!(second(&mut client, SYN, 99, b""), Allow);
    let answer = acknowledging(100, tcp(HOST, 443, CLIENT, 5_001, SYN_ACK, 499, b""));
    assert_eq!(client.bench.verdict(Out, &answer), Allow);
    for _ in 0..3 {
        assert_eq!(second(&mut client, ACK, 100, &hello), Drop);
    }
    client.bench.pass(60_000);
    assert_eq!(second(&mut client, ACK, 100, &hello), Allow);
    let next = 100 + hello.len() as u32;
    assert_eq!(
        second(&mut client, ACK, next, b"\x17\x03\x03\0\x01\0"),
        Allow
    );
}

#[test]
fn a_probe_asks_for_a_host() {
    let bench = Bench::new(policy(vec![hosts(Action::Deny, SNI, &["*.ads.example"])]));
    for (host, verdict) in [("www.ads.example", Drop), ("ads.example", Allow)] {
        let probe = Probe {
            direction: In,
            protocol: policy::protocol::TCP,
            source: CLIENT.parse().unwrap(),
            destination: HOST.parse().unwrap(),
            source_port: Some(5_000),
            destination_port: Some(443),
            icmp: None,
            interface: None,
            payload: SNI.first_bytes(host),
        };
        assert_eq!(bench.engine.test(bench.now, &probe).verdict, verdict);
    }
}

/// Lists change and policies are reloaded while segments that were dropped are sent again.
#[test]
fn a_reload_is_no_way_out() {
    let plan = || {
        policy(vec![
            hosts(Action::Deny, SNI, &["ads.example"]),
            hosts(Action::Deny, HTTP, &["ads.example"]),
        ])
    };
    for field in HostField::ALL {
        let bytes = field.first_bytes("ads.example");
        let (first, second) = bytes.split_at(bytes.len() - 4);
        let mut client = Client::new(plan());
        assert_eq!(client.send(first), Allow);
        client.bench.engine.reload(plan().into());
        assert_eq!(client.send(second), Drop);
        let mut others = plan();
        others.rules.insert(0, tcp_port(Action::Deny, 9));
        for (id, rule) in (0..).zip(&mut others.rules) {
            rule.id = RuleId(id);
        }
        client.bench.engine.reload(others.into());
        assert_eq!(client.send(second), Drop);
        // What the policy does not name any more passes.
        client.bench.engine.reload(policy(Vec::new()).into());
        assert_eq!(client.send(second), Allow);
    }
    // In the middle of a body.
    let mut client = Client::new(plan());
    assert_eq!(
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n\0\0\0"),
        Allow
    );
    client.bench.engine.reload(plan().into());
    let rest = [&b"\0\0\0\0\0"[..], &get("ads.example")].concat();
    assert_eq!(client.send(&rest), Drop);
}
