//! The engine: one packet in, one decision out, and events to be polled.
//!
//! The order of [`Engine::handle`] is the order of the policy language: bans, feeds, impossible packets, flow state, detectors
//! that limit, rules, essentials, the default.

mod decide;
mod decided;
mod dns;
mod doubt;
mod gate;
mod hypothetical;
mod offence;
mod record;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use policy::{AddressSet, Direction, DnsAnswer, DnsFilter, Plan, Rule, RuleId, Timestamp};
use wire::{FiveTuple, Frame, Malformed, Packet, dns::Name};

use crate::ban::Ban;
use crate::ban_table::BanTable;
use crate::bucket::{Bucket, Shape};
use crate::detect::Detectors;
use crate::event::{Event, FlowEnd, FlowRecord, Totals};
use crate::facts::Facts;
use crate::flow::{DeniedFlows, Ended, FlowSlot, FlowTable};
use crate::flow_budget::FlowBudget;
use crate::fragment::{GivenUp, Reassembler};
use crate::inspect::Inspector;
use crate::offender::Offenders;
use crate::resolved::Resolved;
use crate::rules::Rules;
use crate::verdict::{Reason, Verdict};

pub use watch::TrackedEnd;

/// What an engine is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What to execute.
    pub plan: Arc<Plan>,
    /// Addresses of this host; empty when they are not known, as in most replays.
    pub own: AddressSet,
    /// Addresses found to need protection: own, gateways, resolvers. The policy's own list is added.
    pub protected: AddressSet,
    /// Seed of every hash: any number that senders cannot know in live use, a fixed one in replay.
    pub seed: u64,
}

/// How a packet came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// When.
    pub now: Timestamp,
    /// Which way it goes. `None`: told by its flow; else by own addresses where they are known; else [`Direction::In`].
    pub direction: Option<Direction>,
    /// Where it came in, or leaves for [`Direction::Out`].
    pub interface: Option<&'a str>,
    /// Length of the frame on the wire, in bytes.
    pub wire_len: u32,
    /// What the kernel's connection tracking has said of it already, for packets that the kernel hands up.
    pub known: Option<Known>,
}

/// What the kernel said of a packet that it hands up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What connection tracking says of its flow.
    pub flow: Tracked,
    /// No packet of its flow was handed up before, so whatever is known of its ports is about another flow.
    pub is_first: bool,
    /// The rules have accepted it: a question to a name server, of which only `[dns]` is still to be asked, or a SYN under way of a
    /// connection that is followed.
    pub is_accepted: bool,
}

/// What connection tracking says of a packet's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// The packet begins it, or nobody has answered it yet.
    New,
    /// It was answered, and the packet comes from the side that began it.
    Established,
    /// The packet comes from the other side.
    Reply {
        /// TCP only: the handshake is over, as the side that began it has acknowledged an answer.
        is_open: bool,
    },
}

impl Known {
    /// Not the first packet that is handed up of its flow, and one that a content rule has to see.
    #[must_use]
    pub const fn again(flow: Tracked) -> Self {
        Self {
            flow,
            is_first: false,
            is_accepted: false,
        }
    }
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Let it pass or not.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Which way it went, given or inferred.
    pub direction: Direction,
    /// Whether its flow still has to be seen.
    pub inspect: Inspect,
    /// What is to be answered to it in its receiver's place, where it asks for a blocked name.
    pub reply: Option<DnsAnswer>,
}

/// Whether content rules still want to see a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspect {
    /// There was never anything to see.
    None,
    /// There is more to see.
    More,
    /// There is more to see, as another connection begins with this packet in the same flow: whatever was settled, is not.
    Anew,
    /// What was to be seen was seen: the kernel may have the flow for good.
    Settled,
}

/// The reference interpreter of one plan.
#[derive(Debug)]
pub struct Engine {
    plan: Arc<Plan>,
    rules: Rules,
    inspector: Inspector,
    detectors: Detectors,
    resolved: Resolved,
    flows: FlowTable,
    denied_flows: DeniedFlows,
    /// See [`Engine::only_observe`].
    observes: bool,
    fragments: Reassembler,
    bans: BanTable,
    offenders: Offenders,
    refusals: gate::Refusals,
    doubts: doubt::Doubts,
    own: AddressSet,
    discovered: AddressSet,
    protected: AddressSet,
    totals: Totals,
    hits: Vec<u64>,
    events: VecDeque<Event>,
    drop_budget: Bucket,
    /// For what detectors tell, so that a flood of drops does not hide why.
    alert_budget: Bucket,
    drop_shape: Shape,
    flow_budget: FlowBudget,
    unrecorded_packets: u64,
    ended: Ended,
    given_up: Vec<GivenUp>,
    /// Scratch: flows that nobody answers.
    silent: Vec<FlowSlot>,
    /// Scratch: the name that was asked for.
    asked: Box<Name>,
    seed: u64,
}

