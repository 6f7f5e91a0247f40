//! Capture files: pcap and pcapng, of any size, byte order and resolution, in constant memory.
//!
//! Damage is met as capinfos and libpcap meet it: the packets up to it are given, then the file is over and
//! [`Replay::warning`] says what was wrong and where. Compressed captures are not read.

mod order;
mod pcap;
mod pcapng;
mod window;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::source::{Captured, Losses, Source, SourceError};
use pcap::Pcap;
use pcapng::Pcapng;
use window::Window;

/// A capture file that is being read.
pub struct Replay {
    window: Window,
    format: Format,
    size: Option<u64>,
    truncated: u64,
    ended: bool,
    warning: Option<Warning>,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

/// Why a capture ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The file ends in the middle of a record, as when the capturing program was killed.
    #[error("the capture is cut short in the record at byte {at}; the packets before it were read")]
    Truncated {
        /// Where the incomplete record starts.
        at: u64,
    },
    /// A record cannot be what it says.
    #[error("the capture is damaged at byte {at} ({what}); the packets before it were read")]
    Corrupt {
        /// Where the damaged record starts.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// What ends the reading of records.
enum Stop {
    End,
    Damage(Warning),
    Failure(SourceError),
}

impl From<SourceError> for Stop {
    fn from(failure: SourceError) -> Stop {
        Stop::Failure(failure)
    }
}

impl Replay {
    /// Opens a capture file.
    ///
    /// # Errors
    /// It cannot be opened or read, or is no capture.
    pub fn open(path: &Path) -> Result<Replay, SourceError> {
        let failed = |source| SourceError::Open {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        let size = about.is_file().then_some(about.len());
        let replay = Replay::read(file)?;
        Ok(Replay { size, ..replay })
    }

    /// Reads a capture from anything, such as standard input.
    ///
    /// # Errors
    /// It cannot be read, or is no capture.
    pub fn read(input: impl Read + Send + 'static) -> Result<Replay, SourceError> {
        let mut window = Window::new(Box::new(input));
        let format = recognise(&mut window)?;
        Ok(Replay {
            window,
            format,
            size: None,
            truncated: 0,
            ended: false,
            warning: None,
        })
    }

    /// What cut the reading short; `None` before that, and after a whole file.
    #[must_use]
    pub const fn warning(&self) -> Option<Warning> {
        self.warning
    }
}

impl Source for Replay {
    fn next(&mut self) -> Result<Option<Captured<'_>>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        let read = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.window),
            Format::Pcapng(pcapng) => pcapng.next(&mut self.window),
        };
        match read {
            Ok(packet) => {
                self.truncated += u64::from(packet.wire_len > packet.bytes.len());
                Ok(Some(packet))
            }
            Err(stop) => {
                self.ended = true;
                match stop {
                    Stop::End => Ok(None),
                    Stop::Damage(warning) => {
                        self.warning = Some(warning);
                        Ok(None)
                    }
                    Stop::Failure(failure) => Err(failure),
                }
            }
        }
    }

    fn losses(&self) -> Losses {
        Losses {
            truncated: self.truncated,
            ..Losses::default()
        }
    }

    fn progress(&self) -> Option<(u64, u64)> {
        self.size
            .map(|size| (self.window.position().min(size), size))
    }
}

/// Tells the format by its first bytes, and reads the file's header.
fn recognise(window: &mut Window) -> Result<Format, SourceError> {
    const CONVERT: &str = "convert it with `editcap -F pcapng`";
    let available = window.fill(pcap::FILE_HEADER)?;
    let head = window.peek(available);
    let (what, mend) = match head {
        [] => ("an empty file", "capture again"),
        [0x1f, 0x8b, ..] => ("compressed with gzip", "unpack it with `gunzip`"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("compressed with zstd", "unpack it with `unzstd`"),
        [0x04, 0x22, 0x4d, 0x18, ..] => ("compressed with lz4", "unpack it with `unlz4`"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => ("compressed with xz", "unpack it with `unxz`"),
        [b's', b'n', b'o', b'o', b'p', 0, ..] => ("a snoop file", CONVERT),
        [b'b', b't', b's', b'n', b'o', b'o', b'p', ..] => ("a Bluetooth snoop file", CONVERT),
        _ if head.len() < pcap::FILE_HEADER => ("too short a file", "capture again"),
        _ if pcapng::recognises(head) => return Ok(Format::Pcapng(Pcapng::open(window)?)),
        _ => match Pcap::open(head) {
            Some(pcap) => {
                window.take(pcap::FILE_HEADER);
                return Ok(Format::Pcap(pcap));
            }
            None => ("something else", "give a pcap or pcapng file"),
        },
    };
    Err(SourceError::NotACapture { what, mend })
}

/// The longest packet that a capture may hold, in bytes: libpcap's limits, which a damaged length exceeds.
fn longest_packet(linktype: u32) -> u32 {
    match linktype {
        231 | 249 | 266 => 128 * 1024 * 1024, // D-Bus, USBPcap, USB of Darwin
        279 => 32 * 1024 * 1024,              // EBHSCR
        _ => 256 * 1024,
    }
}
