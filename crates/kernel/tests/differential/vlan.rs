//! Takes VLAN tags off what comes in by an interface, as a VLAN device would, on kernels without VLAN devices: a BPF program
//! of three instructions at the interface's tcx ingress hook.
#![allow(unsafe_code, reason = "the bpf system call has no wrapper")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `bpf_skb_vlan_pop` (include/uapi/linux/bpf.h).
const VLAN_POP: i32 = 19;
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const ATTACH_TCX_INGRESS: u32 = 46;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    rest: [u64; 12],
}

#[repr(C)]
#[derive(Default)]
struct Link {
    program: u32,
    interface: u32,
    attach: u32,
    flags: u32,
    rest: [u64; 8],
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are a zero-padded `union bpf_attr` of this size, and what they point to lives for the call.
    let raw = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    let raw = i32::try_from(raw).unwrap_or(-1);
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call gave a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Begins to take tags off; ends when the descriptor is closed.
pub(crate) fn pop_tags(interface: &str) -> io::Result<OwnedFd> {
    // call VLAN_POP; r0 = TC_ACT_OK; exit
    let instruction =
        |code: u8, immediate: i32| -> u64 { u64::from(code) | u64::from(immediate as u32) << 32 };
    let code = [
        instruction(0x85, VLAN_POP),
        instruction(0xb7, 0),
        instruction(0x95, 0),
    ];
    let license = c"GPL";
    let load = Load {
        kind: PROG_TYPE_SCHED_CLS,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    let program = bpf(PROG_LOAD, &load)?;
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: a C string that lives for the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    let link = Link {
        program: program.as_raw_fd() as u32,
        interface: index,
        attach: ATTACH_TCX_INGRESS,
        ..Link::default()
    };
    bpf(LINK_CREATE, &link)
}
