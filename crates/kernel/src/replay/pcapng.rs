//! pcapng: blocks (draft-ietf-opsawg-pcapng). Sections of either byte order follow one another, each with interfaces of its own;
//! packets come in enhanced, simple and (obsolete) packet blocks; everything else is passed over.

use policy::{Direction, Timestamp};
use wire::Link;

use super::order::ByteOrder;
use super::window::Window;
use super::{Stop, Warning, longest_packet};
use crate::source::{Captured, SourceError};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// The shortest block: type, length, length again.
const SHORTEST: usize = 12;
/// Room for options beside a packet; a longer block is damage (libpcap allows 16 MiB in all).
const OPTIONS: u32 = 16 * 1024 * 1024;
/// The most interfaces that one section may describe, so that memory stays bounded.
const MOST_INTERFACES: usize = 65_536;
/// An interface's name is kept up to this length in bytes.
const LONGEST_NAME: usize = 256;

/// The state of one file between two blocks.
pub(super) struct Pcapng {
    order: ByteOrder,
    interfaces: Vec<Interface>,
    /// The longest block that these interfaces' packets can need, in bytes.
    longest_block: u32,
    /// The time of the last packet, for those that have none.
    last: Timestamp,
}

struct Interface {
    linktype: u32,
    link: Option<Link>,
    /// 0 is no limit.
    snap_length: u32,
    clock: Clock,
    name: Option<Box<str>>,
}

/// What an interface's timestamps count.
enum Clock {
    Nanoseconds,
    Microseconds,
    /// Units a second, and seconds to add.
    Other {
        per_second: u128,
        offset: i64,
    },
}

/// Where the fields of a packet block lie; all in bytes from the block's start.
struct Layout {
    interface: u32,
    time: Option<(u32, u32)>,
    captured: u32,
    original: u32,
    data: usize,
}

/// Does a pcapng file begin like this?
pub(super) fn recognises(head: &[u8]) -> bool {
    head.get(..4) == Some(&SECTION.to_be_bytes()) && section_order(head).is_some()
}

/// The byte order of a section header block: from its byte-order magic.
fn section_order(block: &[u8]) -> Option<ByteOrder> {
    match block.get(8..12)? {
        [0x1a, 0x2b, 0x3c, 0x4d] => Some(ByteOrder::Big),
        [0x4d, 0x3c, 0x2b, 0x1a] => Some(ByteOrder::Little),
        _ => None,
    }
}

impl Pcapng {
    /// Reads the first section header, so that a file of which nothing can be read is an error.
    pub(super) fn open(window: &mut Window) -> Result<Pcapng, SourceError> {
        let mut pcapng = Pcapng {
            order: ByteOrder::Little,
            interfaces: Vec::new(),
            longest_block: OPTIONS,
            last: Timestamp::default(),
        };
        let mend = "capture again, or repair it with `pcapfix`";
        match pcapng.block(window) {
            Ok(_) => Ok(pcapng),
            Err(Stop::Failure(failure)) => Err(failure),
            Err(Stop::Damage(Warning::Corrupt { what, .. })) => {
                Err(SourceError::NotACapture { what, mend })
            }
            Err(_) => Err(SourceError::NotACapture {
                what: "a pcapng file cut short in its header",
                mend,
            }),
        }
    }

    #[inline]
    pub(super) fn next<'w>(&'w mut self, window: &'w mut Window) -> Result<Captured<'w>, Stop> {
        let (length, layout) = loop {
            let at = window.position();
            if let Some((length, kind)) = self.block(window)? {
                let block = window.peek(length);
                break (
                    length,
                    self.layout(kind, block)
                        .map_err(|what| Stop::Damage(Warning::Corrupt { at, what }))?,
                );
            }
        };
        let block = window.take(length);
        // `layout` has checked that the interface exists and that the data lies inside the block.
        let interface = &self.interfaces[layout.interface as usize];
        let captured = layout.captured as usize;
        if let Some((high, low)) = layout.time {
            self.last = interface.clock.at(u64::from(high) << 32 | u64::from(low));
        }
        let options =
            &block[(layout.data + captured).next_multiple_of(4).min(length - 4)..length - 4];
        Ok(Captured {
            timestamp: self.last,
            link: interface.link,
            linktype: interface.linktype,
            bytes: &block[layout.data..layout.data + captured],
            wire_len: layout.original.max(layout.captured) as usize,
            direction: if layout.time.is_some() {
                direction(self.order, options)
            } else {
                None
            },
            interface: interface.name.as_deref(),
            checksum_unfilled: false,
        })
    }

