//! Linux backends: capture, nftables, NFLOG, NFQUEUE, replay

pub mod capture;
pub mod conntrack;
pub mod datapath;
pub mod fake;
mod hook;
pub mod interfaces;
pub mod netlink;
pub mod nflog;
pub mod nfqueue;
pub mod nft;
pub mod probe;
pub mod replay;
pub mod reply;
pub mod source;
pub mod tag;
