//! Netlink: how this crate talks with the kernel's nfnetlink, conntrack and routing parts.
//!
//! [`Builder`] writes messages, [`Messages`] and [`Attributes`] read them without copying and without ever panicking, and
//! [`Socket`] carries them. The meaning of what is carried belongs to the callers (`nflog`, `nfqueue`, `conntrack`,
//! `interfaces`, `nft`).
//!
//! ```no_run
//! use portcullis_kernel::netlink::{Builder, Netfilter, Socket};
//!
//! # fn main() -> Result<(), portcullis_kernel::netlink::NetlinkError> {
//! let mut socket = Socket::open(libc::NETLINK_NETFILTER)?;
//! let mut request = Builder::new();
//! request
//!     .netfilter(Netfilter { subsystem: 10, message: 0, flags: libc::NLM_F_ACK as u16, family: 1, resource: 0 })
//!     .string(1, "portcullis")
//!     .nest(2, |inside| {
//!         inside.be32(1, 7);
//!     });
//! socket.request(&request.finish()?)?; // waits for the acknowledgement
//! # Ok(())
//! # }
//! ```

mod batch;
mod builder;
mod reader;
mod socket;

use std::io;
use std::time::Duration;

pub use batch::ReceiveBatch;
pub use builder::{Builder, Netfilter};
pub(crate) use reader::timestamp;
pub use reader::{Attribute, Attributes, Message, Messages, NetfilterHeader};
pub use socket::Socket;
pub(crate) use socket::wait_readable;

/// What can go wrong between this process and the kernel over netlink.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// A system call on the socket failed.
    #[error("cannot {action} a netlink socket: {source}; run as root or grant CAP_NET_ADMIN")]
    Socket {
        /// What was tried, as a verb.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel answered a request with an error.
    #[error("the kernel refused netlink message {index} of the request: {source}{}{}", if detail.is_empty() { "" } else { ": " }, detail)]
    Refused {
        /// Which message of the request, counted from 0.
        index: usize,
        /// The kernel's error code.
        source: io::Error,
        /// The kernel's own words (extended acknowledgement); empty where it gave none.
        detail: String,
        /// Offset in the message of the attribute that the kernel objects to, where it says so.
        offset: Option<u32>,
    },
    /// No answer came in time.
    #[error(
        "the kernel did not answer a netlink request within {after:?}; try again, the machine may be overloaded"
    )]
    NoAnswer {
        /// How long was waited.
        after: Duration,
    },
    /// The receive buffer overflowed and messages were lost.
    #[error(
        "the kernel dropped netlink messages because they were not read in time; read again from the start"
    )]
    Overrun,
    /// What was listed changed while it was being listed.
    #[error("the kernel's table changed while it was being read; read again from the start")]
    Changed,
    /// A message or attribute is longer than its length field can say.
    #[error(
        "a netlink attribute of {length} bytes is longer than 65,535; send fewer elements in one message"
    )]
    TooLong {
        /// The length it would have had, in bytes.
        length: usize,
    },
    /// The kernel's answer is not what the request asks for.
    #[error(
        "the kernel answered a netlink request with something that is not netlink ({what}); update the kernel or report it"
    )]
    Malformed {
        /// What was wrong with it.
        what: &'static str,
    },
}

impl NetlinkError {
    /// The kernel's error code, where it gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket { source, .. } | Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// What was missing for a request to a part of netfilter, where that is why it failed.
    #[must_use]
    pub fn lack(&self) -> Option<Lack> {
        match (self.errno()?, self) {
            (libc::EPERM | libc::EACCES, _) => Some(Lack::Permission),
            (libc::EPROTONOSUPPORT | libc::EOPNOTSUPP, _) => Some(Lack::Support),
            // nfnetlink has no handler for the subsystem.
            (libc::EINVAL, Self::Refused { .. }) => Some(Lack::Support),
            _ => None,
        }
    }
}

/// What a request lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The process may not.
    Permission,
    /// The kernel cannot.
    Support,
}
