//! The same conversations in both worlds: the engine's, and the kernel's.

use std::fmt;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use engine::{Arrival, BanOrigin, Decision, Engine, EventBody, Invalid, Reason, Setup, Verdict};
use ipnet::IpNet;
use kernel::datapath::{Counters, Datapath as _, Queues, mark};
use kernel::nfqueue::{Batch, QueuedPacket};
use kernel::nft::Nft;
use policy::{AddressSet, Plan, Timestamp};
use portcullis_daemon::pump::judge::{Judge, for_kernel};
use wire::{Frame, Link, Transport};

use crate::conversation::{Act, Conversation, Side, Step};
use crate::datagram::Body;
use crate::policies;
use crate::stage::{Fate, OWN, Stage};

/// A policy, and the conversations that are held under it.
pub(crate) struct Round<'a> {
    pub(crate) text: &'a str,
    pub(crate) conversations: &'a [Conversation],
    pub(crate) windows: Windows,
}

/// What the kernel does with segments that are outside the window, of which the engine knows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Windows {
    /// It lets them pass.
    Pass,
    /// It drops them.
    Count,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) packets: u64,
    pub(crate) passed: u64,
    pub(crate) refused: u64,
    pub(crate) told: u64,
    /// Handed up.
    pub(crate) judged: u64,
    /// Questions on flows that the side that is asked has begun.
    pub(crate) backwards: u64,
    /// Refused by the kernel alone, for their sequence numbers.
    pub(crate) outside_window: u64,
    /// Behind a reset of a connection that was picked up under way, or of which a ban hid one side.
    pub(crate) behind_reset: u64,
    /// Of a connection that did not begin by a SYN that was handed up, under the ports of another.
    pub(crate) unopened: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.passed += other.passed;
        self.refused += other.refused;
        self.told += other.told;
        self.judged += other.judged;
        self.backwards += other.backwards;
        self.outside_window += other.outside_window;
        self.behind_reset += other.behind_reset;
        self.unopened += other.unopened;
    }
}

/// Where the two worlds part.
struct Parting {
    /// The how manieth packet of the round.
    place: usize,
    conversation: usize,
    step: usize,
    decision: Decision,
    fate: Fate,
    /// Where it was looked at: what the kernel and the engine knew of the flow behind each step, and which counters moved.
    known: Vec<String>,
    moved: String,
}

/// Where to look closer: at a packet, and all of its conversation before it.
#[derive(Clone, Copy)]
struct Closer {
    place: usize,
    conversation: usize,
}

/// A difference, told with all that it takes to understand it.
pub(crate) struct Difference(String);

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The time in both worlds. No rate of the policies gives anything back while a test runs.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp::from_nanos(since.as_nanos() as u64)
}

pub(crate) fn setup(plan: &Plan) -> Setup {
    let own: AddressSet = OWN
        .iter()
        .map(|text| text.parse::<std::net::IpAddr>().unwrap())
        .collect();
    Setup {
        plan: Arc::new(plan.clone()),
        own,
        protected: AddressSet::default(),
        seed: 1,
    }
}

/// The order in which packets are sent: the first of every conversation, the second of every one, and so on.
pub(crate) fn in_turns(conversations: &[Conversation]) -> Vec<(usize, usize)> {
    let longest = conversations
        .iter()
        .map(|one| one.steps.len())
        .max()
        .unwrap_or(0);
    (0..longest)
        .flat_map(|step| {
            conversations
                .iter()
                .enumerate()
                .filter(move |(_, one)| step < one.steps.len())
                .map(move |(number, _)| (number, step))
        })
        .collect()
}

