//! permessage-deflate (RFC 7692) where every message stands for itself.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::Result;

/// zlib's own choice, and what the servers are told.
const LEVEL: u32 = 6;
/// What a sender leaves out at the end of each message (section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// That, and an empty block that is the last one: behind what has been cut off neither makes sense.
const END: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];

/// The length of the header of a block that is stored as it is.
pub const STORED_HEADER: usize = 5;

/// Such a header, at a whole byte (RFC 1951 section 3.2.4). Blocks may follow.
pub fn stored_header(length: u16) -> [u8; STORED_HEADER] {
    let ([low, high], [not_low, not_high]) = (length.to_le_bytes(), (!length).to_le_bytes());
    [0, low, high, not_low, not_high]
}

/// Compresses a message, or what follows whole blocks of it.
pub fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + payload.len() / 8 + 64);
    let mut deflate = Compress::new(Compression::new(LEVEL), false);
    deflate.compress_vec(payload, &mut out, FlushCompress::Sync).expect("compression does not fail");
    assert!(deflate.total_in() == payload.len() as u64 && out.ends_with(&TAIL), "the room is enough for any payload");
    out.truncate(out.len() - TAIL.len());
    out
}

/// Opens the messages of all connections, and counts what they took on the wire.
pub struct Inflater {
    deflate: Decompress,
    out: Vec<u8>,
    messages: u64,
    taken: u64,
}

impl Inflater {
    pub fn new() -> Self {
        Self { deflate: Decompress::new(false), out: Vec::new(), messages: 0, taken: 0 }
    }

    /// The payload of a message that is to have `size` bytes.
    pub fn open(&mut self, message: &[u8], size: usize) -> Result<&[u8]> {
        self.messages += 1;
        self.taken += message.len() as u64;
        self.deflate.reset(false);
        // One byte more is room for a part of what is too long.
        self.out.resize(size + 1, 0);
        for part in [message, &END] {
            let (end, filled) = (self.deflate.total_in() + part.len() as u64, self.deflate.total_out() as usize);
            let inflated = self.deflate.decompress(part, &mut self.out[filled..], FlushDecompress::Sync);
            if inflated.is_err() || self.deflate.total_in() < end {
                return Err(format!("the server sent a message that is not {size} bytes, compressed"));
            }
        }
        match self.deflate.total_out() as usize {
            length if length == size => Ok(&self.out[..size]),
            length => Err(format!("a message came back with {length} bytes")),
        }
    }

    /// How many bytes a message took, in the mean.
    pub fn mean(&self) -> Option<f64> {
        (self.messages > 0).then(|| self.taken as f64 / self.messages as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hello_of_the_rfc_is_opened() {
        let mut inflater = Inflater::new();
        // Sections 7.2.3.1 and 7.2.3.3: compressed, and stored.
        let compressed = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let stored = [&stored_header(5)[..], b"Hello", &[0x00]].concat();
        assert_eq!(stored, [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]);
        assert_eq!(inflater.open(&compressed, 5).unwrap(), b"Hello");
        assert_eq!(inflater.open(&stored, 5).unwrap(), b"Hello");
        assert_eq!(inflater.mean(), Some(9.0));
        // Section 7.2.3.4: its block is the last one. Nobody sends that, so it is not followed here.
        assert!(inflater.open(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], 5).is_err());
    }

    #[test]
    fn what_is_compressed_is_opened_whatever_came_before() {
        let mut inflater = Inflater::new();
        assert_eq!(inflater.mean(), None);
        let random: Vec<u8> = (0..70_000).map(|n| crate::payload::mix(n) as u8).collect();
        for payload in [&crate::json::text(70_000)[..], &random, b"x"] {
            assert!(inflater.open(&[0xff; 9], 9).is_err());
            let compressed = deflate(payload);
            assert!(inflater.open(&compressed, payload.len()).unwrap() == payload);
            assert!(inflater.open(&compressed, payload.len() - 1).is_err());
            assert!(inflater.open(&compressed, payload.len() + 1).is_err());
            assert!(inflater.open(&compressed[..compressed.len() - 1], payload.len()).is_err());
        }
    }
}
