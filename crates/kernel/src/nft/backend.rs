//! Plans in force: one transaction, read back, watched over, and taken out again.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use policy::Plan;

use crate::datapath::{
    Applied, Apply, Counters, Datapath, DatapathError, Drift, HeldBan, OwnBan, Snapshot,
};
use crate::netlink::Socket;

use super::clearance::{clearance, stays};
use super::message::{attribute, generation, list, table_exists};
use super::shield::BAN_SETS;
use super::state::{Detail, SetState, State, read};
use super::table::comment_text;
use super::xtables::{MARKER, Made, Wanted, Xtables};
use super::{
    Context, HandUp, LOG_GROUP, Script, Slot, TABLE, command, compile, counter, element, holder,
    meter, own_ban, stand_in,
};

/// What this kernel can do, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// nf_tables has the `queue` statement (`nft_queue`); else iptables has to hand packets up.
    pub queue: bool,
}

impl Features {
    /// Asks the kernel, by a transaction that is checked and not made. Changes nothing.
    ///
    /// # Errors
    /// nft cannot be run.
    pub fn probe() -> Result<Self, DatapathError> {
        let script = "table inet portcullis_probe {\n\tchain probe {\n\t\ttype filter hook input priority 0\n\t\tqueue num 0\n\t}\n}\n";
        Ok(Self {
            queue: command::run("nft", &["-c", "-f", "-"], script)?.is_ok(),
        })
    }
}

/// The nftables backend. It belongs to the network namespace of the thread that uses it first.
///
/// Everything stands in the table `inet portcullis`, but for one thing: on a kernel without `nft_queue`, while a plan has
/// content rules, the `security` tables of iptables hold one NFQUEUE rule each for input, output and forward.
#[derive(Debug)]
pub struct Nft {
    features: Features,
    socket: Option<Socket>,
    in_force: Option<InForce>,
    /// A copy of a ruleset may stand beside ours, with bans that nobody lifts there: it could not be taken out yet.
    copy_may_stand: bool,
    meters: meter::Look,
}

/// What was applied, as read back, at the generation after our own last change.
#[derive(Debug)]
struct InForce {
    state: State,
    rules: NfqueueRules,
    made: Made,
}

/// Our rules in the tables of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NfqueueRules {
    /// Another process or a snapshot set them, if any.
    Unknown,
    /// Set by us; `None`: there are none.
    Set(Option<Wanted>),
}

impl Nft {
    /// A backend that has done nothing yet.
    #[must_use]
    pub const fn new(features: Features) -> Self {
        Self {
            features,
            socket: None,
            in_force: None,
            // A process that was killed may have left one.
            copy_may_stand: true,
            meters: meter::Look::new(),
        }
    }

    fn socket(&mut self) -> Result<&mut Socket, DatapathError> {
        match self.socket {
            Some(ref mut socket) => Ok(socket),
            None => {
                let socket = Socket::open(libc::NETLINK_NETFILTER)?;
                // Long listings and many acknowledgements; without it large sets are read again and again.
                let _ = socket.receive_buffer(8 << 20);
                Ok(self.socket.insert(socket))
            }
        }
    }

