//! A flood from millions of sources at millions of packets a second: an XDP program that gives each copy of a frame another source and
//! sends it out of a device, run by the kernel itself (`BPF_PROG_TEST_RUN` with live frames, kernel 5.18, Documentation/bpf/bpf_prog_run.rst).
#![allow(unsafe_code, reason = "bpf(2) takes pointers")]

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context, ensure};
use nix::errno::Errno;
use nix::libc;

use crate::netns::Netns;

/// Frames that the kernel makes at once; less than a ring of veth holds.
const BATCH: u32 = 64;
/// Copies of one system call, which cannot be interrupted.
const CALL: u32 = 1 << 16;
/// The sources: 68.0.0.0/6, 2²⁶ addresses.
const FIRST_SOURCE: i32 = 0x4400_0000;
const SOURCES: i32 = 0x03ff_ffff;
/// Where an IPv4 header behind Ethernet has its identification and source, and TCP its sequence number's lower half.
const IDENTIFICATION: i16 = 14 + 4;
const SOURCE: i16 = 14 + 12;
const TCP_SEQUENCE: i16 = 14 + 20 + 6;

/// Sends frames whose sources are drawn at random from 2²⁶ addresses (68.0.0.0/6).
pub struct LiveFrames {
    program: OwnedFd,
    frame: Vec<u8>,
}

/// One instruction of the kernel's virtual machine (`struct bpf_insn`).
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn op(code: u8, target: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: target | source << 4,
        offset,
        immediate,
    }
}

/// `bpf_attr` of `BPF_PROG_LOAD`, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    rest: [u32; 6],
}

/// `bpf_attr` of `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    returned: u32,
    data_size: u32,
    data_out_size: u32,
    data: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size: u32,
    context_out_size: u32,
    context: u64,
    context_out: u64,
    flags: u32,
    processor: u32,
    batch: u32,
    rest: u32,
}

impl LiveFrames {
    /// Ready to send copies of this Ethernet frame, with an IPv4 header without options and valid checksums, out of `device`. Where it
    /// carries TCP the sequence number changes with the source, so that the checksum stays valid; of UDP the checksum has to be 0.
    /// The device at the other end of a veth must have generic receive offload switched on, or packets sent so are dropped.
    ///
    /// # Errors
    /// There is no such device, the frame is too short, or the kernel refuses the program.
    pub fn new(netns: &Netns, device: &str, frame: &[u8]) -> anyhow::Result<Self> {
        let is_tcp = frame.get(23).context("no IPv4 header in the frame")? == &6;
        ensure!(
            frame.len() >= if is_tcp { 54 } else { 34 },
            "the frame is cut"
        );
        let index = netns
            .enter(|| nix::net::if_::if_nametoindex(device))?
            .with_context(|| format!("no device {device}"))?;
        let frame = zeroed(frame, is_tcp)?;
        Ok(Self {
            program: load(index.try_into()?, is_tcp)?,
            frame,
        })
    }

    /// Sends so many copies, at least; ends when `go_on` says no.
    ///
    /// # Errors
    /// The kernel cannot run programs on live frames.
    pub fn send(
        &self,
        netns: &Netns,
        count: u64,
        mut go_on: impl FnMut() -> bool,
    ) -> anyhow::Result<u64> {
        let mut request = TestRun {
            program: self.program.as_raw_fd().try_into()?,
            data_size: self.frame.len().try_into()?,
            data: self.frame.as_ptr() as u64,
            repeat: CALL,
            flags: 1 << 1,
            batch: BATCH,
            ..TestRun::default()
        };
        let mut sent = 0;
        while sent < count && go_on() {
            netns
                .enter(|| bpf(10, &mut request))?
                .context("BPF_PROG_TEST_RUN on live frames")?;
            sent += u64::from(CALL);
        }
        Ok(sent)
    }
}

