//! What a kernel backend does for the daemon: put a plan in force, hold bans, count, notice tampering, give way again.
//!
//! The nftables backend is [`crate::nft::Nft`]; [`crate::fake::FakeDatapath`] keeps everything in memory, for tests.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use ipnet::IpNet;
use policy::{AddressSet, Plan, RuleId};
use serde::{Deserialize, Serialize};

use crate::netlink::NetlinkError;
use crate::tag::Cause;

/// A backend that enforces plans.
///
/// Everything happens in the network namespace of the calling thread. Each call either does all that it says or changes
/// nothing.
pub trait Datapath {
    /// Puts a plan in force in place of the one before, in one transaction. Bans stay.
    ///
    /// # Errors
    /// The kernel refused; the plan before is still in force.
    fn apply(&mut self, request: &Apply<'_>) -> Result<Applied, DatapathError>;

    /// Bans a prefix, for `remaining` from now, or until it is lifted. A ban of the same prefix is replaced.
    ///
    /// Protected addresses inside the prefix stay reachable: protection is looked up before bans.
    ///
    /// # Errors
    /// No plan is in force, or the kernel refused (such as when the ban sets are full).
    fn ban(&mut self, prefix: IpNet, remaining: Option<Duration>) -> Result<(), DatapathError> {
        self.bans_many(&[(prefix, remaining)])
    }

    /// Bans many prefixes in one transaction.
    ///
    /// # Errors
    /// As [`Datapath::ban`]; then none is banned.
    fn bans_many(&mut self, bans: &[(IpNet, Option<Duration>)]) -> Result<(), DatapathError>;

    /// Lifts the ban of a prefix; returns whether any address of it was banned by it. Bans of longer prefixes within it,
    /// and of shorter ones around it, stand apart: where prefix bans overlap, ban the others anew after lifting one.
    ///
    /// # Errors
    /// No plan is in force, or the kernel refused.
    fn unban(&mut self, prefix: IpNet) -> Result<bool, DatapathError>;

    /// The bans that are in force. Where bans of prefixes overlap, the pieces of them that are: compare what is covered,
    /// not the list.
    ///
    /// # Errors
    /// No plan is in force, or the kernel cannot be asked.
    fn bans(&mut self) -> Result<Vec<HeldBan>, DatapathError>;

    /// The bans that the kernel made by itself since this was last asked and that still stand, each with why. Costs next to nothing
    /// where there are none, however many bans there are: meant for every second. At most as many as bans are possible; of more that
    /// come between two calls only [`Datapath::bans`] tells.
    ///
    /// # Errors
    /// The kernel cannot be asked; the next call tells of the same bans. Where no plan is in force there are none.
    fn take_own_bans(&mut self) -> Result<Vec<OwnBan>, DatapathError>;

    /// Packets and bytes since the plan was applied. Reading does not reset them.
    ///
    /// # Errors
    /// No plan is in force, or the kernel cannot be asked.
    fn counters(&mut self) -> Result<Counters, DatapathError>;

    /// Whether what was applied is still in force. Cheap as long as nobody changes anything: meant for every second.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    fn check(&mut self) -> Result<Drift, DatapathError>;

    /// What brings back the present state, whoever feeds it to the kernel.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    fn snapshot(&mut self) -> Result<Snapshot, DatapathError>;

    /// Puts the state of a snapshot in force.
    ///
    /// # Errors
    /// The kernel refused; the present state stays.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), DatapathError>;

    /// Takes everything of ours out of the kernel, bans too. Nothing to do is no error.
    ///
    /// # Errors
    /// Something of ours is left.
    fn remove(&mut self) -> Result<(), DatapathError>;
}

/// What is to be put in force.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Addresses that were found to need protection (own addresses, gateways, resolvers, live sessions), beside those
    /// that the plan names.
    pub protected: &'a AddressSet,
    /// Where user space waits for packets of content rules. `None`: nobody waits, so that packets of content rules fare as
    /// [`policy::OnFailure`] says.
    pub queues: Option<Queues>,
    /// Whether its rules are those in force, and only addresses differ: then what sources have used up of a rate stays used up.
    pub goes_on: bool,
}

