//! Bytes off the wire to length-checked packets
