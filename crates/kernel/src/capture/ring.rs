//! The memory that the kernel writes packets to: TPACKET_V3 blocks (`linux/if_packet.h`, Documentation/networking/packet_mmap.rst).
//!
//! A block belongs either to the kernel or to us, as its status word says. It is given back when the packet after its last one
//! is asked for, so that a packet lent out stays in place until then.
#![allow(unsafe_code, reason = "the ring is memory shared with the kernel")]

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use policy::Timestamp;

use super::TAG;

/// Size of a block in bytes: room for many packets, the largest of which are some 64 KiB.
const BLOCK: usize = 1024 * 1024;
/// Only used by the kernel to check its arithmetic: packets of any size follow one another in a block.
const FRAME: usize = 2048;

/// Offsets in `tpacket_block_desc`.
const STATUS: usize = 8;
const PACKETS: usize = 12;
const FIRST: usize = 16;
/// Length of `tpacket3_hdr`, after which the `sockaddr_ll` stands.
const HEADER: usize = 48;
const ADDRESS: usize = 20;

pub(super) struct Ring {
    start: NonNull<u8>,
    blocks: usize,
    /// The block that is read, or that is waited for.
    current: usize,
    /// What is left of it; `None` while it is the kernel's.
    open: Option<Open>,
}

#[derive(Clone, Copy)]
struct Open {
    packets: u32,
    offset: usize,
}

/// One packet's place and what the kernel says about it.
pub(super) struct Slot {
    pub(super) timestamp: Timestamp,
    pub(super) captured: usize,
    pub(super) wire_len: usize,
    pub(super) interface: u32,
    /// `ARPHRD_*`.
    pub(super) hardware: u16,
    /// `PACKET_*`.
    pub(super) packet_type: u8,
    pub(super) checksum_unfilled: bool,
    place: Range<usize>,
}

impl Slot {
    /// What a host sends to itself is seen going out and coming in.
    pub(super) const fn is_loopback_copy(&self) -> bool {
        self.hardware == libc::ARPHRD_LOOPBACK && self.packet_type == libc::PACKET_OUTGOING
    }
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// The request for a ring of at least `bytes`, whose blocks are handed over after `patience` milliseconds.
    pub(super) fn request(bytes: usize, patience: u32) -> libc::tpacket_req3 {
        let blocks = bytes.div_ceil(BLOCK).clamp(2, 4096) as u32;
        libc::tpacket_req3 {
            tp_block_size: BLOCK as u32,
            tp_block_nr: blocks,
            tp_frame_size: FRAME as u32,
            tp_frame_nr: blocks * (BLOCK / FRAME) as u32,
            tp_retire_blk_tov: patience,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        }
    }