impl Round<'_> {
    pub(crate) fn play(&self, stage: &mut Stage) -> Result<Tally, Difference> {
        self.run(stage, None).map_err(|first| {
            // Again, to see by which of its rules the kernel does it.
            let closer = Closer {
                place: first.place,
                conversation: first.conversation,
            };
            let parting = match self.run(stage, Some(closer)) {
                Err(again) => again,
                Ok(_) => first,
            };
            self.tell(stage, &parting)
        })
    }

    fn run(&self, stage: &mut Stage, closer: Option<Closer>) -> Result<Tally, Box<Parting>> {
        let plan = policies::plan(self.text);
        let mut engine = Engine::new(setup(&plan));
        let mut worker = Worker::new(&plan, self.conversations.len());
        let queues = plan.looks_inside().then_some(Queues { first: 0, count: 1 });
        stage.apply(&plan, queues, &[]);
        let mut tally = Tally::default();
        let mut parted = vec![false; self.conversations.len()];
        let mut known = Vec::new();
        let mut began: Vec<Option<Side>> = vec![None; self.conversations.len()];
        let mut doubtful = vec![Doubtful::default(); self.conversations.len()];
        for (place, (number, step)) in in_turns(self.conversations).into_iter().enumerate() {
            let conversation = &self.conversations[number];
            let tag = place as u16 + 1;
            let this = &conversation.steps[step];
            if let Some(act) = this.act {
                perform(act, &mut engine, stage);
            }
            if parted[number] {
                continue;
            }
            let decision = decide(&mut engine, conversation, this, tag);
            let before =
                (closer.is_some_and(|closer| closer.place == place)).then(|| stage.with(counters));
            if closer.is_some_and(|closer| closer.conversation == number) {
                stage.complaints();
            }
            worker.decided = None;
            worker.conversation = number;
            let (from, to) = (
                conversation.place(this.from),
                conversation.place(this.from.other()),
            );
            for packet in this.datagram.packets(tag) {
                stage.send(from, &packet);
            }
            let mut fate = stage.fate(tag, from, to);
            while worker.serve(stage) {
                fate.add(stage.fate(tag, from, to));
            }
            if closer.is_some_and(|closer| closer.conversation == number) {
                let judged = worker.decided.map_or_else(String::new, |decision| {
                    format!(
                        ", judged {} for {:?} ({:?})",
                        decision.verdict, decision.reason, decision.inspect
                    )
                });
                let of_both = known_of(&engine, stage, conversation);
                known.push(format!(
                    "{}: {:?}{judged} {of_both}",
                    decision.verdict, decision.reason
                ));
            }
            tally.packets += 1;
            if fate.arrived > 0 {
                began[number].get_or_insert(this.from);
            }
            doubtful[number].note(&this.datagram.body, decision.reason, fate.arrived > 0);
            if agree(conversation, this, &decision, fate) {
                tally.passed += u64::from(fate.arrived);
                tally.refused += u64::from(fate.arrived == 0);
                tally.told += u64::from(fate.told);
                continue;
            }
            let is_asked_backwards =
                is_asked_backwards(began[number], this, &decision, worker.decided.as_ref());
            let handed_up = worker.handed_up[number];
            let exception = if self.windows == Windows::Count
                && this.is_outside_window
                && decision.reason == Reason::Established
                && fate == Fate::default()
            {
                Some(&mut tally.outside_window)
            } else if is_asked_backwards {
                Some(&mut tally.backwards)
            } else if handed_up.is_unopened
                || handed_up.is_unanswered && is_ambiguous(worker.decided.as_ref())
                || doubtful[number].is_begin_dropped
                || handed_up.is_answer_first && doubtful[number].may_be_picked_up()
            {
                Some(&mut tally.unopened)
            } else if doubtful[number].is_behind_reset() {
                Some(&mut tally.behind_reset)
            } else {
                None
            };
            if let Some(count) = exception {
                *count += 1;
                parted[number] = true;
                if self.text.lines().any(|line| line.starts_with("limit")) {
                    // A rate may have counted it on one side alone.
                    break;
                }
                continue;
            }
            let moved =
                before.map_or_else(String::new, |before| moved(&before, &stage.with(counters)));
            return Err(Box::new(Parting {
                place,
                conversation: number,
                step,
                decision,
                fate,
                known,
                moved,
            }));
        }
        tally.judged = worker.judged;
        Ok(tally)
    }

    fn tell(&self, stage: &Stage, parting: &Parting) -> Difference {
        let conversation = &self.conversations[parting.conversation];
        let this = &conversation.steps[parting.step];
        let mut text = format!(
            "the worlds part\nengine: {} because {:?}\nkernel: {:?}, counted by {}\n",
            parting.decision.verdict, parting.decision.reason, parting.fate, parting.moved
        );
        text += &format!(
            "{:?} {:?}, interface {:?}\n",
            conversation.places,
            conversation.hosts,
            conversation.way(this.from)
        );
        for (place, step) in conversation.steps[..=parting.step].iter().enumerate() {
            if let Some(act) = step.act {
                text += &format!("  {act:?}\n");
            }
            let known = parting.known.get(place).map_or("", String::as_str);
            text += &format!("  {} {known}\n", step.what);
        }
        text += &format!("packets {:02x?}\n{}", this.datagram.packets(1), self.text);
        if let Ok(path) = std::env::var("PORTCULLIS_DUMP") {
            std::fs::write(path, stage.describe()).unwrap();
        }
        Difference(text)
    }
}