    /// Reads one block. A packet block is left in the window, with its length and type returned; any other is taken.
    #[inline]
    fn block(&mut self, window: &mut Window) -> Result<Option<(usize, u32)>, Stop> {
        let at = window.position();
        let truncated = || Stop::Damage(Warning::Truncated { at });
        let corrupt = |what| Stop::Damage(Warning::Corrupt { at, what });
        match window.fill(SHORTEST)? {
            0 => return Err(Stop::End),
            SHORTEST => {}
            _ => return Err(truncated()),
        }
        let head = window.peek(SHORTEST);
        let kind = self.order.u32(head, 0);
        if kind == SECTION {
            self.order =
                section_order(head).ok_or_else(|| corrupt("a section of no known byte order"))?;
        }
        let length = self.order.u32(head, 4);
        if (length as usize) < SHORTEST || !length.is_multiple_of(4) {
            return Err(corrupt("a block of impossible length"));
        }
        let kept = matches!(
            kind,
            SECTION | INTERFACE | OLD_PACKET | SIMPLE_PACKET | ENHANCED_PACKET
        );
        if !kept {
            let skipped = window.skip(u64::from(length) - 4)?;
            if skipped < u64::from(length) - 4 || window.fill(4)? < 4 {
                return Err(truncated());
            }
            let trailer = window.take(4);
            return if self.order.u32(trailer, 0) == length {
                Ok(None)
            } else {
                Err(corrupt("a block whose two lengths differ"))
            };
        }
        if length > self.longest_block {
            return Err(corrupt("a block longer than any can be"));
        }
        let length = length as usize;
        if window.fill(length)? < length {
            return Err(truncated());
        }
        let block = window.peek(length);
        // libpcap takes a section whose second length is wrong, and so do we: nothing before it could be lost.
        if kind != SECTION && self.order.u32(block, length - 4) as usize != length {
            return Err(corrupt("a block whose two lengths differ"));
        }
        match kind {
            SECTION => {
                // 1.2 is what some writers say when they mean 1.0.
                let known = length >= 28
                    && matches!(
                        (self.order.u16(block, 12), self.order.u16(block, 14)),
                        (1, 0 | 2)
                    );
                if !known {
                    return Err(corrupt("a section of an unknown version"));
                }
                self.interfaces.clear();
                self.longest_block = OPTIONS;
            }
            INTERFACE => {
                if self.interfaces.len() >= MOST_INTERFACES {
                    return Err(corrupt("more than 65,536 interfaces"));
                }
                let interface = Interface::read(self.order, block).map_err(corrupt)?;
                self.longest_block = self
                    .longest_block
                    .max(longest_packet(interface.linktype) + OPTIONS);
                self.interfaces.push(interface);
            }
            _ => return Ok(Some((length, kind))),
        }
        window.take(length);
        Ok(None)
    }

    /// Finds a packet block's fields and checks them against the block and its interface.
    #[inline]
    fn layout(&self, kind: u32, block: &[u8]) -> Result<Layout, &'static str> {
        let fixed = if kind == SIMPLE_PACKET { 12 } else { 28 };
        if block.len() < fixed + 4 {
            return Err("a packet block too short for its fields");
        }
        let word = |offset| self.order.u32(block, offset);
        let interface = match kind {
            ENHANCED_PACKET => word(8),
            OLD_PACKET => u32::from(self.order.u16(block, 8)),
            _ => 0,
        };
        let about = self
            .interfaces
            .get(interface as usize)
            .ok_or("a packet of an interface that is not described")?;
        let (time, captured, original) = match (kind, about.snap_length) {
            (SIMPLE_PACKET, 0) => (None, word(8), word(8)),
            (SIMPLE_PACKET, limit) => (None, word(8).min(limit), word(8)),
            _ => (Some((word(12), word(16))), word(20), word(24)),
        };
        if captured > longest_packet(about.linktype) {
            return Err("a packet longer than any can be");
        }
        if captured as usize > block.len() - fixed - 4 {
            return Err("a packet longer than its block");
        }
        Ok(Layout {
            interface,
            time,
            captured,
            original,
            data: fixed,
        })
    }
}

