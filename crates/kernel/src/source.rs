//! Where packets come from: what a live capture and a capture file have in common.
//!
//! A [`Source`] lends one packet at a time out of its own memory, so that reading costs no allocation. What the bytes mean is
//! the `wire` crate's business.

use std::io;
use std::path::PathBuf;

use policy::{Direction, Timestamp};
use wire::Link;

/// Something that yields packets in the order they were captured.
pub trait Source {
    /// The next packet, borrowed until the next call; `None` at the end of a file, or when a live source's wait passed
    /// without a packet.
    ///
    /// # Errors
    /// The source cannot go on. Damage inside a capture file is no error: it ends the packets, and shows in the warnings.
    fn next(&mut self) -> Result<Option<Captured<'_>>, SourceError>;

    /// What was lost so far, as far as the source can know.
    fn losses(&self) -> Losses {
        Losses::default()
    }

    /// How many bytes of the input are read, and how many there are; `None` where there is no end.
    fn progress(&self) -> Option<(u64, u64)> {
        None
    }
}

/// One packet as it was captured.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// When it was captured. May run backwards from one packet to the next.
    pub timestamp: Timestamp,
    /// What the first byte belongs to; `None` for a link layer that is not read, which is still counted.
    pub link: Option<Link>,
    /// The link layer's number (<https://www.tcpdump.org/linktypes.html>).
    pub linktype: u32,
    /// The captured bytes.
    pub bytes: &'a [u8],
    /// Length on the wire; never below `bytes.len()`.
    pub wire_len: usize,
    /// To or from this host, where the source knows it.
    pub direction: Option<Direction>,
    /// Name of the interface, where the source knows it. Not sanitised: a file may say anything.
    pub interface: Option<&'a str>,
    /// The transport checksum is not filled in yet, as for what is sent with checksum offload: it proves nothing.
    pub checksum_unfilled: bool,
}

/// What did not arrive, counted from the opening of the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Packets that the kernel dropped because they were not read in time.
    pub dropped: u64,
    /// Packets of which only a part arrived.
    pub truncated: u64,
    /// Messages that could not be understood.
    pub malformed: u64,
}

/// Why a source cannot be opened or read on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The capture file cannot be opened.
    #[error("cannot open {}: {source}; check the path and its permissions", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why it cannot.
        source: io::Error,
    },
    /// The capture file cannot be read on.
    #[error("cannot read on at byte {at}: {source}; check the disk or the pipe that it comes from")]
    Read {
        /// How far reading came, in bytes.
        at: u64,
        /// Why it cannot.
        source: io::Error,
    },
    /// The input is neither pcap nor pcapng.
    #[error("this is {what}, not a capture; {mend}")]
    NotACapture {
        /// What it is or seems to be.
        what: &'static str,
        /// What to do about it.
        mend: &'static str,
    },
    /// The process may not capture.
    #[error(
        "capturing needs CAP_NET_RAW; run as root, or give the binary that capability, or replay a capture file"
    )]
    NotPermitted,
    /// There is no such interface.
    #[error("there is no interface {name:?}; `ip link` lists them")]
    NoInterface {
        /// The name that was asked for.
        name: String,
    },
    /// The captured interface went down or away.
    #[error("the interface {name:?} went down; set it up and capture again")]
    Down {
        /// The interface.
        name: String,
    },
    /// The kernel refused to set up the capture or to go on with it.
    #[error(
        "cannot {action} for a capture: {source}; check that the kernel has CONFIG_PACKET and memory to lock"
    )]
    Kernel {
        /// What was tried, as a verb.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}
