//! UTF-8 that comes in pieces (RFC 6455 section 8.1): checked once, refused at the first impossible byte.

use super::{Violation, not_utf8};

/// UTF-8 as it comes: what can no longer become valid is refused at its first byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct Utf8 {
    /// The begin of a character that is cut at the end of what has come: `held` bytes of it.
    cut: [u8; 4],
    held: usize,
}

impl Utf8 {
    /// The character that the first of `bytes` complete, and the whole characters after it. A cut one is held.
    pub(crate) fn check<'b>(&mut self, mut bytes: &'b [u8]) -> Result<(Option<char>, &'b str), Violation> {
        let mut completed = None;
        while self.held > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return Ok((None, "")) };
            bytes = rest;
            self.cut[self.held] = byte;
            self.held += 1;
            match std::str::from_utf8(&self.cut[..self.held]) {
                Ok(character) => {
                    completed = character.chars().next();
                    self.held = 0;
                }
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(not_utf8()),
            }
        }
        let (characters, cut) = bytes.split_at(bytes.len() - cut_at_end(bytes));
        if std::str::from_utf8(cut).is_err_and(|error| error.error_len().is_some()) {
            return Err(not_utf8());
        }
        self.cut[..cut.len()].copy_from_slice(cut);
        self.held = cut.len();
        match simdutf8::basic::from_utf8(characters) {
            Ok(characters) => Ok((completed, characters)),
            Err(_) => Err(not_utf8()),
        }
    }

    /// Bytes of a cut character that are held, at most three.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// The end of the message, where no character may be cut.
    pub(crate) fn finish(&self) -> Result<(), Violation> {
        if self.held == 0 { Ok(()) } else { Err(not_utf8()) }
    }
}

/// How many of the last bytes, at most three, are the begin of a longer character.
fn cut_at_end(bytes: &[u8]) -> usize {
    for (index, byte) in bytes.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            _ => 1,
        };
        return if length > index + 1 { index + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(pieces: &[&[u8]]) -> Result<String, Violation> {
        let mut utf8 = Utf8::default();
        let mut text = String::new();
        for piece in pieces {
            let (completed, characters) = utf8.check(piece)?;
            text.extend(completed);
            text.push_str(characters);
        }
        utf8.finish()?;
        Ok(text)
    }

    #[test]
    fn text_is_the_same_however_it_is_cut() {
        let text = "aé€😀\0\u{7ff}\u{800}\u{ffff}\u{10ffff}\u{d7ff}z";
        let bytes = text.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(collect(&pieces).unwrap(), text);
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(collect(&single).unwrap(), text);
    }

    #[test]
    fn hostile_37_the_first_impossible_byte_is_refused_at_once() {
        // The bytes before the last are possible, with the last one nothing can be valid any more (Autobahn 6.4.*).
        let impossible: [&[u8]; 10] = [
            b"\xff",
            b"\x80",
            b"\xc0",
            b"\xc1",
            b"\xe0\x80",
            b"\xed\xa0",
            b"\xf0\x80",
            b"\xf4\x90",
            b"\xf5",
            b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90",
        ];
        for bytes in impossible {
            for cut in 0..bytes.len() {
                let mut utf8 = Utf8::default();
                assert!(utf8.check(&bytes[..cut]).is_ok(), "{bytes:x?} at {cut}");
                assert_eq!(utf8.check(&bytes[cut..]).unwrap_err().code, 1007, "{bytes:x?} at {cut}");
            }
        }
    }

    #[test]
    fn a_character_cut_at_the_end_of_the_message_is_refused() {
        for bytes in [&b"a\xc3"[..], b"\xe2\x82", b"\xf0\x9f\x98"] {
            assert!(collect(&[bytes]).is_err());
        }
    }

    #[test]
    fn every_sequence_of_four_edge_bytes_is_judged_as_the_standard_library_does() {
        let edges = [0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec];
        let edges: Vec<u8> = edges.into_iter().chain([0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff]).collect();
        for &a in &edges {
            for &b in &edges {
                for &c in &edges {
                    for &d in &edges {
                        let bytes = [a, b, c, d];
                        let valid = std::str::from_utf8(&bytes).is_ok();
                        for cut in 0..4 {
                            assert_eq!(collect(&[&bytes[..cut], &bytes[cut..]]).is_ok(), valid, "{bytes:x?} at {cut}");
                        }
                    }
                }
            }
        }
    }
}
