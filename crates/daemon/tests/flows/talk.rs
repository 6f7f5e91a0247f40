//! Generated TCP connections: how they begin, what is said, how they end, and what goes wrong.

use policy::Direction;

use crate::conversation::{Conversation, Flavour, Side, alphabet, question};
use crate::datagram::{Body, Segment};
use crate::random::Random;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

pub(crate) struct Talk<'a> {
    conversation: &'a mut Conversation,
    ports: [u16; 2],
    /// What each side sends next.
    next: [u32; 2],
    /// What each side has said last that it expects.
    expected: [u32; 2],
    /// A handshake began the connection, and both have ended it: so the next one's numbers may lie anywhere.
    is_over: bool,
    /// All began with handshakes, and nothing was wild: connection tracking knows by now what either side expects. Else it
    /// takes its window to tell whether a reset is believed, and what follows one is not comparable.
    is_clean: bool,
    /// What the client has still to ask a name server.
    questions: Vec<u8>,
    /// Nothing more is said.
    is_done: bool,
    /// A SYN+ACK was sent again behind data: connection tracking knows no more of its sender's window than that (`tcp_in_window`).
    is_window_lost: bool,
    flavour: Flavour,
}

impl<'a> Talk<'a> {
    pub(crate) fn new(
        conversation: &'a mut Conversation,
        ports: [u16; 2],
        flavour: Flavour,
    ) -> Self {
        Self {
            conversation,
            ports,
            next: [0; 2],
            expected: [0; 2],
            is_over: false,
            is_clean: true,
            questions: Vec::new(),
            is_done: false,
            is_window_lost: false,
            flavour,
        }
    }

    pub(crate) fn generate(mut self, random: &mut Random) {
        self.next = [random.below(u32::MAX), random.below(u32::MAX)];
        if self.flavour.asks_names && self.ports[1] == 53 {
            for _ in 0..40 {
                let question = question(random);
                self.questions.extend((question.len() as u16).to_be_bytes());
                self.questions.extend(question);
            }
        }
        for life in 0..1 + random.below(3) {
            let kind = random.below(16);
            let opens = matches!(kind, 2 | 3 | 10..);
            let was_over = self.is_over;
            if life > 0 {
                // The same ports again, a good way on, as RFC 6528 and RFC 7323 have it; or as if nothing had ended.
                let is_over = self.is_over && opens;
                let far = if is_over { 100_000 } else { 1_000 };
                self.next = self.next.map(|next| next.wrapping_add(far));
                if is_over && random.once_in(4) {
                    self.next[0] = self.next[0].wrapping_sub(1 << 30);
                }
            }
            self.is_over = kind > 10;
            let goes_on = life > 0 && !(was_over && opens);
            // What a SYN under way carries has no place in a stream: `docs/decisions/0017`.
            if self.flavour.asks_names && kind == 2 && goes_on
                || matches!(kind, 5 | 8 | 9) && life > 0 && !self.is_clean
                || self.flavour.is_exact && goes_on
            {
                return;
            }
            self.begin(kind, random);
            self.is_done |= self.flavour.is_exact && !opens;
            self.is_clean &= kind == 2 || kind > 10;
            for _ in 0..random.below(6) {
                self.go_on(random);
            }
            self.end(random);
        }
    }

    fn begin(&mut self, kind: u32, random: &mut Random) {
        use Side::{Client, Server};
        match kind {
            0 => self.say(Client, SYN, 0),
            1 => {
                self.say(Client, SYN, 0);
                self.again(random);
                self.again(random);
            }
            2 => {
                // RFC 7413, but for its option: data in the SYN.
                self.say(Client, SYN, 20);
                self.say(Server, SYN | ACK, 0);
                self.say(Client, ACK, 0);
            }
            3 => {
                // Both at once (RFC 9293 §3.5).
                self.say(Client, SYN, 0);
                self.say(Server, SYN, 0);
                for who in [Client, Server] {
                    self.next[who as usize] = self.next[who as usize].wrapping_sub(1);
                    self.say(who, SYN | ACK, 0);
                }
                self.say(Client, ACK, 0);
            }
            4 => {
                // Picked up under way.
                let who = random.pick(&[Client, Server]);
                self.say(who, ACK | PSH, 30);
                self.say(who.other(), ACK, 0);
            }
            5 => self.say(random.pick(&[Client, Server]), RST, 0),
            6 => self.say(random.pick(&[Client, Server]), FIN | ACK, 0),
            7 => self.say(random.pick(&[Client, Server]), SYN | ACK, 0),
            8 => {
                self.say(Client, SYN, 0);
                self.say(Server, RST | ACK, 0);
            }
            9 => {
                self.say(Client, SYN, 0);
                self.say(Client, RST, 0);
            }
            10 => {
                self.say(Client, SYN, 0);
                self.say(Server, SYN | ACK, 0);
            }
            11 => {
                self.say(Client, SYN, 0);
                self.say(Server, SYN | ACK, 0);
                self.again(random);
                self.say(Client, ACK, 0);
            }
            _ => {
                self.say(Client, SYN, 0);
                self.say(Server, SYN | ACK, 0);
                self.say(Client, ACK, 0);
            }
        }
    }