/// A connection that is reset while the kernel does not know the window: `docs/decisions/0017`.
#[derive(Clone, Copy, Debug, Default)]
struct Doubtful {
    /// Whether what passed first was no SYN, as the rules had refused that.
    picked_up: Option<bool>,
    /// A rate dropped a SYN or SYN+ACK behind connection tracking, which has seen it: nobody who has not got it answers it.
    is_begin_dropped: bool,
    /// A rule has banned one side.
    is_banned: bool,
    was_reset: bool,
}

impl Doubtful {
    fn note(&mut self, body: &Body, reason: Reason, has_passed: bool) {
        self.is_banned |= matches!(reason, Reason::Banned(_));
        if let Body::Tcp(segment) = body {
            if has_passed {
                self.picked_up.get_or_insert(segment.flags & 2 == 0);
            }
            self.was_reset |= segment.flags & 4 != 0;
            let is_begin = segment.flags & 2 != 0;
            self.is_begin_dropped |= is_begin && matches!(reason, Reason::Limited(_));
        }
    }

    /// What is known to the kernel may have begun by something else than a SYN.
    fn may_be_picked_up(self) -> bool {
        self.was_reset || self.picked_up == Some(true)
    }

    fn is_behind_reset(self) -> bool {
        self.was_reset && (self.is_banned || self.picked_up == Some(true))
    }
}

/// Whether the daemon let a segment not pass as it may be of another connection.
fn is_ambiguous(decided: Option<&Decision>) -> bool {
    decided.is_some_and(|decided| decided.reason == Reason::Invalid(Invalid::StreamAmbiguous))
}

/// What was handed up of a conversation.
#[derive(Clone, Copy, Debug, Default)]
struct HandedUp {
    /// A SYN, or what had passed.
    begun: bool,
    /// Of a connection that is new to the kernel came something else than a SYN before its SYN was handed up, if there was one; and of
    /// one before it something had been: nobody can tell it from more of that. `docs/decisions/0019` says so.
    is_unopened: bool,
    /// A SYN behind what had passed was not answered yet: what comes without SYN may be more of that, and `docs/decisions/0019` says so.
    is_unanswered: bool,
    /// First came a SYN+ACK: as of any connection of which answers alone are handed up.
    is_answer_first: bool,
}

impl HandedUp {
    fn note(&mut self, packet: &QueuedPacket<'_>, verdict: Verdict) {
        let frame = wire::parse(Link::RawIp, packet.payload, packet.full_len);
        if let Ok(Frame::Ip(parsed)) = frame
            && let Transport::Tcp(segment) = parsed.transport()
        {
            let is_first = packet.mark & mark::FIRST != 0;
            let flags = segment.flags();
            self.is_unopened |= is_first && !flags.syn() && self.begun;
            let answers = flags.ack() && verdict == Verdict::Allow;
            if flags.syn() && (answers || !flags.ack()) {
                self.is_unanswered = self.begun && !flags.ack();
            }
            self.is_answer_first |= is_first && flags.syn() && flags.ack();
            self.begun |= flags.syn() || verdict == Verdict::Allow;
        }
    }
}

/// What the daemon does with packets that the kernel hands up.
struct Worker {
    judge: Judge,
    batch: Batch,
    /// The last decision.
    decided: Option<Decision>,
    judged: u64,
    /// Which conversation goes on.
    conversation: usize,
    handed_up: Vec<HandedUp>,
}

impl Worker {
    fn new(plan: &Plan, conversations: usize) -> Self {
        Self {
            judge: Judge::new(setup(plan)),
            batch: Batch::default(),
            decided: None,
            judged: 0,
            conversation: 0,
            handed_up: vec![HandedUp::default(); conversations],
        }
    }

    /// Judges what waits; whether anything did.
    fn serve(&mut self, stage: &mut Stage) -> bool {
        let socket = stage.queue.as_fd().try_clone_to_owned().unwrap();
        let (judge, decided) = (&mut self.judge, &mut self.decided);
        let handed_up = &mut self.handed_up[self.conversation];
        let served = stage
            .queue
            .serve(&mut self.batch, Duration::ZERO, |packet| {
                let decision = judge.judge(packet, socket.as_fd());
                *decided = Some(decision);
                handed_up.note(packet, decision.verdict);
                for_kernel(packet.mark, decision.verdict, decision.inspect)
            });
        let served = served.unwrap();
        self.judged += served as u64;
        while let Some(event) = self.judge.engine.poll_event() {
            if let EventBody::Ban(ban) = event.body {
                // As the guard does it.
                self.judge.engine.unban(now(), ban.prefix);
                let hour = Some(Duration::from_secs(3_600));
                stage.with(|nft| nft.ban(ban.prefix, hour)).unwrap();
            }
        }
        served > 0
    }
}

