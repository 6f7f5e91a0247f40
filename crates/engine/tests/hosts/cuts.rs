//! However what names a host is cut into segments, it is seen.

use crate::common::*;
use crate::{Client, HTTP, SNI, get, hosts, policy, told};
use Verdict::{Allow, Drop};
use engine::{Known, Tracked, Verdict};
use policy::{Action, HostField};
use proptest::prelude::*;

#[test]
fn who_sends_gaps_gains_nothing() {
    let plan = policy(vec![hosts(Action::Deny, HTTP, &["ads.example"])]);
    let mut bench = Bench::new(plan);
    let asked = |bench: &mut Bench, sequence: u32, payload: &[u8]| {
        let packet = tcp(CLIENT, 5_000, HOST, 443, ACK, sequence, payload);
        bench
            .asked(Known::again(Tracked::Established), &packet)
            .verdict
    };
    let _ = asked(&mut bench, 99, b"");
    let _ = asked(&mut bench, 100, b"GET ");
    let mut refused = 0;
    for at in 0..60_u32 {
        let begin = 200 + at * 50_000;
        refused += u32::from(asked(&mut bench, begin, &[b'x'; 50_000]) == Drop);
    }
    assert!(refused > 20, "{refused}");
    assert_eq!(
        asked(&mut bench, 104, b"/ HTTP/1.1\r\nHost: ads.example\r\n\r\n"),
        Drop
    );
}

/// The message in records of at most so many bytes.
fn records(hello: &[u8], size: usize) -> Vec<u8> {
    let parts = hello[5..].chunks(size).flat_map(|part| {
        let [high, low] = (part.len() as u16).to_be_bytes();
        [&[22, 3, 1, high, low][..], part].concat()
    });
    parts.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the bytes are cut into records and segments, and in whatever order they come, the name is found; the segment that
    /// completes it does not pass, and another name does.
    #[test]
    fn no_cut_hides_a_name(
        field in prop::sample::select(vec![SNI, HTTP]),
        is_ads in any::<bool>(),
        size in 1_usize..80,
        mut cuts in prop::collection::vec(0_usize..400, 0..12),
        order in any::<u64>(),
    ) {
        let host = if is_ads { "www.ads.example" } else { "www.good.example" };
        let bytes = match field {
            SNI => records(&field.first_bytes(host), size),
            HTTP => [get("first.example"), get(host)].concat(),
        };
        cuts.extend([0, bytes.len()]);
        cuts.retain(|cut| *cut <= bytes.len());
        cuts.sort_unstable();
        cuts.dedup();
        let mut pieces: Vec<(usize, usize)> = cuts.windows(2).map(|cut| (cut[0], cut[1])).collect();
        pieces.sort_by_key(|(from, _)| (*from as u64 + 1).wrapping_mul(order | 1));
        let rules = [SNI, HTTP].map(|field| hosts(Action::Deny, field, &["*.ads.example"]));
        let mut client = Client::new(policy(rules.into()));
        let verdicts: Vec<Verdict> = pieces
            .into_iter()
            .map(|(from, to)| client.at(100 + from as u32, &bytes[from..to]).verdict)
            .collect();
        let (last, before) = verdicts.split_last().unwrap();
        let dropped = before.iter().filter(|verdict| **verdict == Drop).count() + usize::from(*last == Drop);
        prop_assert_eq!(dropped > 0, is_ads, "{:?}", verdicts);
        prop_assert_eq!(told(&mut client.bench).len(), usize::from(is_ads));
    }
}

#[test]
fn each_cut_of_a_hello_and_of_a_request_shows_the_name() {
    for field in HostField::ALL {
        let bytes = field.first_bytes("ads.example");
        for at in 1..bytes.len() {
            let mut client =
                Client::new(policy(vec![hosts(Action::Deny, field, &["ads.example"])]));
            let (first, second) = bytes.split_at(at);
            assert_eq!(client.send(first), Allow, "{field:?} {at}");
            assert_eq!(client.send(second), Drop, "{field:?} {at}");
        }
    }
}
