//! The command line as types: one definition that parses, prints help, and makes the manual page and the completions.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are the help text, where [brackets] are brackets"
)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::ban_file::Form;
use crate::prefix::{IpNetOrAddress, Typed};
use crate::screen::{parse_ban_length, parse_confirm, parse_duration};

/// The policy file when nobody names one.
pub(crate) const DEFAULT_POLICY: &str = "/etc/portcullis/policy.toml";

/// A host firewall and intrusion prevention system: one policy, enforced in the kernel, explained in plain words.
#[derive(Parser)]
#[command(
    name = "portcullis",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done; 1 failed; 2 usage; 3 the policy is invalid; 4 not running; 5 not permitted;\n\
                  6 `test` found a packet that does not pass, or `check` found warnings."
)]
pub(crate) struct Arguments {
    /// The daemon's socket; without it /run/portcullis/api.sock.
    // No default value: `test` tells a daemon that was named from one that need not be there.
    #[arg(
        long,
        global = true,
        env = "PORTCULLIS_SOCKET",
        value_name = "PATH",
        display_order = 900
    )]
    pub(crate) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Says what is wrong with the call, or the help or version that was asked for, and ends.
pub(crate) fn refuse(error: &clap::Error) -> ! {
    if error.kind() == ErrorKind::MissingSubcommand {
        // clap would list the hidden verbs too.
        let what = "a verb is missing; `portcullis --help` lists them";
        Arguments::command().error(error.kind(), what).exit();
    }
    error.exit()
}

/// Every verb.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Run the firewall in the foreground, as systemd does.
    Run(Run),
    /// Say what would have happened to the packets of a capture: events, bans, a summary.
    Replay(Replay),
    /// Validate a policy and point out rules that do not do what they seem to.
    ///
    /// Exits 0 when all is well, 6 with warnings alone, 3 with errors.
    Check(Check),
    /// Print the nftables script that a policy becomes.
    Compile(Compile),
    /// Say which rule decides a packet that might come, and why.
    ///
    /// Asks the running daemon; with --config, or when none runs and no socket was named, judges by the policy file itself. Exits 0
    /// when every packet passes, 6 when one is dropped or rejected, 2 when a line of --file is no packet.
    #[command(
        after_help = "Examples:\n  portcullis test in tcp 203.0.113.7:40000 to 192.0.2.1:22\n  \
                      portcullis test out udp '[2001:db8::1]:5353' to '[2001:db8::2]:53'\n  \
                      portcullis test in icmp 203.0.113.7 to 192.0.2.1\n  \
                      portcullis test in tcp 203.0.113.7:40000 to 192.0.2.1:4000 --payload '68 01 00'\n  \
                      portcullis test out tcp 192.0.2.1:40000 to 203.0.113.7:443 sni www.example.com"
    )]
    Test(Test),
    /// Tell what happened to an address, or what an event was, from the record.
    Why(Why),
    /// Put a policy in force.
    Apply(Apply),
    /// Keep the policy that `apply --confirm` put in force.
    Confirm(Plain),
    /// Go back to the policy before.
    Rollback(Plain),
    /// Read the policy file and its lists again.
    Reload(Plain),
    /// Show how the firewall is.
    Status(Plain),
    /// Show the rules in force with their hits.
    ///
    /// While the policy is enforced, hits are the packets that the rule decided: each one that it drops or rejects, but of a flow that
    /// passes the first one alone, which holds for limit rules too. Of a content rule they are those that it was found in, and what
    /// it let go on counts for the rule behind that let it in. While observing, hits are what the rule would have decided.
    Rules(Plain),
    /// Show the named sets, or what is in one.
    Sets(Sets),
    /// Show the live flows.
    Flows(Flows),
    /// Show events, oldest first.
    Events(Events),
    /// Show counters.
    Stats(Stats),
    /// Drop everything from an address or a prefix.
    Ban(Ban),
    /// Lift a ban.
    Unban(Unban),
    /// Show the bans in force, or write and read them as a file.
    Bans(Bans),
    /// Never ban an address, whatever detectors and feeds say; its bans are lifted.
    Allow(Allow),
    /// Ask what becomes of questions for a name, or read the lists of names again.
    #[command(subcommand)]
    Dns(Dns),
    /// Take everything of ours out of the kernel.
    Flush(Plain),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Print the manual page as roff (portcullis man | man -l -).
    Man,
    /// Put back the state before an unconfirmed apply; started by the daemon, so that it holds when the daemon is killed.
    #[command(name = "__revert", hide = true)]
    Revert(Revert),
    /// Not in this version.
    #[command(hide = true, disable_help_flag = true)]
    Watch(NotYet),
    /// Not in this version.
    #[command(hide = true, disable_help_flag = true)]
    Top(NotYet),
    /// Not in this version.
    #[command(hide = true, disable_help_flag = true)]
    Web(NotYet),
}