/// Consecutive NFQUEUE numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// The first.
    pub first: u16,
    /// How many, at least 1; `first + count` is at most 65,536.
    pub count: u16,
}

impl Queues {
    /// The last number; `first` for a count of 0 or 1.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.first.saturating_add(self.count.saturating_sub(1))
    }
}

/// What was put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Chains in the kernel.
    pub chains: usize,
    /// Kernel rules in them.
    pub rules: usize,
    /// Addresses and ranges in named sets, bans not counted.
    pub elements: usize,
    /// From the begin of the call to the end of reading back.
    pub took: Duration,
}

/// A ban as the kernel holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldBan {
    /// Whose packets are dropped.
    pub prefix: IpNet,
    /// Time left; `None` until it is lifted.
    pub remaining: Option<Duration>,
}

/// A ban that the kernel made by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnBan {
    /// As the kernel holds it.
    pub held: HeldBan,
    /// The detector or the rule that made it.
    pub cause: Cause,
}

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of them, from the IP header on.
    pub bytes: u64,
}

/// What was counted since the plan was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By cause. [`Cause::Rule`] counts what matched the rule, [`Cause::Limited`] what of it was over the rate.
    pub causes: HashMap<Cause, Count>,
    /// Packets handed up to user space for a content rule. What became of them user space knows.
    pub handed_up: HashMap<RuleId, Count>,
    /// Questions to name servers that were dropped, as their source asks more than is looked at.
    pub questions_over: Count,
    /// Packets that passed and that the log did not tell, as it tells 5,000 a second: the first ones of flows, and those of rules that
    /// log each.
    pub flows_untold: Count,
}

impl Counters {
    /// What was counted for a cause; zero for one that the plan in force cannot give.
    #[must_use]
    pub fn of(&self, cause: Cause) -> Count {
        self.causes.get(&cause).copied().unwrap_or_default()
    }
}

/// How the kernel's state differs from what was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// Not at all.
    None,
    /// Somebody changed nftables, but our chains and sets are as applied. Bans may have been added or taken away: compare
    /// [`Datapath::bans`].
    Nearby,
    /// Parts of ours were changed: apply again.
    Changed {
        /// One line for each part, of which there may be more than a hundred: the first [`Self::NAMED`], and how many more.
        what: Vec<String>,
    },
    /// Our table is not there any more: apply again, and ban again.
    Gone,
}

impl Drift {
    /// Changed parts that are named.
    pub const NAMED: usize = 10;

    /// Of changed parts: another table of our name has them all changed.
    pub(crate) fn of_parts(mut what: Vec<String>) -> Self {
        let more = what.len().saturating_sub(Self::NAMED);
        // To name one is as short as to count it.
        if more > 1 {
            what.truncate(Self::NAMED);
            what.push(format!("… and {more} more"));
        }
        Self::Changed { what }
    }
}

/// What brings back a state: a script for `nft -f -` and commands around it. Plain data, so that it can be written down for
/// a process that outlives the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Commands to run before the script, each a program and its arguments; they may be run twice.
    pub before: Vec<Vec<String>>,
    /// The script, one transaction, for `nft -f -`.
    pub script: String,
    /// Commands to run after the script, which may fail when there is nothing to do.
    pub after: Vec<Vec<String>>,
}

