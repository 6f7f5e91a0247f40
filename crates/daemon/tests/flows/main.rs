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
use world::{Round, Windows};

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
fn compare(
    test: &str,
    write: fn(&mut Random) -> String,
    flavour: Flavour,
    windows: Windows,
    size: (u32, u32),
) {
    let Some(mut stage) = stage(test) else { return };
    let (policies, conversations) = size;
    stage.be_liberal(windows == Windows::Pass);
    let seed = seed();
    let mut total = world::Tally::default();
    for number in 0..policies {
        let mut random = Random::new(seed.wrapping_mul(1_000_003) + u64::from(number));
        let mut text = write(&mut random);
        if windows == Windows::Count {
            // What one side alone lets pass would be counted there alone.
            let lines = text.lines().filter(|line| !line.starts_with("limit"));
            text = lines.map(|line| format!("{line}\n")).collect();
        }
        let conversations: Vec<Conversation> = (0..conversations)
            .map(|number| Conversation::generate(number, flavour, &mut random))
            .collect();
        let round = Round {
            text: &text,
            conversations: &conversations,
            windows,
        };
        match round.play(&mut stage) {
            Ok(tally) => total.add(tally),
            Err(difference) => panic!("policy {number} of seed {seed}: {difference}"),
        }
    }
    println!("seed {seed}: {policies} policies: {total:?}");
    assert!(
        total.behind_reset + total.unopened <= total.packets / 1_000,
        "what is not comparable is an exception"
    );
    assert!(
        total.passed > total.packets / 10 && total.refused > total.packets / 10,
        "hardly anything was allowed, or refused: the test shows nothing"
    );
}

#[test]
fn conversations_fare_in_the_kernel_as_the_engine_says() {
    let flavour = Flavour {
        is_wild: true,
        has_bans: true,
        has_resets: true,
        ..Flavour::default()
    };
    compare(
        "conversations_fare_in_the_kernel_as_the_engine_says",
        policies::generate,
        flavour,
        Windows::Pass,
        size(60, 60),
    );
}

/// As Linux comes, it drops segments that are outside the window: `docs/decisions/0017` says why the engine does not.
#[test]
fn nothing_but_segments_outside_the_window_fares_otherwise() {
    let flavour = Flavour {
        is_wild: true,
        is_exact: true,
        has_resets: true,
        ..Flavour::default()
    };
    compare(
        "nothing_but_segments_outside_the_window_fares_otherwise",
        policies::generate,
        flavour,
        Windows::Count,
        size(30, 60),
    );
}

/// What observing says of packets whose payload counts is what enforcing does with them: the kernel, and who judges for it.
#[test]
fn what_observing_says_of_content_is_what_enforcing_does() {
    let flavour = Flavour {
        asks_names: true,
        has_resets: true,
        ..Flavour::default()
    };
    let write = policies::looking_inside;
    compare(
        "what_observing_says_of_content_is_what_enforcing_does",
        write,
        flavour,
        Windows::Pass,
        size(40, 60),
    );
}