fn drop_shape(plan: &Plan) -> Shape {
    let rate =
        std::num::NonZeroU32::new(plan.log.drops_per_second).unwrap_or(std::num::NonZeroU32::MIN);
    Shape::new(rate, Duration::from_secs(1), rate)
}

impl Engine {
    /// An engine without flows and bans.
    pub fn new(setup: Setup) -> Self {
        let Setup {
            plan,
            own,
            protected: discovered,
            seed,
        } = setup;
        let shape = drop_shape(&plan);
        let protected = plan.protected(&discovered);
        let mut detectors = Detectors::new(&plan, seed);
        detectors.set_protected(&protected);
        Self {
            rules: Rules::new(&plan, seed),
            inspector: Inspector::new(&plan),
            detectors,
            resolved: Resolved::new(seed),
            flows: FlowTable::new(plan.limits.flows, seed),
            denied_flows: DeniedFlows::default(),
            observes: false,
            fragments: Reassembler::new(plan.limits.fragment_bytes, seed),
            bans: BanTable::new(plan.ban.capacity, seed),
            offenders: Offenders::new(plan.ban.capacity),
            refusals: gate::Refusals::default(),
            doubts: doubt::Doubts::new(seed),
            protected,
            own,
            discovered,
            totals: Totals::default(),
            hits: vec![0; plan.rules.len()],
            events: VecDeque::new(),
            drop_budget: Bucket::full(&shape, Timestamp::default()),
            alert_budget: Bucket::full(&shape, Timestamp::default()),
            drop_shape: shape,
            flow_budget: FlowBudget::new(&plan.log),
            unrecorded_packets: 0,
            ended: Vec::new(),
            given_up: Vec::new(),
            silent: Vec::new(),
            asked: Box::default(),
            seed,
            plan,
        }
    }

    /// Whether the packets that are handed in go on whatever is decided, as they do while observing and in captures. Then what comes
    /// of a flow that was denied and that goes on all the same gets the verdict of its first packet, and is counted with it, and among
    /// [`Totals::sequels`]: it is neither told nor held against anybody, as it would not be there if the verdict had been done.
    /// Where another firewall has dropped what is denied here, nothing goes on, and each packet is judged. Bans that nobody asked for
    /// only would be, until [`Engine::take_would_be`] takes them out. Not so at first.
    pub fn only_observe(&mut self, is_on: bool) {
        if std::mem::replace(&mut self.observes, is_on) != is_on {
            // Who was banned in appearance only is to be banned in earnest.
            self.detectors = Detectors::new(&self.plan, self.seed);
            self.detectors.set_protected(&self.protected);
        }
        self.denied_flows
            .remember(is_on.then_some(&self.plan.limits), self.seed);
    }

    /// Decides a frame, counts it and feeds the detectors with it.
    pub fn handle(
        &mut self,
        arrival: &Arrival<'_>,
        frame: Result<Frame<'_>, Malformed>,
    ) -> Decision {
        self.totals.packets += 1;
        self.totals.bytes += u64::from(arrival.wire_len);
        self.expire_bans(arrival.now);
        let decision = match frame {
            Ok(Frame::NotIp { .. }) => {
                let direction = arrival.direction.unwrap_or(Direction::In);
                self.totals.allowed += 1;
                Decision {
                    verdict: Verdict::Allow,
                    reason: Reason::NotIp,
                    direction,
                    inspect: Inspect::None,
                    reply: None,
                }
            }
            Ok(Frame::Ip(packet)) if packet.fragment().is_some() => {
                self.handle_fragment(arrival, &packet)
            }
            Ok(Frame::Ip(packet)) => self.handle_packet(arrival, &packet, 1),
            Err(malformed) => self.handle_malformed(arrival, malformed),
        };
        self.record_ended(Some(arrival.now));
        self.relieve();
        decision
    }

