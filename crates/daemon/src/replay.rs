//! The packet line over a capture: source → parse → engine → events, as fast as the file comes and the same each time. What
//! happens to the events is the caller's business.
//!
//! Nothing here enforces anything, reads a clock or allocates for a packet.

use std::sync::Arc;
use std::time::Duration;

use engine::{Arrival, Ban, Engine, Event, Setup, Totals};
use kernel::source::{Losses, Source, SourceError};
use policy::{AddressSet, Plan, Timestamp};
use wire::{Frame, Vlan};

/// The seed of every replay: equal captures give equal hashes, and so equal flow ids.
const SEED: u64 = 0x7063_756c_6c69_7321;
/// How much capture time passes between two looks at what has run out.
const TICK: Duration = Duration::from_secs(1);
/// Looks behind a packet within which it is known of every question that nobody answers it (see [`Engine::awaits_answers`]).
const WAIT: u32 = 7;

/// How to replay.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Addresses that stand for this host; empty when they are not known: then what no flow explains counts as inbound. None of them is
    /// banned, as live.
    pub own: AddressSet,
    /// Addresses beside those of the policy that nothing may ban.
    pub protected: AddressSet,
    /// Give an event for each packet, whatever `drops_per_second` says.
    pub every_event: bool,
}

/// What a replay came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Sums.
    pub totals: Totals,
    /// Matches of each rule, by place.
    pub rule_hits: Vec<u64>,
    /// Bans in force after the last packet, by prefix.
    pub bans: Vec<Ban>,
    /// First and last time in the capture; `None` when it is empty.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Frames of link layers that are not read; each counts as a packet that is not IP.
    pub unread_links: u64,
    /// What the capture lacks.
    pub losses: Losses,
}

/// Runs a capture through the engine. `sink` gets each event in order, with how far the source is
/// ([`Source::progress`]) when it changes by a tick of capture time.
///
/// # Errors
///
/// When the source cannot go on. What was sunk until then stands.
pub fn replay<S: Source + ?Sized>(
    source: &mut S,
    plan: Arc<Plan>,
    options: Options,
    sink: &mut impl Sink,
) -> Result<Outcome, SourceError> {
    let mut plan = Arc::unwrap_or_clone(plan);
    // Of what a capture holds nobody makes more.
    plan.log.flows_per_second = u32::MAX;
    if options.every_event {
        plan.log.drops_per_second = u32::MAX;
    }
    let plan = Arc::new(plan);
    let mut engine = Engine::new(Setup {
        plan,
        protected: options.protected.union(&options.own),
        own: options.own,
        seed: SEED,
    });
    // What was captured has passed, whatever this policy says of it.
    engine.only_observe(true);
    let mut span: Option<(Timestamp, Timestamp)> = None;
    let mut last_tick = Timestamp::default();
    let mut unread_links = 0;
    while let Some(captured) = source.next()? {
        let now = captured.timestamp;
        span = Some(match span {
            None => (now, now),
            Some((first, last)) => (first.min(now), last.max(now)),
        });
        let arrival = Arrival {
            now,
            direction: captured.direction,
            interface: captured.interface,
            wire_len: u32::try_from(captured.wire_len).unwrap_or(u32::MAX),
            known: None,
        };
        let frame = match captured.link {
            Some(link) => wire::parse(link, captured.bytes, captured.wire_len),
            None => {
                unread_links += 1;
                Ok(Frame::NotIp {
                    ethertype: 0,
                    vlan: Vlan::NONE,
                })
            }
        };
        // What was due before the packet comes before it.
        if now.since(last_tick) > TICK {
            let_time_pass(&mut engine, &mut last_tick, Some(now), sink);
        }
        engine.handle(&arrival, frame);
        // Time in a capture may run backwards, and one wild timestamp must not stop the clock.
        if now < last_tick || now.since(last_tick) >= TICK {
            last_tick = now;
            engine.advance(now);
            sink.progress(source.progress());
        }
        hand_over(&mut engine, sink);
    }
    let_time_pass(&mut engine, &mut last_tick, None, sink);
    let last = span.map_or(Timestamp::default(), |(_, last)| last);
    while engine.finish(last.max(last_tick)) {
        hand_over(&mut engine, sink);
    }
    hand_over(&mut engine, sink);
    let mut bans: Vec<Ban> = engine.bans().cloned().collect();
    bans.sort_by_key(|ban| ban.prefix);
    Ok(Outcome {
        totals: *engine.totals(),
        rule_hits: engine.rule_hits().to_vec(),
        bans,
        span,
        unread_links,
        losses: source.losses(),
    })
}

/// Has the clock go on tick by tick while somebody waits for an answer, until `end` or, on a link on which nothing comes any more,
/// until nobody does: as it goes on where packets are watched live.
fn let_time_pass(
    engine: &mut Engine,
    last_tick: &mut Timestamp,
    end: Option<Timestamp>,
    sink: &mut impl Sink,
) {
    for _ in 0..WAIT {
        let next = last_tick.after(TICK);
        if end.is_some_and(|end| next > end) || !engine.awaits_answers() {
            return;
        }
        *last_tick = next;
        engine.advance(next);
        hand_over(engine, sink);
    }
}

fn hand_over(engine: &mut Engine, sink: &mut impl Sink) {
    while let Some(event) = engine.poll_event() {
        sink.event(event);
    }
}

/// Where the events of a replay go.
pub trait Sink {
    /// Takes an event.
    fn event(&mut self, event: Event);

    /// Hears how many bytes of how many are read, some times a second of capture time.
    fn progress(&mut self, progress: Option<(u64, u64)>) {
        let _ = progress;
    }
}

/// Keeps the events.
impl Sink for Vec<Event> {
    fn event(&mut self, event: Event) {
        self.push(event);
    }
}
