//! Who holds our table for himself: a program that made a table of our name with `flags owner`. Until it ends the kernel lets nobody
//! else change the table (`nft_table_lookup` in net/netfilter/nf_tables_api.c), whose chains are that program's, not ours.

use crate::datapath::DatapathError;
use crate::netlink::Socket;

use super::TABLE;
use super::message::{OWNER, table};

/// Nothing, where nobody does.
///
/// # Errors
/// [`DatapathError::Held`] where somebody does; and the kernel cannot be asked.
pub(super) fn none(socket: &mut Socket) -> Result<(), DatapathError> {
    match table(socket, TABLE)? {
        Some(found) if found.flags & OWNER != 0 => Err(DatapathError::Held {
            by: name(found.owner),
        }),
        _ => Ok(()),
    }
}

/// The program behind a netlink port, which is by default the number of its process.
fn name(port: Option<u32>) -> String {
    let Some(port) = port.filter(|port| *port > 0) else {
        return "which has ended and left it (`flags persist`)".to_owned();
    };
    match std::fs::read_to_string(format!("/proc/{port}/comm")) {
        Ok(program) => format!("process {port}, {:?}", program.trim_end()),
        Err(_) => format!("netlink port {port}"),
    }
}