#[derive(Subcommand)]
pub(crate) enum Dns {
    /// Say whether names are blocked, and by which entry of which list.
    ///
    /// Asks the running daemon; with --config judges by the policy file and its lists. Exits 0 when every name is resolved, 6 when
    /// one is blocked.
    Test(DnsTest),
    /// Read the policy and its lists again, as `reload` does. The daemon does so by itself when they change.
    Reload(Plain),
}

#[derive(Args)]
pub(crate) struct DnsTest {
    /// The names, such as www.example.org.
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// Judge by this policy file; no daemon is asked.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A verb without arguments of its own.
#[derive(Args)]
pub(crate) struct Plain {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Run {
    /// The policy file; without it /etc/portcullis/policy.toml, and without that the built-in policy in observe mode.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Judge, record and show, but block nothing, whatever the policy says.
    #[arg(long, conflicts_with = "enforce")]
    pub(crate) observe: bool,
    /// Enforce, whatever mode the policy names.
    #[arg(long)]
    pub(crate) enforce: bool,
    /// While observing, capture on this interface alone; may be given more than once. Rules and bans hold on every interface.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) interface: Vec<String>,
    /// Where bans and history are kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/portcullis")]
    pub(crate) state_dir: PathBuf,
    /// Where eve.json and firewall.log are written.
    #[arg(long, value_name = "DIR", default_value = "/var/log/portcullis")]
    pub(crate) log_dir: PathBuf,
    /// Do not start the dashboard. This version has none; the flag is taken so that scripts can give it already.
    #[arg(long)]
    pub(crate) no_web: bool,
}

#[derive(Args)]
pub(crate) struct Replay {
    /// A pcap or pcapng file; - reads standard input.
    pub(crate) capture: PathBuf,
    /// The policy to judge by; without it inbound is denied, and no detector is on.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Addresses that are this host's own, which tells in from out; several with commas.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    pub(crate) local: Vec<IpNetOrAddress>,
    /// Print one EVE event a line, and the counters as the last line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print only the summary.
    #[arg(long, short, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

#[derive(Args)]
pub(crate) struct Check {
    /// The policy file.
    #[arg(default_value = DEFAULT_POLICY)]
    pub(crate) file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Compile {
    /// The policy file.
    #[arg(default_value = DEFAULT_POLICY)]
    pub(crate) file: PathBuf,
}

#[derive(Args)]
pub(crate) struct Test {
    /// `DIRECTION PROTOCOL SOURCE[:PORT] to DESTINATION[:PORT]`; an IPv6 address with a port stands in brackets.
    #[arg(value_name = "PACKET", required_unless_present = "file")]
    pub(crate) packet: Vec<String>,
    /// Judge by this policy file instead of asking the daemon.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Read packets from a file, one a line; - reads standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The payload, in hexadecimal.
    #[arg(long, value_name = "HEX")]
    pub(crate) payload: Option<String>,
    /// The TLS server name that the client asks for.
    #[arg(long, value_name = "NAME", conflicts_with = "payload")]
    pub(crate) sni: Option<String>,
    /// The HTTP host that the client asks for.
    #[arg(long, visible_alias = "http-host", value_name = "NAME", conflicts_with_all = ["payload", "sni"])]
    pub(crate) host: Option<String>,
    /// The interface it comes in by, or leaves by.
    #[arg(long, short, value_name = "NAME")]
    pub(crate) interface: Option<String>,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Why {
    /// An address, a prefix, or the number of an event as `events` shows it: 2667 or '#2667'.
    #[arg(value_name = "ADDRESS|EVENT")]
    pub(crate) subject: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Apply {
    /// The policy file; without it the one the daemon runs with.
    pub(crate) file: Option<PathBuf>,
    /// Go back unless `portcullis confirm` comes within this time.
    #[arg(long, value_name = "DURATION", value_parser = parse_confirm)]
    pub(crate) confirm: Option<Duration>,
    /// Apply even if it cuts the session of an administrator.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Sets {
    /// Show what is in this set.
    pub(crate) name: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How many at most.
fn parse_limit(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("write a whole number from 0 to {}", u32::MAX))
}

#[derive(Args)]
pub(crate) struct Flows {
    /// Only flows with this address or prefix at either end.
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: Option<IpNetOrAddress>,
    /// At most this many, those seen last first.
    #[arg(long, short = 'n', value_name = "N", value_parser = parse_limit)]
    pub(crate) limit: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Events {
    /// Stay and print each new event.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// At most this many, the newest of them; with --follow, how many old ones come first.
    #[arg(long, short = 'n', value_name = "N", value_parser = parse_limit)]
    pub(crate) limit: Option<u32>,
    /// Only these kinds; several with commas.
    #[arg(long, value_name = "KIND", value_enum, value_delimiter = ',')]
    pub(crate) kind: Vec<EventKind>,
    /// Only events with this address or prefix at either end.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<IpNetOrAddress>,
    /// Only events of the rule of this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) rule: Option<String>,
    /// Only events of the last so long (10m), or from a moment on (2027-01-01T00:00:00Z).
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Print one EVE object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A kind of event. What `events` calls them on the screen is taken too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EventKind {
    /// A packet was dropped or rejected, or would have been.
    #[value(aliases = ["DROP", "reject", "REJECT", "would-drop", "WOULD-DROP", "would-reject", "WOULD-REJECT"])]
    Drop,
    /// A rule with log = true let a packet pass.
    #[value(name = "firewall", aliases = ["allow", "ALLOW"])]
    Firewall,
    /// A detector or a content rule found something.
    #[value(alias = "ALERT")]
    Alert,
    /// A packet that is broken or impossible.
    #[value(alias = "ANOMALY")]
    Anomaly,
    /// A flow ended.
    #[value(alias = "FLOW")]
    Flow,
    /// A name server was asked.
    #[value(aliases = ["DNS", "dns-blocked", "DNS-BLOCKED", "would-dns-block", "WOULD-DNS-BLOCK"])]
    Dns,
    /// A source was banned.
    #[value(aliases = ["BAN", "would-ban", "WOULD-BAN"])]
    Ban,
    /// A ban ended.
    #[value(alias = "UNBAN")]
    Unban,
    /// A ban was asked for and not made.
    #[value(alias = "BAN-REFUSED")]
    BanRefused,
    /// A policy or a list came into force, or was refused.
    #[value(alias = "POLICY")]
    Policy,
    /// What somebody changed in the kernel was put back.
    #[value(alias = "DRIFT")]
    Drift,
    /// The daemon began, ended or failed.
    #[value(alias = "DAEMON")]
    Daemon,
}

impl EventKind {
    /// As `event_type` has it.
    pub(crate) fn name(self) -> String {
        use clap::ValueEnum as _;
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

#[derive(Args)]
pub(crate) struct Stats {
    /// How far back the table by minute reaches.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "60m")]
    pub(crate) last: Duration,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Ban {
    /// An address or a prefix.
    pub(crate) address: Typed,
    /// How long, such as 10m; without it as `[ban]` says, and a longer ban in force stays.
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_ban_length)]
    pub(crate) duration: Option<Duration>,
    /// Until it is lifted.
    #[arg(long, conflicts_with = "duration")]
    pub(crate) forever: bool,
    /// One line for people.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(group(ArgGroup::new("whom").required(true).args(["address", "all"])))]
pub(crate) struct Unban {
    /// An address or a prefix.
    pub(crate) address: Option<IpNetOrAddress>,
    /// Every ban.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Bans {
    #[command(subcommand)]
    pub(crate) what: Option<BansVerb>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum BansVerb {
    /// Write the bans.
    Export(Export),
    /// Take in bans: an export in any form but nft, banned_ips.json, a list of addresses, or the database of fail2ban. What it is
    /// is told by what is in it.
    Import(Import),
}

#[derive(Args)]
pub(crate) struct Export {
    /// How to write them.
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) format: Form,
    /// Put them in this file, whole or not at all, instead of writing to standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Import {
    /// The file; - reads standard input.
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// How long bans hold that name no end, from their begin on, such as 10m; without it as `[ban]` says.
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_ban_length)]
    pub(crate) duration: Option<Duration>,
    /// Bans that name no end hold until they are lifted.
    #[arg(long, conflicts_with = "duration")]
    pub(crate) forever: bool,
    /// Of fail2ban also the bans that ran out, from now on for as long as they lasted.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Allow {
    /// An address or a prefix; without it, the list is shown.
    pub(crate) address: Option<Typed>,
    /// Take it off the list again.
    #[arg(long, requires = "address")]
    pub(crate) remove: bool,
    /// Forget it when the daemon ends.
    #[arg(long, requires = "address", conflicts_with = "remove")]
    pub(crate) until_restart: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Revert {
    /// What the daemon hands over.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Args)]
pub(crate) struct NotYet {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_socket_may_stand_before_and_after_the_verb() {
        for line in [
            "portcullis --socket /tmp/x status",
            "portcullis status --socket /tmp/x",
            "portcullis bans --socket /tmp/x export",
            "portcullis run --socket /tmp/x",
        ] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(arguments.socket, Some(PathBuf::from("/tmp/x")), "{line}");
        }
    }
}