/// Why a backend could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// A program that the backend needs cannot be run.
    #[error("cannot run {program}: {source}; install it (nftables, iptables) and run as root")]
    Program {
        /// Which one.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The plan says something that nftables cannot.
    #[error("rule {} cannot be put into nftables: {what}", rule.0)]
    Inexpressible {
        /// The rule.
        rule: RuleId,
        /// What, and what to write instead.
        what: String,
    },
    /// The kernel refused the transaction. Nothing was changed.
    #[error("nft refused the ruleset{}: {message}; the ruleset before is still in force", rule.map_or_else(String::new, |rule| format!(" at rule {}", rule.0)))]
    Refused {
        /// The rule that the message points at, where it does.
        rule: Option<RuleId>,
        /// nft's own words.
        message: String,
    },
    /// What the kernel holds after the transaction is not what was sent.
    #[error(
        "the kernel holds something else than was applied ({what}); apply again, and look for a program that changes nftables"
    )]
    ReadBack {
        /// The first difference.
        what: String,
    },
    /// A command other than nft failed.
    #[error("{command} failed: {message}; packets of content rules cannot be handed up without it")]
    Command {
        /// Command line.
        command: String,
        /// Its words.
        message: String,
    },
    /// Another program made our table its own.
    #[error(
        "another program holds the table inet portcullis for itself (`flags owner`; {by}): the kernel lets nobody else change it, and nothing of \
         ours is in force; end that program"
    )]
    Held {
        /// Who: the process, or what is known of it.
        by: String,
    },
    /// No plan is in force.
    #[error("no ruleset of portcullis is in force; apply one first")]
    NotApplied,
    /// A ban did not fit.
    #[error("the kernel's ban sets are full; raise [ban] capacity or lift some bans")]
    BansFull,
    /// The kernel answered a netlink request with an error.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A failure that a test asked for.
    #[error("operation {operation} was told to fail")]
    Injected {
        /// Counted from 1.
        operation: u64,
    },
}

/// Bits of the packet mark that the kernel and user space speak through. Chosen among those that neither Docker (0x1),
/// Kubernetes (0x4000, 0x8000), WireGuard's `wg-quick` (0xca6c) nor Tailscale (0x00ff_0000) use.
pub mod mark {
    /// From the kernel to the kernel: an NFQUEUE rule of iptables shall hand the packet up.
    pub const HAND_UP: u32 = 0x0800_0000;
    /// From user space with an accepting verdict: the flow need not be looked at any more. Kept as the same bit of the flow's
    /// connection mark.
    pub const SETTLED: u32 = 0x0400_0000;
    /// From user space with an accepting verdict: reject the packet.
    pub const REJECT: u32 = 0x0200_0000;
    /// From the kernel to user space with a packet that is handed up: its flow has been answered (`ct state established`). With
    /// [`REPLY`]: and the side that began it has gone on (`ct status assured`). Without either the packet is the first of its
    /// flow, or the flow was not answered yet.
    pub const ESTABLISHED: u32 = 0x0100_0000;
    /// From the kernel to user space with a packet that is handed up: it goes to the side that began its flow.
    pub const REPLY: u32 = 0x4000_0000;
    /// From the kernel to user space with a packet that is handed up: none of its flow was before. Back from user space with an
    /// accepting verdict: a connection begins with it. Kept as the same bit of the flow's connection mark, which is not settled then.
    pub const FIRST: u32 = 0x8000_0000;
    /// Of the connection mark: a SYN began it. Else connection tracking has picked it up under way.
    pub const BY_SYN: u32 = 0x4000_0000;
    /// From the kernel to user space with a packet that is handed up: the rules have accepted it, and it is a question to a name
    /// server, or a SYN under way of a connection that user space follows. Without it a content rule handed it up, and the rules behind
    /// that one are still to be asked.
    pub const ACCEPTED: u32 = 0x1000_0000;
    /// All of them. User space leaves the other bits as it found them.
    pub const ALL: u32 = HAND_UP | SETTLED | REJECT | ESTABLISHED | ACCEPTED | REPLY | FIRST;
    /// On packets that user space sends, alone among [`OURS`]: an answer in the place of a name server's, which is of no tracked flow,
    /// or the reset of a connection for the side that a rejected packet was for. No rule is asked.
    pub const FORGED: u32 = 0x2000_0000;
    /// Every bit that means something here. A mark of somebody else's that covers several of them is none of ours.
    pub const OURS: u32 = ALL | FORGED;
}

#[cfg(test)]
mod tests {
    use super::Drift;

    #[test]
    fn of_many_changed_parts_the_first_are_named() {
        for (parts, lines, last) in [
            (1, 1, "part 0"),
            (11, 11, "part 10"),
            (12, 11, "… and 2 more"),
            (130, 11, "… and 120 more"),
        ] {
            let what = (0..parts).map(|part| format!("part {part}")).collect();
            let Drift::Changed { what } = Drift::of_parts(what) else {
                panic!("{parts} parts were changed");
            };
            assert_eq!(what.len(), lines);
            assert_eq!(what.last().map(String::as_str), Some(last));
        }
    }
}
