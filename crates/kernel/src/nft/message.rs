//! nf_tables messages: the numbers of `linux/netfilter/nf_tables.h` that are used here, and how requests and transactions
//! are put together.

use crate::netlink::{Builder, Message, Netfilter, NetlinkError, Socket};

use super::TABLE;

/// `NFPROTO_INET`.
pub(super) const INET: u8 = 1;
const SUBSYSTEM: u8 = libc::NFNL_SUBSYS_NFTABLES as u8;

/// Flags of a set (`NFT_SET_*`).
pub(super) mod set_flag {
    pub(in super::super) const ANONYMOUS: u32 = 0x1;
    pub(in super::super) const MAP: u32 = 0x8;
    pub(in super::super) const TIMEOUT: u32 = 0x10;
    pub(in super::super) const DYNAMIC: u32 = 0x20;
}

/// Attributes (`NFTA_*`), by what they belong to.
pub(super) mod attribute {
    pub(in super::super) const CHAIN_TABLE: u16 = 1;
    pub(in super::super) const CHAIN_HANDLE: u16 = 2;
    pub(in super::super) const CHAIN_NAME: u16 = 3;
    pub(in super::super) const CHAIN_HOOK: u16 = 4;
    pub(in super::super) const HOOK_PRIORITY: u16 = 2;
    pub(in super::super) const CHAIN_POLICY: u16 = 5;
    pub(in super::super) const CHAIN_TYPE: u16 = 7;
    pub(in super::super) const CHAIN_FLAGS: u16 = 10;
    pub(in super::super) const CHAIN_USERDATA: u16 = 12;
    pub(in super::super) const RULE_TABLE: u16 = 1;
    pub(in super::super) const RULE_CHAIN: u16 = 2;
    pub(in super::super) const RULE_HANDLE: u16 = 3;
    pub(in super::super) const RULE_EXPRESSIONS: u16 = 4;
    pub(in super::super) const SET_TABLE: u16 = 1;
    pub(in super::super) const SET_NAME: u16 = 2;
    pub(in super::super) const SET_FLAGS: u16 = 3;
    pub(in super::super) const SET_DESC: u16 = 9;
    pub(in super::super) const SET_DESC_SIZE: u16 = 1;
    pub(in super::super) const SET_TIMEOUT: u16 = 11;
    pub(in super::super) const SET_HANDLE: u16 = 16;
    pub(in super::super) const OBJECT_TABLE: u16 = 1;
    pub(in super::super) const OBJECT_NAME: u16 = 2;
    pub(in super::super) const OBJECT_TYPE: u16 = 3;
    pub(in super::super) const OBJECT_DATA: u16 = 4;
    pub(in super::super) const COUNTER_BYTES: u16 = 1;
    pub(in super::super) const COUNTER_PACKETS: u16 = 2;
    pub(in super::super) const LIST_TABLE: u16 = 1;
    pub(in super::super) const LIST_SET: u16 = 2;
    pub(in super::super) const LIST_ELEMENTS: u16 = 3;
    pub(in super::super) const LIST_ELEMENT: u16 = 1;
    pub(in super::super) const ELEMENT_KEY: u16 = 1;
    pub(in super::super) const ELEMENT_DATA: u16 = 2;
    pub(in super::super) const ELEMENT_FLAGS: u16 = 3;
    pub(in super::super) const ELEMENT_TIMEOUT: u16 = 4;
    pub(in super::super) const ELEMENT_EXPIRATION: u16 = 5;
    pub(in super::super) const ELEMENT_EXPRESSION: u16 = 7;
    pub(in super::super) const EXPRESSION_NAME: u16 = 1;
    pub(in super::super) const EXPRESSION_DATA: u16 = 2;
    pub(in super::super) const DYNSET_SET_NAME: u16 = 1;
    pub(in super::super) const DYNSET_EXPRESSION: u16 = 7;
    pub(in super::super) const DATA_VALUE: u16 = 1;
    pub(in super::super) const GENERATION_ID: u16 = 1;
    pub(in super::super) const TABLE_NAME: u16 = 1;
    pub(in super::super) const TABLE_FLAGS: u16 = 2;
    pub(in super::super) const TABLE_OWNER: u16 = 7;
}

