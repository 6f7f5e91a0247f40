//! Every frame of every capture in the shared test data: no accessor fails, and where etherparse accepts a frame too, both
//! see the same packet. Each kind of disagreement is named here with its reason.

mod capture_file;
mod etherparse_oracle;
mod every_accessor;

use std::collections::BTreeMap;
use std::path::Path;

use capture_file::{CaptureFile, CapturedFrame, files_below};
use etherparse_oracle::Seen;
use every_accessor::every_accessor;
use portcullis_wire::{Frame, Link, MalformedKind, parse, parse_trusting_checksums};

#[test]
fn all_captures() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/pcap");
    if !folder.is_dir() {
        eprintln!(
            "SKIPPED: no captures at {}, so nothing was compared",
            folder.display()
        );
        return;
    }
    let mut tally = Tally::default();
    for path in files_below(&folder) {
        let Some(file) = CaptureFile::open(&path) else {
            continue;
        };
        let Some(link) = Link::from_linktype(file.linktype) else {
            continue;
        };
        tally.files += 1;
        for (number, frame) in file.frames().enumerate() {
            let parsed = parse(link, frame.bytes, frame.wire_len);
            every_accessor(&parsed);
            tally.compare(
                link,
                &frame,
                &format!("{} frame {}", path.display(), number + 1),
            );
        }
    }
    eprintln!("{tally:#?}");
    assert!(tally.differences.is_empty(), "{:#?}", tally.differences);
    assert!(
        tally.agreed > 50_000 && tally.files > 1_000,
        "too little was compared"
    );
}

#[derive(Debug, Default)]
struct Tally {
    files: usize,
    agreed: usize,
    /// We see a fragment where etherparse goes further in.
    atomic: usize,
    wrong_checksums: usize,
    neither: usize,
    /// We refuse, etherparse does not: by kind.
    only_etherparse: BTreeMap<&'static str, usize>,
    /// Etherparse refuses, we do not: Linux cooked frames of hardware it does not know.
    only_ours: usize,
    /// We say "not IP" where etherparse goes further in.
    not_entered: usize,
    differences: Vec<String>,
}

impl Tally {
    fn compare(&mut self, link: Link, frame: &CapturedFrame<'_>, name: &str) {
        let cut = frame.wire_len > frame.bytes.len();
        let theirs = if cut {
            etherparse_oracle::lax(link, frame.bytes)
        } else {
            etherparse_oracle::strict(link, frame.bytes)
        };
        // Etherparse verifies no checksum, so to compare more we do not either; many captures were anonymised.
        let ours = match parse(link, frame.bytes, frame.wire_len) {
            Err(malformed) if malformed.kind == MalformedKind::Ipv4Checksum => {
                self.wrong_checksums += 1;
                parse_trusting_checksums(link, frame.bytes, frame.wire_len)
            }
            ours => ours,
        };
        match (ours, theirs) {
            (Ok(Frame::Ip(packet)), Ok(Some(theirs))) if Seen::of(&packet) == theirs => {
                self.agreed += 1
            }
            // To etherparse an atomic fragment of IPv6 (RFC 6946) is no fragment.
            (Ok(Frame::Ip(packet)), Ok(Some(theirs)))
                if (packet.fragment())
                    .is_some_and(|fragment| fragment.offset == 0 && !fragment.more)
                    && packet.protocol() == theirs.protocol =>
            {
                self.atomic += 1;
            }
            (Ok(Frame::NotIp { .. }), Ok(None)) => self.agreed += 1,
            (Err(_), Err(_)) => self.neither += 1,
            (Ok(Frame::NotIp { ethertype, .. }), Ok(Some(_)))
                if NOT_ENTERED.contains(&ethertype) =>
            {
                self.not_entered += 1;
            }
            (Err(malformed), Ok(_)) if is_stricter(malformed.kind, cut) => {
                *self
                    .only_etherparse
                    .entry(malformed.kind.name())
                    .or_default() += 1;
            }
            (Ok(_), Err(words)) if words.starts_with("Linux cooked capture v1") => {
                self.only_ours += 1
            }
            (ours, theirs) => self
                .differences
                .push(format!("{name}: {ours:?}, etherparse {theirs:?}")),
        }
    }
}

/// Ethertypes that etherparse looks behind and we do not: a third VLAN tag, MACsec.
const NOT_ENTERED: [u16; 2] = [0x8100, 0x88e5];

/// What the kernel refuses and etherparse takes: it checks neither options, addresses nor fragments, and not what a cut
/// frame was on the wire. A jumbogram is read as far as the frame goes.
fn is_stricter(kind: MalformedKind, cut: bool) -> bool {
    use MalformedKind::*;
    match kind {
        Ipv4Options | Ipv6SourceMapped | Ipv6SourceMulticast | Ipv6Jumbogram => true,
        Ipv6NoNextHeader => true,
        Ipv4TotalLengthBeyondWire | UdpLength | CutByCapture => cut,
        _ => false,
    }
}