    /// Lets time pass when no packet comes: bans end, fragments are given up, and of the flows, which are looked at in turn once a
    /// second, those end that are over. To be called several times a second.
    pub fn advance(&mut self, now: Timestamp) {
        self.expire_bans(now);
        let mut silent = std::mem::take(&mut self.silent);
        self.flows.walk(now, &mut silent, &mut self.ended);
        self.watch_silence(&mut silent, now);
        let mut given_up = std::mem::take(&mut self.given_up);
        self.fragments.expire(now, &mut given_up);
        self.settle_given_up(&mut given_up, now);
        self.record_ended(Some(now));
    }

    /// Whether a flow is open that nobody has answered, and of which that will be held against its source once it has waited for
    /// long enough: within six seconds, where [`Engine::advance`] is called each second.
    pub fn awaits_answers(&self) -> bool {
        self.flows.awaits_answers()
    }

    /// The packets are over: what is held is given up, and some thousand flows end. Whether there were any: to be called until there are
    /// none, and the events drained each time, as all flows, their ends and the events of them at once would be three times the memory.
    #[must_use = "flows are left until it says that there were none"]
    pub fn finish(&mut self, now: Timestamp) -> bool {
        let mut given_up = std::mem::take(&mut self.given_up);
        self.fragments.finish(&mut given_up);
        self.settle_given_up(&mut given_up, now);
        // Of all flows, before the first of them ends: the calls behind would look at every slot for what was told.
        if !self.flows.is_finishing() {
            let mut silent = std::mem::take(&mut self.silent);
            self.flows.silent(now, &mut silent);
            self.watch_silence(&mut silent, now);
        }
        let any = self.flows.finish(&mut self.ended);
        self.record_ended(None);
        any
    }

    /// The next event, oldest first. To be drained after each call that may make some.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sums since the begin.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Events about single packets that were over the policy's share for each second, and so were not made.
    pub fn unrecorded_packets(&self) -> u64 {
        self.unrecorded_packets
    }

    /// Whether the end of a flow is to be recorded now, as the policy's share for each second is not used up. `was_served` says whether
    /// it came to something: for TCP that its handshake was completed, else that it was answered. For flows that the kernel tracked;
    /// those of this engine have asked.
    pub fn may_record_flow(&mut self, was_served: bool, now: Timestamp) -> bool {
        self.flow_budget.take(was_served, now)
    }

    /// Ends of flows that were over the policy's share for each second, and so are not on record.
    pub fn unrecorded_flows(&self) -> u64 {
        self.flow_budget.refused()
    }

    /// Matches of each rule, by [`RuleId`], since the plan was loaded.
    pub fn rule_hits(&self) -> &[u64] {
        &self.hits
    }

    /// Counts matches anew.
    pub fn forget_hits(&mut self) {
        self.hits.fill(0);
    }

    /// The plan in force.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Puts another plan in force. Flows and bans stay, and so does what detectors have counted, but for those that are set otherwise, for packet rates, and
    /// where the plan enforces and the one before did not, or the other way round. Rates begin anew.
    pub fn reload(&mut self, plan: Arc<Plan>) {
        self.rules = Rules::new(&plan, self.seed);
        self.inspector = Inspector::new(&plan);
        self.denied_flows.forget(&plan.limits, self.seed);
        let before = std::mem::replace(&mut self.detectors, Detectors::new(&plan, self.seed));
        if plan.mode == self.plan.mode {
            self.detectors.carry_on(before, &self.plan, &plan);
        }
        self.bans.set_capacity(plan.ban.capacity);
        self.offenders.set_capacity(plan.ban.capacity);
        self.protected = plan.protected(&self.discovered);
        self.detectors.set_protected(&self.protected);
        self.hits = vec![0; plan.rules.len()];
        self.drop_shape = drop_shape(&plan);
        self.flow_budget.change(&plan.log);
        for (slot, flow) in self.flows.iter_mut() {
            // Rule numbers mean other rules now. What was allowed stays allowed, and what new content rules ask is asked.
            if flow.rule().is_some() {
                flow.reason = Reason::Established;
            }
            let before = flow.inspection.take();
            flow.inspection =
                self.inspector
                    .begin(&facts_of(flow.tuple, flow.direction), &plan, None);
            if let (Some(now), Some(before)) = (&mut flow.inspection, before) {
                now.carry_on(*before, |rule| renumbered(&self.plan, rule, &plan));
                self.inspector
                    .memory
                    .hold(now.ticket, now.holding(slot, true));
            }
            // Where the messages of a stream begin is still known.
            flow.questions = flow.questions.take().filter(|_| plan.dns.is_some());
            if let Some(questions) = &mut flow.questions {
                let memory = &mut self.inspector.memory;
                questions.ticket = memory.ticket();
                memory.hold(questions.ticket, questions.holding(slot, true));
            }
        }
        self.plan = plan;
    }

