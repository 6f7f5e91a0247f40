//! What the engine says of whole conversations is what the kernel does with them: packet by packet, proven by what arrives.
//!
//! `PORTCULLIS_FLOWS=POLICIES,CONVERSATIONS` sets the size of each test, `PORTCULLIS_SEED` its begin.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

extern crate portcullis_daemon as _;

mod conversation;
mod datagram;
mod policies;
#[path = "../../../kernel/tests/differential/random.rs"]
mod random;
mod stage;
mod talk;
mod world;

use conversation::{Conversation, Flavour};
use random::Random;
use stage::Stage;
use world::Round;

fn size(policies: u32, conversations: u32) -> (u32, u32) {
    let Ok(wanted) = std::env::var("PORTCULLIS_FLOWS") else {
        return (policies, conversations);
    };
    let (policies, conversations) = wanted.split_once(',').unwrap();
    (policies.parse().unwrap(), conversations.parse().unwrap())
}

fn seed() -> u64 {
    std::env::var("PORTCULLIS_SEED").map_or(1, |text| text.parse().unwrap())
}

/// The stage; `None`, said loudly, where there can be none.
fn stage(test: &str) -> Option<Stage> {
    if let Err(why) = lab::available() {
        eprintln!("SKIPPED: {test}: {why}");
        return None;
    }
    Some(Stage::new())
}

/// Many policies, each with conversations of its own.
fn compare(stage: &mut Stage, flavour: Flavour, (policies, conversations): (u32, u32)) {
    let seed = seed();
    let mut total = world::Tally::default();
    for number in 0..policies {
        let mut random = Random::new(seed.wrapping_mul(1_000_003) + u64::from(number));
        let text = policies::generate(&mut random);
        let conversations: Vec<Conversation> = (0..conversations)
            .map(|number| Conversation::generate(number, flavour, &mut random))
            .collect();
        let round = Round {
            text: &text,
            conversations: &conversations,
            is_strict: !flavour.is_wild,
        };
        match round.play(stage) {
            Ok(tally) => total.add(tally),
            Err(difference) => panic!("policy {number} of seed {seed}: {difference}"),
        }
    }
    println!("seed {seed}: {policies} policies: {total:?}");
    assert!(
        total.passed > total.packets / 10 && total.refused > total.packets / 10,
        "hardly anything was allowed, or refused: the test shows nothing"
    );
}

#[test]
fn conversations_fare_in_the_kernel_as_the_engine_says() {
    let Some(mut stage) = stage("conversations_fare_in_the_kernel_as_the_engine_says") else {
        return;
    };
    stage.be_liberal(true);
    let flavour = Flavour {
        is_wild: true,
        has_bans: true,
        has_resets: true,
    };
    compare(&mut stage, flavour, size(60, 60));
}