pub(crate) fn perform(act: Act, engine: &mut Engine, stage: &mut Stage) {
    match act {
        Act::Ban(prefix) => {
            let hour = Some(Duration::from_secs(3_600));
            let ban = engine.ban(now(), prefix, hour, BanOrigin::Manual, String::new());
            if let Ok(ban) = ban {
                stage.with(|nft| nft.ban(ban.prefix, hour)).unwrap();
            }
        }
        Act::Unban(prefix) => unban(prefix, engine, stage),
    }
}

fn unban(prefix: IpNet, engine: &mut Engine, stage: &mut Stage) {
    engine.unban(now(), prefix);
    stage.with(|nft| nft.unban(prefix)).unwrap();
}

/// What the engine says of a datagram: of the last of its fragments.
pub(crate) fn decide(
    engine: &mut Engine,
    conversation: &Conversation,
    step: &Step,
    tag: u16,
) -> Decision {
    let (direction, interface) = conversation.way(step.from);
    let mut decided = None;
    for packet in step.datagram.packets(tag) {
        let arrival = Arrival {
            now: now(),
            direction: Some(direction),
            interface: Some(interface),
            wire_len: packet.len() as u32,
            known: None,
        };
        let decision = engine.handle(&arrival, wire::parse(Link::RawIp, &packet, packet.len()));
        while engine.poll_event().is_some() {}
        if decided.is_none() || !matches!(decision.reason, Reason::Fragment(_)) {
            decided = Some(decision);
        }
    }
    decided.unwrap()
}

/// Whether a question goes to the side that began the flow, or was taken to do so. `docs/decisions/0017` says why engine and
/// worker may differ then.
fn is_asked_backwards(
    began: Option<Side>,
    step: &Step,
    decision: &Decision,
    judged: Option<&Decision>,
) -> bool {
    let is_about_names = |decision: &Decision| matches!(decision.reason, Reason::Dns(_));
    step.from == Side::Client
        && began == Some(Side::Server)
        && (is_about_names(decision) || judged.is_some_and(is_about_names))
}

/// Whether a packet fared as was decided.
pub(crate) fn agree(
    conversation: &Conversation,
    step: &Step,
    decision: &Decision,
    fate: Fate,
) -> bool {
    let expected = Fate {
        arrived: u32::from(decision.verdict == Verdict::Allow),
        told: 0,
        strange: 0,
    };
    if decision.verdict != Verdict::Reject {
        return fate == expected;
    }
    let told = Fate {
        told: 1,
        ..expected
    };
    fate == told || fate == expected && !must_be_told(conversation, step)
}

/// Whether a reject of this packet must be answered.
fn must_be_told(conversation: &Conversation, step: &Step) -> bool {
    let is_reset = |body: &Body| matches!(body, Body::Tcp(segment) if segment.flags & 4 != 0);
    conversation.way(step.from).0 != policy::Direction::Out
        && step.datagram.cut.is_none()
        && matches!(step.datagram.body, Body::Tcp(_) | Body::Udp { .. })
        && !is_reset(&step.datagram.body)
}

/// What the engine, and the kernel, know of the flows between two hosts.
fn known_of(engine: &Engine, stage: &mut Stage, conversation: &Conversation) -> String {
    let [one, other] = conversation.hosts;
    let kernel = stage.firewall.sh(&format!(
        "for family in ipv4 ipv6; do conntrack -L -f $family 2>/dev/null; done | grep -F '={one} ' | grep -F '={other} ' | cut -c1-40; true"
    ));
    let engine: Vec<_> = engine
        .flows()
        .filter(|(tuple, _, _)| conversation.hosts.contains(&tuple.source))
        .filter(|(tuple, _, _)| conversation.hosts.contains(&tuple.destination))
        .map(|(_, _, record)| record.tcp_state.unwrap_or("-"))
        .collect();
    let complaints = stage.complaints();
    format!(
        "[engine {engine:?}, kernel {:?} {complaints}]",
        kernel.unwrap_or_default()
    )
}

fn counters(nft: &mut Nft) -> Counters {
    nft.counters().unwrap()
}

/// The counters that moved.
fn moved(before: &Counters, after: &Counters) -> String {
    let causes: Vec<String> = after
        .causes
        .iter()
        .filter(|(cause, count)| count.packets != before.of(**cause).packets)
        .map(|(cause, _)| format!("{cause:?}"))
        .collect();
    causes.join(", ")
}