    /// Puts a plan in force that is the present one but for whom it protects: nothing that was counted begins anew.
    pub fn protect(&mut self, plan: Arc<Plan>) {
        self.protected = plan.protected(&self.discovered);
        self.detectors.set_protected(&self.protected);
        self.plan = plan;
    }

    /// Other addresses were found: this host's own, and those that need protection. Bans that they contradict are lifted.
    pub fn set_addresses(&mut self, own: AddressSet, protected: AddressSet, now: Timestamp) {
        self.own = own;
        self.protected = self.plan.protected(&protected);
        self.detectors.set_protected(&self.protected);
        self.discovered = protected;
        let contradicted: Vec<IpNet> = self
            .bans
            .iter()
            .map(|ban| ban.prefix)
            .filter(|&prefix| self.protected.first_in(prefix).is_some())
            .collect();
        for prefix in contradicted {
            self.unban(now, prefix);
        }
    }

    /// The bans in force, in no particular order.
    pub fn bans(&self) -> impl Iterator<Item = &Ban> {
        self.bans.iter()
    }

    /// The ban that covers an address.
    pub fn ban_of(&self, address: std::net::IpAddr, now: Timestamp) -> Option<&Ban> {
        self.bans.covering(policy::address_key(address), now)
    }

    /// Every address that no ban or feed may drop.
    pub fn protected(&self) -> &AddressSet {
        &self.protected
    }

    /// The flows as they stand: endpoints of the first packet, its direction, its counters.
    pub fn flows(&self) -> impl Iterator<Item = (FiveTuple, Direction, FlowRecord)> {
        self.flows.iter().map(|flow| {
            let mut record = flow.record(None::<FlowEnd>);
            record.name = self.name_of(&flow.tuple, record.start);
            (flow.tuple, flow.direction, record)
        })
    }

    /// The name that the client of a flow had resolved to the address it went to, when it began then.
    pub fn name_of(&self, flow: &FiveTuple, began: Timestamp) -> Option<Arc<str>> {
        let [client, address] = [flow.source, flow.destination].map(policy::address_key);
        self.resolved.name(client, address, began)
    }

    /// A datagram that answers one of its receiver: remembers the addresses in it, if a name server sent it.
    #[inline]
    pub fn learn_answer(&mut self, packet: &Packet<'_>, now: Timestamp) {
        if packet.protocol() == policy::protocol::UDP {
            self.learn_datagram(packet, now);
        }
    }

    fn learn_datagram(&mut self, packet: &Packet<'_>, now: Timestamp) {
        let Some((source, _)) = packet.ports() else {
            return;
        };
        let is_dns = match &self.plan.dns {
            Some(filter) => filter.ports.matches(Some(source)),
            None => source == DnsFilter::PORT,
        };
        if is_dns {
            let client = policy::address_key(packet.destination());
            (self.resolved).learn(client, packet.payload(), &mut self.asked, now);
        }
    }

    /// The rule of a number, for those who render reasons.
    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.plan.rules.get(id.0 as usize)
    }
}

/// The header fields of a flow's first packet.
pub(crate) fn facts_of(tuple: FiveTuple, direction: Direction) -> Facts<'static> {
    Facts {
        direction,
        interface: None,
        source: policy::address_key(tuple.source),
        destination: policy::address_key(tuple.destination),
        protocol: tuple.protocol,
        source_port: tuple.source_port,
        port: tuple.destination_port,
        tcp_flags: None,
        sequence: None,
        icmp: None,
        hop_limit: 0,
        len: 0,
        payload: &[],
        payload_len: 0,
    }
}

/// The rule of another plan that asks for the same, or else is called the same, and stops what it matches as well.
fn renumbered(plan: &Plan, rule: RuleId, other: &Plan) -> Option<RuleId> {
    let known = plan.rules.get(rule.0 as usize)?;
    let stops = |rule: &&policy::Rule| rule.content.is_some() && rule.action == known.action;
    let mut same = other.rules.iter().filter(stops);
    let asks_the_same = same.clone().find(|rule| rule.content == known.content);
    asks_the_same
        .or_else(|| same.find(|rule| !rule.name.is_empty() && rule.name == known.name))
        .map(|rule| rule.id)
}
