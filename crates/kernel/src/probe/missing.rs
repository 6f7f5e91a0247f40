//! What is missing, what works without it, and what to do.

use super::{Host, Support, Version};

/// Something that Portcullis can use and that is not there. Displays as one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// CAP_NET_ADMIN.
    #[error(
        "CAP_NET_ADMIN is missing, so nothing can be enforced; replay, check and test still work: run as root to enforce"
    )]
    NetAdmin,
    /// CAP_NET_RAW.
    #[error(
        "CAP_NET_RAW is missing, so live packets cannot be captured; replay still works: run as root to capture"
    )]
    NetRaw,
    /// The `nft` program.
    #[error(
        "the nft program is missing, so policies cannot be applied; observing and replay still work: install nftables"
    )]
    Nft,
    /// An `nft` program that is new enough.
    #[error("nft {}.{}.{} is too old to apply policies; observing and replay still work: install nftables 1.0 or newer", found[0], found[1], found[2])]
    NftVersion {
        /// The version that is there.
        found: Version,
    },
    /// nf_tables in the kernel.
    #[error(
        "this kernel has no nf_tables, so policies cannot be applied; observing and replay still work: load the nf_tables module or use a kernel with it"
    )]
    NfTables,
    /// Any way to queue packets.
    #[error(
        "this kernel can queue packets neither by nft_queue nor by the NFQUEUE target, so content rules and [dns] are not enforced; all other rules are: load nft_queue or xt_NFQUEUE"
    )]
    Queueing,
    /// `nft_queue`, where the NFQUEUE target stands in.
    #[error(
        "this kernel has no nft_queue; content rules and [dns] are enforced by one iptables rule instead: load nft_queue to do without iptables"
    )]
    NftQueue,
    /// `ip6tables`, where it would have to stand in.
    #[error(
        "the ip6tables program is missing, so content rules and [dns] are not enforced for IPv6; for IPv4 they are: install iptables with IPv6"
    )]
    Ip6tables,
    /// `nfnetlink_queue`.
    #[error(
        "this kernel has no nfnetlink_queue, so content rules and [dns] are not enforced; all other rules are: load nfnetlink_queue or use a kernel with it"
    )]
    Nfqueue,
    /// `nfnetlink_log`.
    #[error(
        "this kernel has no nfnetlink_log, so detectors and history see nothing of what the kernel decides; rules are enforced all the same: load nfnetlink_log or use a kernel with it"
    )]
    Nflog,
    /// `nf_conntrack_netlink`.
    #[error(
        "this kernel has no nf_conntrack_netlink, so connections are not listed and a ban does not cut them; new packets are dropped all the same: load nf_conntrack_netlink or use a kernel with it"
    )]
    Conntrack,
}

/// The oldest nft that understands what is compiled.
const OLDEST_NFT: Version = [1, 0, 0];

impl Host {
    /// Everything that is known to be missing, the weightiest first. What could not be tried is not named.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let mut found = Vec::new();
        let mut note = |absent: bool, missing| {
            if absent {
                found.push(missing);
            }
        };
        note(!self.net_admin, Missing::NetAdmin);
        note(!self.net_raw, Missing::NetRaw);
        match &self.nft {
            None => note(true, Missing::Nft),
            Some(nft) => {
                if let Some(version) = nft.version {
                    note(version < OLDEST_NFT, Missing::NftVersion { found: version });
                }
            }
        }
        note(self.nf_tables == Support::No, Missing::NfTables);
        if self.nft_queue == Support::No {
            match (self.nfqueue_target, &self.iptables) {
                (Support::Yes, _) => {
                    note(true, Missing::NftQueue);
                    note(!self.ip6tables, Missing::Ip6tables);
                }
                (Support::No, _) | (_, None) => note(true, Missing::Queueing),
                (Support::Unknown, Some(_)) => note(true, Missing::NftQueue),
            }
        }
        note(self.nfqueue == Support::No, Missing::Nfqueue);
        note(self.nflog == Support::No, Missing::Nflog);
        note(self.conntrack == Support::No, Missing::Conntrack);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Tool, Variant};
    use super::*;

    fn complete() -> Host {
        let tool = Tool {
            path: "/usr/sbin/x".into(),
            version: Some([1, 0, 6]),
        };
        Host {
            net_admin: true,
            net_raw: true,
            nft: Some(tool.clone()),
            iptables: Some((tool, Variant::Nft)),
            ip6tables: true,
            nf_tables: Support::Yes,
            nft_queue: Support::Yes,
            nfqueue_target: Support::Yes,
            nfqueue: Support::Yes,
            queue_conntrack: Support::No,
            nflog: Support::Yes,
            conntrack: Support::Yes,
        }
    }

    #[test]
    fn each_absence_is_named_and_nothing_else() {
        type Change = fn(&mut Host);
        let cases: [(Change, &[Missing]); 11] = [
            (|_| {}, &[]),
            (|host| host.net_admin = false, &[Missing::NetAdmin]),
            (|host| host.net_raw = false, &[Missing::NetRaw]),
            (|host| host.nft = None, &[Missing::Nft]),
            (
                |host| {
                    host.nft
                        .iter_mut()
                        .for_each(|nft| nft.version = Some([0, 9, 8]))
                },
                &[Missing::NftVersion { found: [0, 9, 8] }],
            ),
            (
                |host| (host.nf_tables, host.nft_queue) = (Support::No, Support::Unknown),
                &[Missing::NfTables],
            ),
            (|host| host.nft_queue = Support::No, &[Missing::NftQueue]),
            (
                |host| (host.nft_queue, host.ip6tables) = (Support::No, false),
                &[Missing::NftQueue, Missing::Ip6tables],
            ),
            (
                |host| (host.nft_queue, host.nfqueue_target) = (Support::No, Support::No),
                &[Missing::Queueing],
            ),
            (
                |host| {
                    (host.nft_queue, host.nfqueue_target, host.iptables) =
                        (Support::No, Support::Unknown, None)
                },
                &[Missing::Queueing],
            ),
            (
                |host| {
                    (host.nfqueue, host.nflog, host.conntrack) =
                        (Support::No, Support::No, Support::No)
                },
                &[Missing::Nfqueue, Missing::Nflog, Missing::Conntrack],
            ),
        ];
        for (n, (change, expected)) in cases.into_iter().enumerate() {
            let mut host = complete();
            change(&mut host);
            assert_eq!(host.missing(), expected, "case {n}");
        }
    }
}
