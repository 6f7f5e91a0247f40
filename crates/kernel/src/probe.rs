//! What this host and this process have of what Portcullis can use, and one sentence for each thing that is missing.
//!
//! The kernel is asked by doing: rules are loaded and queues opened in a network namespace that a thread makes for itself and
//! that vanishes with it. The caller's own namespace is never touched.

mod capability;
mod missing;
mod tool;

use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};

pub use capability::{Capability, has_capability};
pub use missing::Missing;

use crate::conntrack::{Conntrack, ConntrackError};
use crate::nflog::{self, Log, LogError};
use crate::nfqueue::{self, QueueError};
use tool::{Ran, find, run};

/// Is something there?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It was tried, and works.
    Yes,
    /// It was tried, and does not.
    No,
    /// It could not be tried: without CAP_NET_ADMIN, or without the tool that it needs.
    Unknown,
}

/// The version of a tool, as `1.0.6`.
pub type Version = [u16; 3];

/// A program that loads rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Where it is.
    pub path: PathBuf,
    /// Its version; `None` where it does not say.
    pub version: Option<Version>,
}

/// Which kernel interface an `iptables` program speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// nf_tables, as Debian's default does.
    Nft,
    /// The old `x_tables`.
    Legacy,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// CAP_NET_ADMIN is in effect.
    pub net_admin: bool,
    /// CAP_NET_RAW is in effect.
    pub net_raw: bool,
    /// The `nft` program.
    pub nft: Option<Tool>,
    /// The `iptables` program, and what it speaks.
    pub iptables: Option<(Tool, Variant)>,
    /// The `ip6tables` program is there, too.
    pub ip6tables: bool,
    /// The kernel has nf_tables, with the `inet` family.
    pub nf_tables: Support,
    /// nf_tables can send packets to a queue (`nft_queue`).
    pub nft_queue: Support,
    /// `iptables -t security -j NFQUEUE` works.
    pub nfqueue_target: Support,
    /// The kernel hands queued packets to a program.
    pub nfqueue: Support,
    /// Queued packets can carry their connection's attributes.
    pub queue_conntrack: Support,
    /// The kernel hands logged packets to a program.
    pub nflog: Support,
    /// The kernel lists its connections.
    pub conntrack: Support,
}

/// Looks for everything. Takes some 50 ms, as it runs `nft` and `iptables` a few times.
#[must_use]
pub fn probe() -> Host {
    // Children begin in the namespace of the thread that starts them. A panic in there would be a defect of ours.
    let inside = std::thread::spawn(|| look(unshare(CloneFlags::CLONE_NEWNET).is_ok()));
    inside
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn look(alone: bool) -> Host {
    let nft = find("nft").map(Tool::ask);
    let iptables = find("iptables").map(|path| {
        let said = run(&path, &["--version"], "");
        let legacy = matches!(&said, Ran::Well(text) if text.contains("legacy"));
        (
            Tool {
                version: version(&said),
                path,
            },
            if legacy {
                Variant::Legacy
            } else {
                Variant::Nft
            },
        )
    });
    let mut host = Host {
        net_admin: has_capability(Capability::NetAdmin),
        net_raw: has_capability(Capability::NetRaw),
        ip6tables: find("ip6tables").is_some(),
        nft,
        iptables,
        nf_tables: Support::Unknown,
        nft_queue: Support::Unknown,
        nfqueue_target: Support::Unknown,
        nfqueue: Support::Unknown,
        queue_conntrack: Support::Unknown,
        nflog: Support::Unknown,
        conntrack: Support::Unknown,
    };
    // Nothing may be tried in a namespace that is not ours alone.
    if !alone {
        return host;
    }
    if let Some(nft) = &host.nft {
        let loads = |script: &str| Support::of(run(&nft.path, &["-f", "-"], script));
        let chain = "table inet probe { chain in { type filter hook input priority 0; }; }\n";
        host.nf_tables = loads(chain);
        if host.nf_tables == Support::Yes {
            host.nft_queue = loads("add rule inet probe in queue num 0\n");
        }
    }
    if let Some((iptables, _)) = &host.iptables {
        let rule = [
            "-w",
            "5",
            "-t",
            "security",
            "-A",
            "INPUT",
            "-j",
            "NFQUEUE",
            "--queue-balance",
            "0:1",
            "--queue-bypass",
        ];
        host.nfqueue_target = Support::of(run(&iptables.path, &rule, ""));
    }
    let queue = |conntrack| {
        nfqueue::open(&nfqueue::Settings {
            conntrack,
            buffer: 4096,
            ..Default::default()
        })
    };
    host.nfqueue = match queue(false) {
        Ok(_) => Support::Yes,
        Err(QueueError::NoSupport) => Support::No,
        Err(_) => Support::Unknown,
    };
    host.queue_conntrack = match queue(true) {
        Ok(_) => Support::Yes,
        Err(QueueError::NoConntrack | QueueError::NoSupport) => Support::No,
        Err(_) => Support::Unknown,
    };
    host.nflog = match Log::open(&nflog::Settings {
        buffer: 4096,
        ..Default::default()
    }) {
        Ok(_) => Support::Yes,
        Err(LogError::NoSupport) => Support::No,
        Err(_) => Support::Unknown,
    };
    host.conntrack = match Conntrack::open().and_then(|mut conntrack| conntrack.list(|_| {})) {
        Ok(()) => Support::Yes,
        Err(ConntrackError::NoSupport) => Support::No,
        Err(_) => Support::Unknown,
    };
    host
}

impl Support {
    fn of(ran: Ran) -> Support {
        match ran {
            Ran::Well(_) => Support::Yes,
            Ran::Badly => Support::No,
            Ran::NotAtAll => Support::Unknown,
        }
    }
}

impl Tool {
    fn ask(path: PathBuf) -> Tool {
        Tool {
            version: version(&run(&path, &["--version"], "")),
            path,
        }
    }
}

/// The first thing that looks like `1.0.6` or `v1.8` in what a tool says of itself.
fn version(said: &Ran) -> Option<Version> {
    let Ran::Well(text) = said else { return None };
    text.split_ascii_whitespace().find_map(|word| {
        let mut parts = word
            .trim_start_matches('v')
            .splitn(3, '.')
            .map(|part| part.parse::<u16>().ok());
        Some([
            parts.next()??,
            parts.next()??,
            parts.next().flatten().unwrap_or(0),
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_tools_write_them() {
        for (text, expected) in [
            ("nftables v1.0.6 (Lester Gooch #5)", Some([1, 0, 6])),
            ("iptables v1.8.9 (nf_tables)", Some([1, 8, 9])),
            ("tool 2.1", Some([2, 1, 0])),
            ("tool v1.2.3-rc1", Some([1, 2, 0])),
            ("no version. at all", None),
            ("", None),
        ] {
            assert_eq!(version(&Ran::Well(text.into())), expected, "{text}");
        }
        assert_eq!(version(&Ran::Badly), None);
    }
}