/// The frame with the bytes at zero that the program writes, and the checksums as they are then for a source of zero.
fn zeroed(frame: &[u8], is_tcp: bool) -> anyhow::Result<Vec<u8>> {
    let mut zeroed = frame.to_vec();
    let mut clear = |at: i16, count: usize, checksum: usize| -> anyhow::Result<()> {
        let at = usize::try_from(at)?;
        for place in (at..at + count).step_by(2) {
            let word = u16::from_be_bytes([zeroed[place], zeroed[place + 1]]);
            let old = u16::from_be_bytes([zeroed[checksum], zeroed[checksum + 1]]);
            // RFC 1624, equation 3, for a new word of 0.
            let sum = u32::from(!old) + u32::from(!word);
            let sum = !((sum & 0xffff) as u16).wrapping_add((sum >> 16) as u16);
            zeroed[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
        }
        Ok(())
    };
    clear(IDENTIFICATION, 2, 24)?;
    clear(SOURCE, 4, 24)?;
    if is_tcp {
        clear(SOURCE, 4, 50)?;
        clear(TCP_SEQUENCE, 2, 50)?;
    }
    zeroed[18..20].fill(0);
    zeroed[26..30].fill(0);
    if is_tcp {
        zeroed[40..42].fill(0);
    }
    Ok(zeroed)
}

/// Puts a random source into the frame, and the complement of its two halves' sum elsewhere in it, so that no checksum changes.
fn load(device: i32, is_tcp: bool) -> anyhow::Result<OwnedFd> {
    const RANDOM: i32 = 7;
    const REDIRECT: i32 = 23;
    let mut code = vec![
        op(0xbf, 6, 1, 0, 0),                            // r6 = r1
        op(0x85, 0, 0, 0, RANDOM),                       // r0 = bpf_get_prandom_u32()
        op(0x61, 2, 6, 0, 0),                            // r2 = data
        op(0x61, 3, 6, 4, 0),                            // r3 = data_end
        op(0xbf, 4, 2, 0, 0),                            // r4 = r2
        op(0x07, 4, 0, 0, if is_tcp { 54 } else { 34 }), // r4 += length
        op(0x2d, 4, 3, if is_tcp { 19 } else { 18 }, 0), // if r4 > r3 goto the end
        op(0x54, 0, 0, 0, SOURCES),                      // w0 &= mask
        op(0x44, 0, 0, 0, FIRST_SOURCE),                 // w0 |= network
        op(0xbf, 5, 0, 0, 0),                            // r5 = r0
        op(0xdc, 0, 0, 0, 32),                           // r0 = htobe32(r0)
        op(0x63, 2, 0, SOURCE, 0),                       // source = r0
        op(0xbf, 4, 5, 0, 0),                            // r4 = r5
        op(0x57, 4, 0, 0, 0xffff),                       // r4 &= 0xffff
        op(0x77, 5, 0, 0, 16),                           // r5 >>= 16
        op(0x0f, 4, 5, 0, 0),                            // r4 += r5
        op(0xbf, 5, 4, 0, 0),                            // r5 = r4
        op(0x77, 5, 0, 0, 16),                           // r5 >>= 16
        op(0x0f, 4, 5, 0, 0),                            // r4 += r5
        op(0xa7, 4, 0, 0, 0xffff),                       // r4 ^= 0xffff
        op(0xdc, 4, 0, 0, 16),                           // r4 = htobe16(r4)
        op(0x6b, 2, 4, IDENTIFICATION, 0),               // identification = r4
    ];
    if is_tcp {
        code.push(op(0x6b, 2, 4, TCP_SEQUENCE, 0)); // lower half of the sequence number = r4
    }
    code.extend([
        op(0xb7, 1, 0, 0, device),   // r1 = device
        op(0xb7, 2, 0, 0, 0),        // r2 = 0
        op(0x85, 0, 0, 0, REDIRECT), // r0 = bpf_redirect(r1, r2)
        op(0x95, 0, 0, 0, 0),        // return r0
    ]);
    let mut log = vec![0_u8; 65_536];
    let mut request = Load {
        program_type: 6,
        instructions: code.len().try_into()?,
        code: code.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log_level: 1,
        log_size: log.len().try_into()?,
        log: log.as_mut_ptr() as u64,
        ..Load::default()
    };
    let number = bpf(5, &mut request).with_context(|| {
        let said: Vec<u8> = log.iter().copied().take_while(|&byte| byte != 0).collect();
        format!(
            "the kernel refuses the program: {}",
            String::from_utf8_lossy(&said)
        )
    })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// bpf(2). The pointers in the request are to memory that outlives the call: each caller holds what they point to.
fn bpf<T>(command: libc::c_int, request: &mut T) -> Result<i32, Errno> {
    // SAFETY: the request is a valid `bpf_attr` of its size for the command, and is written to within it alone.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(request),
            size_of::<T>(),
        )
    };
    Errno::result(done).map(|number| number as i32)
}
