//! GRE (RFC 2784, RFC 2890) and its PPTP form, version 1 (RFC 2637 section 4.1). What it carries is not looked into.

use crate::malformed::MalformedKind;
use crate::transport::Segment;

/// Ethertype of PPP, the only thing PPTP carries.
const PPP: u16 = 0x880b;

/// A view of one GRE packet.
#[derive(Clone, Copy, Debug)]
pub struct Gre<'a> {
    header: &'a [u8; 4],
    rest: &'a [u8],
}

impl<'a> Gre<'a> {
    /// `None` for a packet without a whole base header, which conntrack tracks as it tracks unknown protocols.
    pub(crate) fn parse(segment: Segment<'a>) -> Result<Option<Self>, MalformedKind> {
        if segment.len < 4 {
            return Ok(None);
        }
        let (header, rest) = segment.split::<4>(MalformedKind::CutByCapture)?;
        let gre = Self { header, rest };
        if gre.version() == 1 && segment.len >= 8 && gre.protocol_type() != PPP {
            return Err(MalformedKind::GreNotPpp);
        }
        Ok(Some(gre))
    }

    /// Version: 0 is GRE, 1 is PPTP.
    #[inline]
    pub fn version(&self) -> u8 {
        self.header[1] & 0x07
    }

    /// Ethertype of what is inside.
    #[inline]
    pub fn protocol_type(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// Key (RFC 2890 section 2.1), if it is there and captured. In version 1, payload length and call id.
    pub fn key(&self) -> Option<u32> {
        if self.header[0] & 0x20 == 0 {
            return None;
        }
        let at = if self.has_checksum() { 4 } else { 0 };
        self.rest
            .get(at..)?
            .first_chunk()
            .map(|key| u32::from_be_bytes(*key))
    }

    /// Call id of PPTP (RFC 2637 section 4.1), `None` in version 0.
    pub fn call_id(&self) -> Option<u16> {
        (self.version() == 1)
            .then(|| self.key().map(|key| key as u16))
            .flatten()
    }

    /// Header length with its optional fields, 4 to 16 bytes, as the flags claim.
    #[inline]
    pub fn header_len(&self) -> usize {
        let key = usize::from(self.header[0] >> 5 & 1);
        let sequence = usize::from(self.header[0] >> 4 & 1);
        let acknowledgement = usize::from(self.version() == 1 && self.header[1] & 0x80 != 0);
        4 + 4 * (usize::from(self.has_checksum()) + key + sequence + acknowledgement)
    }

    /// Checksum or routing present: either brings checksum and offset fields (RFC 1701).
    fn has_checksum(&self) -> bool {
        self.version() == 0 && self.header[0] & 0xc0 != 0
    }

    /// Captured bytes after the header and its optional fields.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.rest.get(self.header_len() - 4..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]
    use super::*;
    use crate::Transport;
    use crate::sample::{cut, defect, ipv4, whole};

    fn gre(bytes: &[u8]) -> Gre<'_> {
        match whole(bytes).unwrap().transport() {
            Transport::Gre(gre) => gre,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn optional_fields() {
        let plain = ipv4(47, &[0, 0, 8, 0, 0x45]);
        assert_eq!(
            (
                gre(&plain).protocol_type(),
                gre(&plain).key(),
                gre(&plain).payload()
            ),
            (0x0800, None, &[0x45][..])
        );
        // Checksum, key and sequence number.
        let full = ipv4(
            47,
            &[
                0xb0, 0, 0x65, 0x58, 1, 1, 0, 0, 0, 0, 0, 42, 0, 0, 0, 1, 0xee,
            ],
        );
        assert_eq!(
            (
                gre(&full).header_len(),
                gre(&full).key(),
                gre(&full).payload()
            ),
            (16, Some(42), &[0xee][..])
        );
        let missing = ipv4(47, &[0xb0, 0, 0x65, 0x58, 1, 1]);
        assert_eq!(
            (gre(&missing).key(), gre(&missing).payload()),
            (None, &[][..])
        );
    }

    #[test]
    fn pptp() {
        let data = ipv4(
            47,
            &[
                0x30, 0x81, 0x88, 0x0b, 0, 1, 0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 2, 0xff,
            ],
        );
        let packet = gre(&data);
        assert_eq!(
            (packet.version(), packet.call_id(), packet.payload()),
            (1, Some(0x1234), &[0xff][..])
        );
        assert_eq!(
            defect(&ipv4(47, &[0x30, 1, 8, 0, 0, 1, 0, 0])),
            Some(MalformedKind::GreNotPpp)
        );
        assert_eq!(defect(&ipv4(47, &[0x30, 1, 8, 0, 0, 1, 0])), None);
    }

    #[test]
    fn short_packets_are_not_read() {
        assert!(matches!(
            whole(&ipv4(47, &[0; 3])).unwrap().transport(),
            Transport::Other
        ));
        assert!(matches!(
            whole(&ipv4(47, &[0; 4])).unwrap().transport(),
            Transport::Gre(_)
        ));
        assert_eq!(
            cut(&ipv4(47, &[0; 4])[..23], 24).unwrap_err().kind,
            MalformedKind::CutByCapture
        );
    }
}
