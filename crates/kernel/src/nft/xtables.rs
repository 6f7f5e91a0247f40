//! The NFQUEUE rules of kernels without `nft_queue`: one in each chain of the `security` table of iptables and ip6tables,
//! for packets that bear [`mark::HAND_UP`].
//!
//! These are the only things of ours outside of our table. iptables-nft makes its `security` tables and chains when they are
//! first used; what we caused to be made is named in the comment of our chain [`MARKER`], and is deleted again with our
//! rules when nobody else has put anything into it.

use crate::datapath::{DatapathError, Queues, mark};
use crate::netlink::Socket;

use super::command::{exists, run};
use super::message::{attribute, list};

/// The chain whose comment names what we caused to be made elsewhere.
pub(super) const MARKER: &str = "made_elsewhere";

const CHAINS: [&str; 3] = ["INPUT", "FORWARD", "OUTPUT"];

/// One address family of iptables.
#[derive(Clone, Copy, Debug)]
struct Family {
    /// In nft and in the marker.
    name: &'static str,
    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    number: u8,
    restore: &'static str,
    save: &'static str,
}

/// The programs of one kind of iptables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Xtables {
    families: [Family; 2],
    /// Whether its rules live in nf_tables.
    by_nft: bool,
}

/// What packets that bear the mark shall meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) queues: Queues,
    /// Let packets pass when nobody listens.
    pub(super) bypass: bool,
}

/// `ip INPUT`: a chain that we caused to be made.
pub(super) type Made = Vec<String>;

impl Xtables {
    /// The iptables of this machine: the one that lives in nf_tables before the old one. Of the old one the `security` table
    /// stays in the kernel when it is empty again: only unloading its module would take it away.
    pub(super) fn find() -> Option<Self> {
        [Self::NFT, Self::LEGACY, Self::PLAIN]
            .into_iter()
            .find(|kind| exists(kind.families[0].restore))
    }

    const NFT: Self = Self {
        families: [
            Family {
                name: "ip",
                number: 2,
                restore: "iptables-nft-restore",
                save: "iptables-nft-save",
            },
            Family {
                name: "ip6",
                number: 10,
                restore: "ip6tables-nft-restore",
                save: "ip6tables-nft-save",
            },
        ],
        by_nft: true,
    };
    const LEGACY: Self = Self {
        families: [
            Family {
                restore: "iptables-legacy-restore",
                save: "iptables-legacy-save",
                ..Self::NFT.families[0]
            },
            Family {
                restore: "ip6tables-legacy-restore",
                save: "ip6tables-legacy-save",
                ..Self::NFT.families[1]
            },
        ],
        by_nft: false,
    };
    /// Before there were two of them.
    const PLAIN: Self = Self {
        families: [
            Family {
                restore: "iptables-restore",
                save: "iptables-save",
                ..Self::NFT.families[0]
            },
            Family {
                restore: "ip6tables-restore",
                save: "ip6tables-save",
                ..Self::NFT.families[1]
            },
        ],
        by_nft: false,
    };

    /// Our rules that are there now, as `-A` lines, by family.
    fn present(&self, family: &Family) -> Result<Vec<String>, DatapathError> {
        let listed = command(family.save, &["-t", "security"], "")?;
        let matched = format!(
            "--mark {:#x}/{:#x} -j NFQUEUE",
            mark::HAND_UP,
            mark::HAND_UP
        );
        Ok(listed
            .lines()
            .filter(|line| line.starts_with("-A ") && line.contains(&matched))
            .map(str::to_owned)
            .collect())
    }

    /// Puts the wanted rules in place of ours that are there; `None`: takes them out. New ones come before old ones go.
    pub(super) fn set(&self, wanted: Option<Wanted>) -> Result<(), DatapathError> {
        for family in &self.families {
            let there = self.present(family)?;
            let lines: Vec<String> = wanted
                .iter()
                .flat_map(|wanted| CHAINS.map(|chain| wanted.rule(chain)))
                .collect();
            let new = lines.iter().filter(|line| !there.contains(line)).cloned();
            let old = there
                .iter()
                .filter(|line| !lines.contains(line))
                .map(|line| line.replacen("-A", "-D", 1));
            let changes: Vec<String> = new.chain(old).collect();
            if !changes.is_empty() {
                let script = format!("*security\n{}\nCOMMIT\n", changes.join("\n"));
                // Another program may hold iptables' lock.
                command(family.restore, &["--noflush", "-w", "5"], &script)?;
            }
        }
        Ok(())
    }

