//! Linux backends: capture, nftables, NFLOG, NFQUEUE, replay

pub mod capture;
pub mod datapath;
pub mod netlink;
pub mod nfqueue;
pub mod nft;
pub mod replay;
pub mod source;
pub mod tag;