    /// Maps the ring that was requested on `fd`.
    pub(super) fn map(fd: BorrowedFd<'_>, request: &libc::tpacket_req3) -> io::Result<Ring> {
        let blocks = request.tp_block_nr as usize;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address that the kernel chooses overlaps nothing.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                blocks * BLOCK,
                access,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Ring {
            start,
            blocks,
            current: 0,
            open: None,
        })
    }

    /// Goes to the next packet; `None` when the kernel has none ready.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Slot> {
        loop {
            let open = match self.open {
                Some(open) if open.packets > 0 => open,
                Some(_) => {
                    self.release();
                    continue;
                }
                None => {
                    let block = self.block()?;
                    Open {
                        packets: word(block, PACKETS),
                        offset: word(block, FIRST) as usize,
                    }
                }
            };
            self.open = Some(Open { packets: 0, ..open });
            if open.packets == 0 {
                continue;
            }
            let block = self.block()?;
            // A header outside its block would be a broken kernel: the rest of the block is given up.
            if let Some((slot, next)) = read(block, open.offset) {
                self.open = Some(Open {
                    packets: open.packets - 1,
                    offset: next,
                });
                return Some(slot);
            }
        }
    }

    /// The bytes of the packet that [`Ring::next`] gave last.
    #[inline]
    pub(super) fn bytes(&mut self, slot: &Slot) -> &[u8] {
        self.block()
            .and_then(|block| block.get(slot.place.clone()))
            .unwrap_or_default()
    }

    /// The current block, if it is ours.
    #[inline]
    fn block(&mut self) -> Option<&mut [u8]> {
        // TP_STATUS_USER; the other bits tell of losses and timeouts, which are counted elsewhere.
        if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the block lies inside the mapping, as `current < blocks`. Its status says that it is ours, so the kernel
        // neither reads nor writes it until `release`, which needs `&mut self` and hence the end of this borrow. The
        // acquire above makes what the kernel wrote before visible.
        Some(unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr().add(self.current * BLOCK), BLOCK)
        })
    }

    /// Gives the current block back and goes to the next.
    fn release(&mut self) {
        self.status()
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.current = (self.current + 1) % self.blocks;
        self.open = None;
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: the word lies inside the mapping, as `current < blocks`, is aligned, since blocks are page-aligned and
        // STATUS is a multiple of 4, and is accessed by both sides as an atomic word only: slices of a block are gone
        // before this is called, as both borrow `self`.
        unsafe {
            AtomicU32::from_ptr(
                self.start
                    .as_ptr()
                    .add(self.current * BLOCK + STATUS)
                    .cast(),
            )
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made; nothing borrowed from it outlives `self`.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.blocks * BLOCK);
        }
    }
}

/// Reads the packet at `offset` and puts its VLAN tag back; returns it with the offset of the next.
#[inline]
fn read(block: &mut [u8], offset: usize) -> Option<(Slot, usize)> {
    let head = block.get(offset..)?.get(..HEADER + ADDRESS)?;
    let (mut captured, mut wire_len) = (word(head, 12) as usize, word(head, 16) as usize);
    let status = word(head, 20);
    let mut start = offset + usize::from(half(head, 24));
    let (tag, tag_type) = (word(head, 32) as u16, half(head, 36));
    let (hardware, packet_type) = (half(head, HEADER + 8), head[HEADER + 10]);
    let interface = word(head, HEADER + 4);
    let nanos = u64::from(word(head, 4)) * 1_000_000_000 + u64::from(word(head, 8));
    let next = offset + word(head, 0) as usize;

    let tagged = status & libc::TP_STATUS_VLAN_VALID != 0;
    // The tag goes behind the two addresses; room for it was reserved before the frame.
    if tagged
        && hardware == libc::ARPHRD_ETHER
        && captured >= 12
        && start >= offset + HEADER + ADDRESS + TAG
    {
        let known = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
        let tag_type = if known {
            tag_type
        } else {
            libc::ETH_P_8021Q as u16
        };
        let frame = block.get_mut(start - TAG..start + captured)?;
        frame.copy_within(TAG..TAG + 12, 0);
        frame[12..14].copy_from_slice(&tag_type.to_be_bytes());
        frame[14..16].copy_from_slice(&tag.to_be_bytes());
        (start, captured, wire_len) = (start - TAG, captured + TAG, wire_len + TAG);
    }
    let place = start..start.checked_add(captured)?;
    block.get(place.clone())?;
    let slot = Slot {
        timestamp: Timestamp::from_nanos(nanos),
        captured,
        wire_len: wire_len.max(captured),
        interface,
        hardware,
        packet_type,
        checksum_unfilled: status & libc::TP_STATUS_CSUMNOTREADY != 0,
        place,
    };
    Some((slot, next))
}

/// A 32-bit field in the machine's order.
#[inline]
fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_ne_bytes([
        bytes[offset],
        bytes[offset + 1],
        bytes[offset + 2],
        bytes[offset + 3],
    ])
}

/// A 16-bit field in the machine's order.
#[inline]
fn half(bytes: &[u8], offset: usize) -> u16 {
    u16::from_ne_bytes([bytes[offset], bytes[offset + 1]])
}