    /// The script that [`Datapath::apply`] would load into a kernel that holds nothing of ours.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn script(&self, request: &Apply<'_>) -> Result<Script, DatapathError> {
        self.script_at(request, Slot::default())
    }

    fn script_at(&self, request: &Apply<'_>, slot: Slot) -> Result<Script, DatapathError> {
        let hand_up = if self.features.queue {
            HandUp::Queue
        } else {
            HandUp::Mark
        };
        let Apply {
            plan,
            protected,
            queues,
            goes_on: _,
        } = *request;
        compile(
            plan,
            &Context {
                protected,
                queues,
                hand_up,
                log_group: LOG_GROUP,
                slot,
            },
        )
    }

    /// The NFQUEUE rule that a request needs beside the script.
    fn wanted(&self, request: &Apply<'_>) -> Option<Wanted> {
        let asks = !self.features.queue && hands_up(request.plan);
        let queues = request.queues.filter(|_| asks)?;
        Some(Wanted {
            queues,
            bypass: request.plan.on_failure.passes(),
        })
    }

    /// What we caused to be made in the tables of iptables, as our table says.
    fn made(&mut self) -> Result<Made, DatapathError> {
        if let Some(known) = &self.in_force {
            return Ok(known.made.clone());
        }
        let socket = self.socket()?;
        let mut made = Made::new();
        list(
            socket,
            libc::NFT_MSG_GETCHAIN,
            super::message::INET,
            |_| {},
            |message| {
                let Some((_, attributes)) = message.netfilter() else {
                    return;
                };
                let text = |kind| attributes.get(kind).map_or("", |value| value.string());
                if text(attribute::CHAIN_TABLE) == TABLE && text(attribute::CHAIN_NAME) == MARKER {
                    // Type, length, text (`nftnl_udata`).
                    let comment = attributes
                        .get(attribute::CHAIN_USERDATA)
                        .and_then(|data| data.value.get(2..));
                    let comment = comment
                        .and_then(|text| std::str::from_utf8(text).ok())
                        .unwrap_or_default();
                    made = comment
                        .trim_end_matches('\0')
                        .split(", ")
                        .map(str::to_owned)
                        .collect();
                }
            },
        )?;
        Ok(made)
    }

    /// A script in the place of a table that goes as a whole: with the bans that it held, without what meters had counted.
    fn anew(&mut self, text: &str) -> Result<String, DatapathError> {
        let held = element::all(self.socket()?).or_else(none_applied)?;
        let bans = element::script(&held);
        Ok(format!("delete table inet {TABLE}\n{text}{bans}"))
    }

    /// Feeds the script to the kernel. Behind a `stand_in` where the chains would stand before those that they replace.
    fn load(
        &mut self,
        script: &str,
        request: &Apply<'_>,
        stand_in: bool,
    ) -> Result<(), DatapathError> {
        if stand_in {
            let copy = self.script_at(request, Slot::last())?;
            let bans = element::all(self.socket()?).or_else(none_applied)?;
            self.copy_may_stand = true;
            stand_in::load(&copy, &bans)?;
        }
        let loaded = command::load(script);
        // Whether the script is in force has nothing to do with the copy, which the next check takes out where this cannot.
        let _ = self.remove_copy();
        loaded
    }

    /// Takes the copy out that holds while our chains begin anew.
    fn remove_copy(&mut self) -> Result<(), DatapathError> {
        if self.copy_may_stand {
            stand_in::remove(self.socket()?)?;
            self.copy_may_stand = false;
        }
        Ok(())
    }

    /// Reads our table, which must be there.
    fn read_back(&mut self) -> Result<State, DatapathError> {
        let gone = || DatapathError::ReadBack {
            what: "the table is not there".to_owned(),
        };
        read(self.socket()?, Detail::Whole)?.ok_or_else(gone)
    }

    /// Puts NFQUEUE rules in place before packets bear the mark. Gives what that made in the tables of iptables, beside
    /// what was made before.
    fn prepare(&mut self, wanted: Wanted, mut made: Made) -> Result<Made, DatapathError> {
        let missing = || DatapathError::Program {
            program: "iptables",
            source: std::io::Error::from(std::io::ErrorKind::NotFound),
        };
        let xtables = Xtables::find().ok_or_else(missing)?;
        for chain in xtables.will_make(self.socket()?)? {
            if !made.contains(&chain) {
                made.push(chain);
            }
        }
        xtables.set(Some(wanted))?;
        Ok(made)
    }

    /// Takes NFQUEUE rules out, and what they caused to be made.
    fn withdraw(&mut self, made: &Made) -> Result<(), DatapathError> {
        if !self.features.queue
            && let Some(xtables) = Xtables::find()
        {
            xtables.set(None)?;
            xtables.unmake(self.socket()?, made)?;
        }
        Ok(())
    }

    /// Meters with what somebody else put there, where it is time to look.
    fn strangers(&mut self) -> Result<Vec<String>, DatapathError> {
        match (&self.in_force, &mut self.socket) {
            (Some(known), Some(socket)) if self.meters.is_due(Instant::now()) => {
                Ok(meter::strangers(socket, &known.state, &mut self.meters)?)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Why the kernel did not let us change a set: where somebody else holds the table, that says more.
    fn denied<T>(&mut self, why: DatapathError) -> Result<T, DatapathError> {
        if let DatapathError::Netlink(error) = &why
            && error.errno() == Some(libc::EPERM)
        {
            holder::none(self.socket()?)?;
        }
        Err(why)
    }

    /// Takes note that the generation moved on by our own doing.
    fn own_transactions(&mut self, made: u32) {
        if let Some(known) = &mut self.in_force {
            known.state.generation = known.state.generation.wrapping_add(made);
        }
    }
}

/// Whether a plan has packets that user space must look at.
fn hands_up(plan: &Plan) -> bool {
    plan.mode == policy::Mode::Enforce && plan.looks_inside()
}

impl Datapath for Nft {
    fn apply(&mut self, request: &Apply<'_>) -> Result<Applied, DatapathError> {
        let begun = Instant::now();
        holder::none(self.socket()?)?;
        let present = read(self.socket()?, Detail::Outline)?;
        let behind = present.as_ref().and_then(|present| present.slot?.next());
        let slot = behind.unwrap_or_default();
        if let (Some(present), Some(known)) = (&present, &self.in_force)
            && present.generation != known.state.generation
        {
            self.meters.ask();
        }
        let Script {
            mut text,
            mut expected,
        } = self.script_at(request, slot)?;
        let wanted = self.wanted(request);
        let before = self
            .in_force
            .as_ref()
            .map_or(NfqueueRules::Unknown, |before| before.rules);
        let made = self.made()?;

        let mut whole = String::new();
        // The kernel takes no new chains in the transaction that takes a flag off the table: such a table goes as a whole.
        let is_flagged = present.as_ref().is_some_and(|present| present.flags != 0);
        if is_flagged {
            whole = self.anew(&text)?;
        } else if let Some(present) = &present {
            let capacity = request.plan.ban.capacity;
            let known = self.in_force.as_ref().filter(|_| request.goes_on);
            // As it was made by this backend, and as it is made by the text that follows: what it holds stays.
            let keeps = |name: &str, set: &SetState| {
                let made = known.and_then(|known| known.state.sets.get(name));
                set.is_meter() && made.is_some_and(|made| made.is_like(set))
            };
            whole.push_str(&clearance(present, capacity, keeps));
            whole.push_str(&text);
            if !BAN_SETS.iter().all(|&set| stays(present, set, capacity)) {
                // What ban sets that are made anew held.
                let held = element::all(self.socket()?).or_else(none_applied)?;
                whole.push_str(&element::script(&held));
            }
        } else {
            whole.push_str(&text);
        }
        let noted = match wanted {
            Some(wanted) => self.prepare(wanted, made.clone())?,
            None => Made::new(),
        };
        if !noted.is_empty() {
            let comment = comment_text(&noted.join(", "));
            let marker =
                format!("table inet {TABLE} {{\n\tchain {MARKER} {{\n\t\t{comment}\n\t}}\n}}\n");
            whole.push_str(&marker);
            text.push_str(&marker);
            expected.chains.insert(MARKER.to_owned(), 0);
        }
        // A table that filters nothing needs none.
        let stand_in = present.is_some() && behind.is_none() && !is_flagged;
        let mut loaded = self.load(&whole, request, stand_in);
        if loaded.is_err() && present.is_some() && !is_flagged {
            // Others may have put in what does not go piece by piece. Where it is the plan that is refused, the first word says why.
            let anew = self.anew(&text)?;
            if self.load(&anew, request, stand_in).is_ok() {
                loaded = Ok(());
            }
        }
        if let Err(why) = loaded {
            match before {
                _ if wanted.is_none() => {}
                NfqueueRules::Set(Some(before)) => drop(self.prepare(before, made)?),
                // The table in force may need rules that another process set: no packet bears the mark without it.
                NfqueueRules::Unknown if present.is_some() => {}
                NfqueueRules::Unknown | NfqueueRules::Set(None) => self.withdraw(&noted)?,
            }
            return Err(why);
        }
        if wanted.is_none() && before != NfqueueRules::Set(None) {
            self.withdraw(&made)?;
        }
        let state = self.read_back()?;
        if let Some(what) = state.differences(&expected).into_iter().next() {
            return Err(DatapathError::ReadBack { what });
        }
        let applied = Applied {
            chains: state.chains.len(),
            rules: state.chains.values().map(|chain| chain.rules).sum(),
            elements: state.sets.values().map(|set| set.elements).sum(),
            took: begun.elapsed(),
        };
        self.in_force = Some(InForce {
            state,
            rules: NfqueueRules::Set(wanted),
            made: noted,
        });
        Ok(applied)
    }

    fn ban(&mut self, prefix: IpNet, remaining: Option<Duration>) -> Result<(), DatapathError> {
        let made = element::ban(self.socket()?, prefix, remaining);
        let made = made.or_else(|why| self.denied(why))?;
        self.own_transactions(made);
        Ok(())
    }

    fn bans_many(&mut self, bans: &[(IpNet, Option<Duration>)]) -> Result<(), DatapathError> {
        let made = element::ban_many(self.socket()?, bans);
        let made = made.or_else(|why| self.denied(why))?;
        self.own_transactions(made);
        Ok(())
    }

    fn unban(&mut self, prefix: IpNet) -> Result<bool, DatapathError> {
        let made = element::unban(self.socket()?, prefix);
        let made = made.or_else(|why| self.denied(why))?;
        self.own_transactions(made);
        Ok(made > 0)
    }

    fn bans(&mut self) -> Result<Vec<HeldBan>, DatapathError> {
        element::all(self.socket()?)
    }

    fn take_own_bans(&mut self) -> Result<Vec<OwnBan>, DatapathError> {
        let (bans, made) = own_ban::take(self.socket()?)?;
        self.own_transactions(made);
        Ok(bans)
    }

    fn counters(&mut self) -> Result<Counters, DatapathError> {
        counter::all(self.socket()?)
    }

    fn check(&mut self) -> Result<Drift, DatapathError> {
        self.remove_copy()?;
        let now = generation(self.socket()?)?;
        if let Some(known) = &self.in_force
            && known.state.generation == now
        {
            let what = self.strangers()?;
            return Ok(if what.is_empty() {
                Drift::None
            } else {
                Drift::of_parts(what)
            });
        }
        self.meters.ask();
        holder::none(self.socket()?)?;
        let Some(state) = read(self.socket()?, Detail::Whole)? else {
            return Ok(Drift::Gone);
        };
        let Some(known) = self.in_force.as_mut() else {
            return Ok(Drift::Changed {
                what: vec!["the ruleset was not applied by this process".to_owned()],
            });
        };
        let mut what = state.changes_since(&known.state);
        if let Some(socket) = &mut self.socket
            && stand_in::is_there(socket)?
        {
            what.push("a stand-in that an apply used is still there".to_owned());
        }
        if let NfqueueRules::Set(Some(wanted)) = known.rules
            && !Xtables::find().map_or(Ok(false), |xtables| xtables.is(Some(wanted)))?
        {
            what.push("the NFQUEUE rules of iptables are not as they were set".to_owned());
        }
        if what.is_empty() {
            known.state.generation = state.generation;
            what = self.strangers()?;
        }
        Ok(if what.is_empty() {
            Drift::Nearby
        } else {
            Drift::of_parts(what)
        })
    }

    fn snapshot(&mut self) -> Result<Snapshot, DatapathError> {
        holder::none(self.socket()?)?;
        let slot = read(self.socket()?, Detail::Outline)?.map(|present| present.slot);
        let shift = slot.flatten().map_or(0, Slot::way_back);
        let there = slot.is_some();
        // A stand-in that a killed process left would hold behind whatever is brought back.
        let mut script = stand_in::absent();
        script.push_str(&format!("table inet {TABLE}\ndelete table inet {TABLE}\n"));
        if there {
            let listed = command::run("nft", &["-y", "list", "table", "inet", TABLE], "")?;
            let listed = listed.map_err(|message| DatapathError::Command {
                command: "nft list table".to_owned(),
                message,
            })?;
            script.push_str(&super::snapshot::reloadable(&listed, shift));
        }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        if !self.features.queue
            && let Some(xtables) = Xtables::find()
        {
            // Rules that hand up must be there before packets are marked, and may go only after the last was.
            let commands = xtables.commands(self.socket()?)?;
            if commands.any {
                before = commands.words
            } else {
                after = commands.words
            }
        }
        Ok(Snapshot {
            before,
            script,
            after,
        })
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), DatapathError> {
        holder::none(self.socket()?)?;
        let made = self.made()?;
        for words in &snapshot.before {
            run_words(words)?;
        }
        let held = element::all(self.socket()?).or_else(none_applied)?;
        let script = &snapshot.script;
        let with_bans = super::snapshot::with_bans(script, &held);
        if command::load(&with_bans).is_err() {
            // Without the bans since: sets of another size may not hold them.
            command::load(script)?;
        }
        for words in &snapshot.after {
            run_words(words)?;
        }
        self.in_force = None;
        if self.made()?.is_empty() && !made.is_empty() {
            self.withdraw(&made)?;
        }
        let made = self.made()?;
        let state = read(self.socket()?, Detail::Whole)?;
        self.in_force = state.map(|state| InForce {
            state,
            rules: NfqueueRules::Unknown,
            made,
        });
        Ok(())
    }

    fn remove(&mut self) -> Result<(), DatapathError> {
        let made = self.made()?;
        let socket = self.socket()?;
        // Nothing in a table that another program has made its own is ours.
        let is_held = matches!(holder::none(socket), Err(DatapathError::Held { .. }));
        if !is_held && table_exists(socket)? {
            command::load(&format!("delete table inet {TABLE}\n"))?;
        }
        stand_in::remove(socket)?;
        self.copy_may_stand = false;
        self.in_force = None;
        self.withdraw(&made)
    }
}

/// A table that vanished between two looks holds no bans.
fn none_applied(why: DatapathError) -> Result<Vec<HeldBan>, DatapathError> {
    match why {
        DatapathError::NotApplied => Ok(Vec::new()),
        other => Err(other),
    }
}

fn run_words(words: &[String]) -> Result<(), DatapathError> {
    let Some((program, args)) = words.split_first() else {
        return Ok(());
    };
    let output = std::process::Command::new(program).args(args).output();
    let output = output.map_err(|source| DatapathError::Program {
        program: "a command of the snapshot",
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(DatapathError::Command {
        command: words.join(" "),
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