impl Interface {
    fn read(order: ByteOrder, block: &[u8]) -> Result<Interface, &'static str> {
        const NAME: u16 = 2;
        const RESOLUTION: u16 = 9;
        const OFFSET: u16 = 14;
        if block.len() < 20 {
            return Err("an interface block too short for its fields");
        }
        let linktype = u32::from(order.u16(block, 8));
        let (mut name, mut resolution, mut offset) = (None, 6, 0);
        let mut options = Options::new(order, &block[16..block.len() - 4]);
        for (kind, value) in &mut options {
            match (kind, value) {
                (NAME, text) => name = Some(text),
                (RESOLUTION, [value, ..]) => resolution = *value,
                (OFFSET, [_, _, _, _, _, _, _, _]) => {
                    offset = order.u64(value, 0).cast_signed();
                }
                _ => {}
            }
        }
        // Without its options nobody knows what the timestamps count.
        if options.broken {
            return Err("an interface block whose options do not fit");
        }
        let name = name.map(|text| {
            let text = &text[..text.len().min(LONGEST_NAME)];
            String::from_utf8_lossy(text.split(|byte| *byte == 0).next().unwrap_or_default()).into()
        });
        let clock = Clock::new(resolution, offset);
        Ok(Interface {
            linktype,
            link: Link::from_linktype(linktype),
            snap_length: order.u32(block, 12),
            clock,
            name,
        })
    }
}

impl Clock {
    /// `resolution` as in `if_tsresol`: the negative exponent of 10, or of 2 when the highest bit is set.
    fn new(resolution: u8, offset: i64) -> Clock {
        match (resolution, offset) {
            (6, 0) => Clock::Microseconds,
            (9, 0) => Clock::Nanoseconds,
            // Finer than what fits 128 bits: every timestamp is then in the first instant.
            (exponent @ 0x80.., _) => Clock::Other {
                per_second: 1u128
                    .checked_shl((exponent & 0x7f).into())
                    .unwrap_or(u128::MAX),
                offset,
            },
            (exponent, _) => Clock::Other {
                per_second: 10u128.checked_pow(exponent.into()).unwrap_or(u128::MAX),
                offset,
            },
        }
    }

    #[inline]
    fn at(&self, count: u64) -> Timestamp {
        match *self {
            Clock::Microseconds => Timestamp::from_micros(count),
            Clock::Nanoseconds => Timestamp::from_nanos(count),
            Clock::Other { per_second, offset } => {
                // Below 2^94: a 64-bit count times less than 2^30.
                let nanos = u128::from(count) * 1_000_000_000 / per_second;
                // Both are far below 2^127, so the sum is exact; what does not fit a timestamp saturates.
                let nanos = nanos.cast_signed() + i128::from(offset) * 1_000_000_000;
                Timestamp::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
            }
        }
    }
}

/// The direction in a packet's `epb_flags` (`pack_flags` has the same number).
#[inline]
fn direction(order: ByteOrder, options: &[u8]) -> Option<Direction> {
    const FLAGS: u16 = 2;
    let (_, value) =
        Options::new(order, options).find(|(kind, value)| *kind == FLAGS && value.len() == 4)?;
    match order.u32(value, 0) & 3 {
        1 => Some(Direction::In),
        2 => Some(Direction::Out),
        _ => None,
    }
}

/// The options of a block. Ends at the end mark, and at the first that does not fit.
struct Options<'a> {
    order: ByteOrder,
    rest: &'a [u8],
    /// One did not fit.
    broken: bool,
}

impl<'a> Options<'a> {
    const fn new(order: ByteOrder, bytes: &'a [u8]) -> Options<'a> {
        Options {
            order,
            rest: bytes,
            broken: false,
        }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        if self.rest.len() < 4 {
            return None;
        }
        let kind = self.order.u16(self.rest, 0);
        let length = usize::from(self.order.u16(self.rest, 2));
        if kind == 0 {
            return None;
        }
        let value = self.rest.get(4..4 + length);
        self.broken = value.is_none();
        self.rest = self
            .rest
            .get(4 + length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some((kind, value?))
    }
}
