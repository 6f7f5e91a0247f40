//! Linux backends: capture, nftables, NFLOG, NFQUEUE, replay

pub mod netlink;
pub mod replay;
pub mod source;