    /// Whether the rules that are there are the wanted ones.
    pub(super) fn is(&self, wanted: Option<Wanted>) -> Result<bool, DatapathError> {
        for family in &self.families {
            let mut there = self.present(family)?;
            let mut lines: Vec<String> = wanted
                .iter()
                .flat_map(|wanted| CHAINS.map(|chain| wanted.rule(chain)))
                .collect();
            there.sort_unstable();
            lines.sort_unstable();
            if there != lines {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The chains that setting rules will make: to be asked before.
    pub(super) fn will_make(&self, socket: &mut Socket) -> Result<Made, DatapathError> {
        if !self.by_nft {
            return Ok(Made::new());
        }
        let mut made = Made::new();
        for family in &self.families {
            let there = chains_of(socket, family)?;
            made.extend(
                CHAINS
                    .iter()
                    .filter(|chain| !there.iter().any(|known| known == *chain))
                    .map(|chain| format!("{} {chain}", family.name)),
            );
        }
        Ok(made)
    }

    /// Deletes chains that we caused to be made, and the tables with them, where nobody else uses them.
    pub(super) fn unmake(&self, socket: &mut Socket, made: &Made) -> Result<(), DatapathError> {
        for family in &self.families {
            let ours: Vec<&str> = made
                .iter()
                .filter_map(|name| name.strip_prefix(family.name)?.strip_prefix(' '))
                .collect();
            let there = chains_of(socket, family)?;
            for chain in ours
                .iter()
                .filter(|chain| there.iter().any(|known| known == *chain))
            {
                // The kernel refuses to delete a chain that holds rules: then somebody else uses it, and it stays.
                let _ = run(
                    "nft",
                    &["delete", "chain", family.name, "security", chain],
                    "",
                )?;
            }
            if !ours.is_empty() && !there.is_empty() && chains_of(socket, family)?.is_empty() {
                command("nft", &["delete", "table", family.name, "security"], "")?;
            }
        }
        Ok(())
    }

    /// Commands that bring back the rules as they are now, for a process that knows nothing of them.
    pub(super) fn commands(&self, socket: &mut Socket) -> Result<Commands, DatapathError> {
        let mut commands = Commands {
            any: false,
            words: Vec::new(),
        };
        let made = self.will_make(socket)?;
        for family in &self.families {
            let there = self.present(family)?;
            commands.any |= !there.is_empty();
            let matched = format!("--mark {0:#x}/{0:#x} -j NFQUEUE", mark::HAND_UP);
            let mut script = format!(
                "old=$({} -t security | grep -e '{matched}' | sed 's/^-A/-D/'); \
                 [ -z \"$old$0\" ] || printf '*security\\n%s\\n%sCOMMIT\\n' \"$old\" \"$0\" | {} --noflush -w 5",
                family.save, family.restore
            );
            let name = family.name;
            let ours: Vec<&str> = made
                .iter()
                .filter_map(|made| made.strip_prefix(name)?.strip_prefix(' '))
                .collect();
            if !ours.is_empty() && there.is_empty() {
                let chains = ours.join(" ");
                script.push_str(&format!(
                    "; for chain in {chains}; do nft delete chain {name} security $chain 2>/dev/null; done; \
                     if nft list table {name} security 2>/dev/null | grep -q '^table' && \
                     ! nft list table {name} security | grep -q 'chain'; then nft delete table {name} security; fi"
                ));
            }
            let rules: String = there.iter().map(|line| format!("{line}\n")).collect();
            commands
                .words
                .push(["sh", "-c", &script, &rules].map(str::to_owned).to_vec());
        }
        Ok(commands)
    }
}

/// Commands that bring back rules.
#[derive(Debug)]
pub(super) struct Commands {
    /// Whether there are any rules to bring back.
    pub(super) any: bool,
    pub(super) words: Vec<Vec<String>>,
}

impl Wanted {
    fn rule(&self, chain: &str) -> String {
        let Queues { first, .. } = self.queues;
        let numbers = match self.queues.last() {
            last if last == first => format!("--queue-num {first}"),
            last => format!("--queue-balance {first}:{last}"),
        };
        let bypass = if self.bypass { " --queue-bypass" } else { "" };
        format!(
            "-A {chain} -m mark --mark {0:#x}/{0:#x} -j NFQUEUE {numbers}{bypass}",
            mark::HAND_UP
        )
    }
}

/// The chains of a family's `security` table in nf_tables.
fn chains_of(socket: &mut Socket, family: &Family) -> Result<Vec<String>, DatapathError> {
    let mut chains = Vec::new();
    list(
        socket,
        libc::NFT_MSG_GETCHAIN,
        family.number,
        |_| {},
        |message| {
            let Some((_, attributes)) = message.netfilter() else {
                return;
            };
            let text = |kind| attributes.get(kind).map_or("", |value| value.string());
            if text(attribute::CHAIN_TABLE) == "security" {
                chains.push(text(attribute::CHAIN_NAME).to_owned());
            }
        },
    )?;
    Ok(chains)
}

fn command(program: &'static str, args: &[&str], script: &str) -> Result<String, DatapathError> {
    run(program, args, script)?.map_err(|message| DatapathError::Command {
        command: format!("{program} {}", args.join(" ")),
        message: message.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn every_kind_of_iptables_takes_the_rules_and_gives_them_back() {
        if let Err(why) = lab::available() {
            eprintln!("SKIPPED: {why}");
            return;
        }
        let netns = lab::Netns::new("xtables").unwrap();
        let queues = Queues { first: 2, count: 3 };
        let open = Some(Wanted {
            queues,
            bypass: true,
        });
        let closed = Some(Wanted {
            queues,
            bypass: false,
        });
        for kind in [Xtables::NFT, Xtables::LEGACY] {
            if !exists(kind.families[0].restore) {
                eprintln!("SKIPPED: {} is not installed", kind.families[0].restore);
                continue;
            }
            let rules = || {
                let text = netns
                    .run(kind.families[1].save, &["-t", "security"])
                    .unwrap();
                text.lines()
                    .filter(|line| line.starts_with("-A"))
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            netns
                .run(
                    kind.families[1].restore.trim_end_matches("-restore"),
                    &[
                        "-t",
                        "security",
                        "-A",
                        "INPUT",
                        "-s",
                        "2001:db8::1/128",
                        "-j",
                        "DROP",
                    ],
                )
                .unwrap();
            let theirs = rules();
            netns
                .enter(|| {
                    for wanted in [open, open, closed, None, None, open] {
                        kind.set(wanted).unwrap();
                        assert!(kind.is(wanted).unwrap(), "{wanted:?}");
                        assert!(!kind.is(if wanted == open { closed } else { open }).unwrap());
                        assert_eq!(
                            rules().len(),
                            theirs.len() + if wanted.is_some() { 3 } else { 0 }
                        );
                    }
                    kind.set(None).unwrap();
                })
                .unwrap();
            assert_eq!(rules(), theirs);
        }
    }
}
