//! Who holds our table for himself: a program that made a table of our name with `flags owner`. Until it ends the kernel lets nobody
//! else change the table (`nft_table_lookup` in net/netfilter/nf_tables_api.c), whose chains are that program's, not ours. One with `flags
//! persist` too that has ended leaves a table that nobody holds (`nft_rcv_nl_event`).

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
        // The kernel names the port of each owner.
        Some(found) if found.flags & OWNER != 0 => Err(DatapathError::Held {
            by: name(found.owner.unwrap_or_default()),
        }),
        _ => Ok(()),
    }
}

/// The program behind a netlink port. By default that is the number of its process – in the process's own PID namespace, where another
/// process may have that number here. So a process is named only where it has that socket open.
fn name(port: u32) -> String {
    match has_open(port).then(|| std::fs::read_to_string(format!("/proc/{port}/comm"))) {
        Some(Ok(program)) => format!("process {port}, {:?}", program.trim_end()),
        _ => format!("a program with netlink port {port}, perhaps in a container"),
    }
}

/// Whether the process with the number of a netlink port has the socket of that port.
fn has_open(port: u32) -> bool {
    // Ports are of a network namespace: that of this thread, where our own socket is.
    let sockets = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap_or_default();
    let Some(inode) = inode(&sockets, port) else {
        return false;
    };
    let socket = format!("socket:[{inode}]");
    let open = std::fs::read_dir(format!("/proc/{port}/fd"));
    (open.into_iter().flatten().flatten())
        .filter_map(|file| std::fs::read_link(file.path()).ok())
        .any(|file| file.as_os_str() == socket.as_str())
}

/// The inode of the netfilter socket with a port, of a listing of `/proc/net/netlink` (`netlink_native_seq_show` in
/// net/netlink/af_netlink.c): address, protocol, port, groups, two sizes, dump, references, drops and inode.
fn inode(listing: &str, port: u32) -> Option<&str> {
    listing.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let protocol: i32 = columns.next()?.parse().ok()?;
        let is_it = protocol == libc::NETLINK_NETFILTER && columns.next()?.parse() == Ok(port);
        columns.nth(6).filter(|_| is_it)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[test]
    fn the_socket_of_a_port_is_that_of_the_protocol() {
        let listing = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
                       00000000a7c1b9e2 0   4711       00000111 0        0        0     2        0        100\n\
                       000000006a2b3c4d 12  4294966584 00000000 0        0        0     2        0        200\n\
                       000000006a2b3c4d 12  4711       00000000 0        0        0     2        0        300\n";
        for (port, found) in [(4_711, Some("300")), (4_712, None), (712, None)] {
            assert_eq!(inode(listing, port), found, "{port}");
        }
    }

    /// The first process of a machine has no netfilter socket, and a container's first one has its number.
    #[test]
    fn who_has_not_the_socket_is_not_named() {
        let told = "a program with netlink port 1, perhaps in a container";
        assert_eq!(name(1), told);
    }

    #[test]
    fn who_has_the_socket_is_named() {
        let me = std::process::id();
        // The first socket of a process has its number, and another test may just have had that.
        assert!((0..100).any(|_| {
            let _socket = Socket::open(libc::NETLINK_NETFILTER).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(10));
            name(me).starts_with(&format!("process {me}, "))
        }));
    }
}