    fn go_on(&mut self, random: &mut Random) {
        let who = random.pick(&[Side::Client, Side::Server]);
        let length = random.pick(&[1_usize, 10, 100, 600]);
        match random.below(12) {
            0 | 1 => self.again(random),
            2 => self.say(who, ACK, 0),
            // The other acknowledges at once.
            3..=7 => {
                self.say(who, ACK | PSH, length);
                self.say(who.other(), ACK, 0);
            }
            8 if self.flavour.is_wild => self.wild(random),
            9 if self.flavour.is_wild => self.wild(random),
            _ => self.say(who, ACK | PSH, length),
        }
    }

    /// Flags that have no place here, or numbers that no receiver would take.
    fn wild(&mut self, random: &mut Random) {
        self.is_over = false;
        self.is_clean = false;
        let who = random.pick(&[Side::Client, Side::Server]);
        let flags = random.pick(&[
            SYN,
            SYN,
            SYN | ACK,
            ACK,
            FIN | ACK,
            FIN,
            RST,
            RST | ACK,
            SYN | RST,
            0,
            PSH,
        ]);
        if self.is_done || flags & RST != 0 && !self.flavour.has_resets {
            return;
        }
        let before = self.next;
        let is_far = self.flavour.is_exact || random.once_in(2);
        if is_far {
            let far = random.pick(&[1 << 30, 200_000, u32::MAX - 200_000]);
            self.next[who as usize] = self.next[who as usize].wrapping_add(far);
        }
        let other = who.other() as usize;
        if is_far {
            // What comes with such a number is not believed either.
            self.next[other] = self.expected[who as usize];
        }
        self.say(who, flags, random.pick(&[0_usize, 0, 12]));
        self.next[other] = before[other];
        if let Some(step) = self.conversation.steps.last_mut() {
            step.is_outside_window = true;
            step.what.push_str(", wild");
        }
        if is_far || random.once_in(2) {
            self.next = before;
        }
        self.is_done = flags & RST != 0 || self.flavour.is_exact;
    }

    fn end(&mut self, random: &mut Random) {
        let first = random.pick(&[Side::Client, Side::Server]);
        let kind = random.below(6);
        self.is_over &= kind > 3;
        match kind {
            0 => {}
            1 if self.is_clean => self.say(first, RST, 0),
            2 if self.is_clean => self.say(first, RST | ACK, 0),
            3 => {
                self.say(first, FIN | ACK, 0);
                self.say(first.other(), ACK, 0);
            }
            _ => {
                self.say(first, FIN | ACK, 0);
                self.say(first.other(), FIN | ACK, 0);
                self.say(first, ACK, 0);
            }
        }
        if random.once_in(3) {
            // Too late.
            self.again(random);
        }
    }

    fn say(&mut self, from: Side, flags: u8, length: usize) {
        if self.is_done || flags & RST != 0 && !self.flavour.has_resets {
            return;
        }
        let (way, _) = self.conversation.way(from);
        let ports = match from {
            Side::Client => self.ports,
            Side::Server => [self.ports[1], self.ports[0]],
        };
        let sequence = self.next[from as usize];
        if flags & ACK != 0 {
            self.expected[from as usize] = self.next[from.other() as usize];
        }
        let segment = Segment {
            ports,
            sequence,
            acknowledged: if flags & ACK != 0 {
                self.next[from.other() as usize]
            } else {
                0
            },
            flags,
            options: if flags & SYN != 0 {
                vec![2, 4, 5, 0xb4]
            } else {
                Vec::new()
            },
            payload: self.payload(from, length),
        };
        let what = format!("{} {:?}: {}", describe(way), from, name(flags));
        let taken = length as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        self.next[from as usize] = sequence.wrapping_add(taken);
        self.conversation.push(
            from,
            Body::Tcp(segment),
            format!("{what} {sequence}+{length}"),
        );
        if let Some(step) = self.conversation.steps.last_mut() {
            step.is_outside_window = self.is_window_lost;
        }
    }

    fn payload(&mut self, from: Side, length: usize) -> Vec<u8> {
        let questions = &mut self.questions;
        if from == Side::Server || questions.len() < length {
            return alphabet(length);
        }
        questions.drain(..length).collect()
    }

    /// One of the last packets is sent again.
    fn again(&mut self, random: &mut Random) {
        if self.is_done {
            return;
        }
        let steps = &mut self.conversation.steps;
        let back = 1 + random.below(3) as usize;
        if let Some(step) = steps
            .len()
            .checked_sub(back)
            .map(|place| steps[place].clone())
        {
            let mut step = step;
            step.what.push_str(", again");
            let Body::Tcp(segment) = &step.datagram.body else {
                return;
            };
            // What a SYN under way carries has no place in a stream: `docs/decisions/0017`.
            if self.flavour.asks_names && segment.flags & SYN != 0 && !segment.payload.is_empty() {
                return;
            }
            self.is_window_lost |= segment.flags & (SYN | ACK) == SYN | ACK;
            // It may be from before the window by now.
            step.is_outside_window = true;
            steps.push(step);
        }
    }
}

fn describe(way: Direction) -> &'static str {
    match way {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::Forward => "forward",
    }
}

fn name(flags: u8) -> String {
    [(SYN, 'S'), (ACK, 'A'), (PSH, 'P'), (FIN, 'F'), (RST, 'R')]
        .into_iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}
