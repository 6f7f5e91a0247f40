//! Linux backends: capture, nftables, NFLOG, NFQUEUE, replay

pub mod netlink;
