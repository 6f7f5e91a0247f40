//! Reads classic pcap files (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html>) for tests. Not pcapng.

use std::path::{Path, PathBuf};

/// A file: its link type and the bytes after its header.
pub(crate) struct CaptureFile {
    pub(crate) linktype: u32,
    bytes: Vec<u8>,
    big_endian: bool,
}

/// One frame: its length on the wire and what was captured of it.
pub(crate) struct CapturedFrame<'a> {
    pub(crate) wire_len: usize,
    pub(crate) bytes: &'a [u8],
}

impl CaptureFile {
    /// Reads a file; `None` when it is no classic pcap.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).expect("the capture can be read");
        let big_endian = match bytes.first_chunk::<4>()? {
            [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => true,
            [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => false,
            _ => return None,
        };
        let file = Self {
            linktype: 0,
            bytes,
            big_endian,
        };
        let linktype = file.number(20)? & 0xffff;
        Some(Self { linktype, ..file })
    }

    /// The frames in turn, until the file ends or is cut short.
    pub(crate) fn frames(&self) -> impl Iterator<Item = CapturedFrame<'_>> {
        let mut at = 24;
        std::iter::from_fn(move || {
            let captured = self.number(at + 8)? as usize;
            let wire_len = self.number(at + 12)? as usize;
            let bytes = self.bytes.get(at + 16..(at + 16).checked_add(captured)?)?;
            at += 16 + captured;
            Some(CapturedFrame { wire_len, bytes })
        })
    }

    fn number(&self, at: usize) -> Option<u32> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }
}

/// Every file below a folder, in order.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files.sort();
    files
}
