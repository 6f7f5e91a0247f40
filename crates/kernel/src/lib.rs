//! Linux backends: capture, nftables, NFLOG, NFQUEUE, replay

pub mod capture;
pub mod netlink;
pub mod replay;
pub mod source;