/// `NFT_TABLE_F_DORMANT`: the chains of the table are not hooked up.
pub(super) const DORMANT: u32 = 1;
/// `NFT_TABLE_F_OWNER`: nobody but the socket that made the table may change it.
pub(super) const OWNER: u32 = 2;
/// `NFT_OBJECT_COUNTER`.
pub(super) const OBJECT_COUNTER: u32 = 1;
/// `NFT_SET_ELEM_INTERVAL_END`.
pub(super) const INTERVAL_END: u32 = 1;

/// Begins a message of a kind (`NFT_MSG_*`).
pub(super) fn begin(builder: &mut Builder, message: i32, flags: i32, family: u8) -> &mut Builder {
    builder.netfilter(Netfilter {
        subsystem: SUBSYSTEM,
        message: message as u8,
        flags: flags as u16,
        family,
        resource: 0,
    })
}

/// Lists all objects of a kind; `write` may add a filter.
pub(super) fn list(
    socket: &mut Socket,
    message: i32,
    family: u8,
    write: impl FnOnce(&mut Builder),
    each: impl FnMut(Message<'_>),
) -> Result<(), NetlinkError> {
    let mut builder = Builder::new();
    write(begin(&mut builder, message, libc::NLM_F_DUMP, family));
    socket.dump(&builder.finish()?, each)
}

/// Sends messages as one transaction.
pub(super) fn transaction(
    socket: &mut Socket,
    write: impl FnOnce(&mut Builder),
) -> Result<(), NetlinkError> {
    let mark = |builder: &mut Builder, message: i32| {
        builder.netfilter(Netfilter {
            subsystem: 0,
            message: message as u8,
            flags: 0,
            family: 0,
            resource: u16::from(SUBSYSTEM),
        });
    };
    let mut builder = Builder::new();
    mark(&mut builder, libc::NFNL_MSG_BATCH_BEGIN);
    write(&mut builder);
    mark(&mut builder, libc::NFNL_MSG_BATCH_END);
    socket.request(&builder.finish()?)
}

/// The generation of the ruleset: another one after every committed transaction, whoever made it.
pub(super) fn generation(socket: &mut Socket) -> Result<u32, NetlinkError> {
    let mut builder = Builder::new();
    begin(&mut builder, libc::NFT_MSG_GETGEN, libc::NLM_F_ACK, 0);
    let mut generation = None;
    socket.exchange(&builder.finish()?, |message| {
        let found = message
            .netfilter()
            .and_then(|(_, attributes)| attributes.get(attribute::GENERATION_ID));
        generation = generation.or(found.and_then(|id| id.be32()));
    })?;
    generation.ok_or(NetlinkError::Malformed {
        what: "a generation without a number",
    })
}

/// Whether our table is there.
pub(super) fn table_exists(socket: &mut Socket) -> Result<bool, NetlinkError> {
    table_is_there(socket, TABLE)
}

/// Whether a table is there.
pub(super) fn table_is_there(socket: &mut Socket, name: &str) -> Result<bool, NetlinkError> {
    table(socket, name).map(|found| found.is_some())
}

/// What the kernel says of a table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Table {
    /// `NFT_TABLE_F_*`.
    pub(super) flags: u32,
    /// The netlink port of who has it for himself.
    pub(super) owner: Option<u32>,
}

/// A table; `None` when it is not there.
pub(super) fn table(socket: &mut Socket, name: &str) -> Result<Option<Table>, NetlinkError> {
    let mut builder = Builder::new();
    begin(&mut builder, libc::NFT_MSG_GETTABLE, libc::NLM_F_ACK, INET)
        .string(attribute::TABLE_NAME, name);
    let mut found = Table::default();
    let told = socket.exchange(&builder.finish()?, |message| {
        let number = |kind| {
            let (_, attributes) = message.netfilter()?;
            attributes.get(kind)?.be32()
        };
        found.flags |= number(attribute::TABLE_FLAGS).unwrap_or_default();
        found.owner = found.owner.or(number(attribute::TABLE_OWNER));
    });
    match told {
        Ok(()) => Ok(Some(found)),
        Err(why) if why.errno() == Some(libc::ENOENT) => Ok(None),
        Err(why) => Err(why),
    }
}
