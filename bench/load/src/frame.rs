//! Frames (RFC 6455 section 5): masked ones are written, unmasked ones are read in place, piece by piece.

use crate::Result;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
/// RSV1, which marks the first frame of a compressed message (RFC 7692 section 6): added to an opcode that is written.
pub const COMPRESSED: u8 = 0x40;

/// Length of the longest header: two bytes, a 64-bit length, a mask.
const MAX_HEADER: usize = 14;
const MAX_CONTROL_PAYLOAD: usize = 125;

/// Appends the header of an unfragmented, masked frame.
pub fn write_header(opcode: u8, length: usize, key: [u8; 4], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match length {
        0..126 => out.push(0x80 | length as u8),
        126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
}

/// Appends a part of a payload, masked. The parts before it have a multiple of four bytes together.
pub fn write_masked(part: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
    let half = u64::from(u32::from_ne_bytes(key));
    let wide = half << 32 | half;
    // By chunks, so that what is copied is still in the nearest cache when it is masked.
    for chunk in part.chunks(16 << 10) {
        let start = out.len();
        out.extend_from_slice(chunk);
        let (words, rest) = out[start..].as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
        for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
            *byte ^= key;
        }
    }
}

/// Appends a whole masked control frame.
pub fn write_control(opcode: u8, payload: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
    write_header(opcode, payload.len(), key, out);
    write_masked(payload, key, out);
}

/// What `Reader` found.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The next bytes of a message, in place; `opcode` and `compressed` are the message's, in each of its fragments.
    Data { opcode: u8, compressed: bool, bytes: &'a [u8], ends: bool },
    /// A whole control frame. They are rare, so this is a copy.
    Control { opcode: u8, payload: Vec<u8> },
}

#[derive(Clone, Copy, Debug, Default)]
struct Header {
    fin: bool,
    compressed: bool,
    opcode: u8,
    length: usize,
}

/// Reads what a server sends, however it is cut into pieces, and holds on to nothing but split headers.
#[derive(Debug, Default)]
pub struct Reader {
    /// Messages may be compressed.
    compression: bool,
    /// The begin of a header that went on in the next read.
    split: [u8; MAX_HEADER],
    split_length: usize,
    /// The frame that is being read, and how much of its payload is still to come.
    frame: Header,
    inside: bool,
    left: usize,
    /// The opcode of the message that is being read; 0 between messages.
    message: u8,
    compressed: bool,
    control: Vec<u8>,
}

impl Reader {
    pub fn new(compression: bool) -> Self {
        Self { compression, ..Self::default() }
    }

    /// Takes the next piece off the front of `input`; `None` where all of it is taken.
    #[inline]
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>> {
        if !self.inside {
            let Some(header) = self.header(input)? else { return Ok(None) };
            self.begin(header)?;
        }
        let length = self.left.min(input.len());
        if length == 0 && self.left > 0 {
            return Ok(None);
        }
        let (bytes, rest) = input.split_at(length);
        *input = rest;
        self.left -= length;
        self.inside = self.left > 0;
        if self.frame.opcode >= CLOSE {
            self.control.extend_from_slice(bytes);
            let opcode = self.frame.opcode;
            return Ok((!self.inside).then(|| Piece::Control { opcode, payload: std::mem::take(&mut self.control) }));
        }
        let (opcode, compressed) = (self.message, self.compressed);
        let ends = !self.inside && self.frame.fin;
        if ends {
            self.message = 0;
        }
        Ok(Some(Piece::Data { opcode, compressed, bytes, ends }))
    }

    #[inline]
    fn header(&mut self, input: &mut &[u8]) -> Result<Option<Header>> {
        if self.split_length == 0
            && let Some((header, length)) = parse(input)?
        {
            *input = &input[length..];
            return Ok(Some(header));
        }
        while let Some((first, rest)) = input.split_first() {
            self.split[self.split_length] = *first;
            self.split_length += 1;
            *input = rest;
            if let Some((header, _)) = parse(&self.split[..self.split_length])? {
                self.split_length = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    #[inline]
    fn begin(&mut self, header: Header) -> Result<()> {
        if header.compressed && !(self.compression && matches!(header.opcode, TEXT | BINARY)) {
            return Err("the server marked a frame as compressed that must not be".into());
        }
        match header.opcode {
            0 if self.message == 0 => return Err("the server continued a message that it had not begun".into()),
            TEXT | BINARY if self.message != 0 => {
                return Err("the server began a message inside another".into());
            }
            0 => {}
            TEXT | BINARY => (self.message, self.compressed) = (header.opcode, header.compressed),
            CLOSE | PING | PONG if header.fin && header.length <= MAX_CONTROL_PAYLOAD => {}
            opcode => return Err(format!("the server sent a wrong frame with opcode {opcode}")),
        }
        self.frame = header;
        self.left = header.length;
        self.inside = true;
        Ok(())
    }
}

/// The header at the begin of `input`, and its length; `None` where it does not end there.
#[inline]
fn parse(input: &[u8]) -> Result<Option<(Header, usize)>> {
    let [first, second, rest @ ..] = input else { return Ok(None) };
    if first & 0x30 != 0 || second & 0x80 != 0 {
        return Err(format!("the server sent a masked frame or reserved bits: {first:02x} {second:02x}"));
    }
    let (length, size) = match second {
        126 => match rest.first_chunk() {
            Some(length) => (u16::from_be_bytes(*length) as usize, 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => (u64::from_be_bytes(*length) as usize, 10),
            None => return Ok(None),
        },
        length => (*length as usize, 2),
    };
    let (fin, compressed) = (first & 0x80 != 0, first & COMPRESSED != 0);
    Ok(Some((Header { fin, compressed, opcode: first & 0x0f, length }, size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// All pieces of an input that comes `step` bytes at a time: messages joined, controls as they are.
    fn read(input: &[u8], step: usize) -> Result<Vec<(u8, Vec<u8>)>> {
        let (mut reader, mut found, mut message) = (Reader::default(), Vec::new(), Vec::new());
        for mut part in input.chunks(step) {
            while let Some(piece) = reader.next(&mut part)? {
                match piece {
                    Piece::Control { opcode, payload } => found.push((opcode, payload)),
                    Piece::Data { opcode, bytes, ends, .. } => {
                        message.extend_from_slice(bytes);
                        if ends {
                            found.push((opcode, std::mem::take(&mut message)));
                        }
                    }
                }
            }
        }
        assert!(message.is_empty());
        Ok(found)
    }

    #[test]
    fn the_masked_hello_of_the_rfc_is_written() {
        let mut out = Vec::new();
        write_header(TEXT, 5, KEY, &mut out);
        write_masked(b"Hello", KEY, &mut out);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn lengths_are_written_in_the_shortest_form() {
        for (length, header) in [
            (125, &[0x82, 0xfd][..]),
            (126, &[0x82, 0xfe, 0, 126]),
            (0xffff, &[0x82, 0xfe, 0xff, 0xff]),
            (0x1_0000, &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            write_header(BINARY, length, KEY, &mut out);
            assert_eq!(out, [header, &KEY].concat());
        }
    }

    #[test]
    fn parts_are_masked_as_the_whole_is() {
        let payload: Vec<u8> = (0..40_003u32).map(|n| (n * 7) as u8).collect();
        let (mut parts, whole) = (Vec::new(), payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        write_masked(&payload[..8], KEY, &mut parts);
        write_masked(&payload[8..], KEY, &mut parts);
        assert_eq!(parts, whole.collect::<Vec<_>>());
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let long = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
        let longer = [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 1][..], &[9; 0x1_0001]].concat();
        let input = [
            &[0x81, 2, b'h', b'i', 0x82, 0, 0x89, 1, b'p'][..],
            // A message in three fragments, with a pong and an empty fragment between.
            &[0x01, 1, b'a', 0x8a, 0, 0x00, 0, 0x80, 1, b'b'],
            &long,
            &longer,
            &[0x88, 2, 0x03, 0xe8],
        ]
        .concat();
        let expected = [
            (TEXT, b"hi".to_vec()),
            (BINARY, vec![]),
            (PING, b"p".to_vec()),
            (PONG, vec![]),
            (TEXT, b"ab".to_vec()),
            (BINARY, vec![7; 256]),
            (BINARY, vec![9; 0x1_0001]),
            (CLOSE, vec![0x03, 0xe8]),
        ];
        for step in [1, 2, 3, 7, 300, input.len()] {
            assert_eq!(read(&input, step).unwrap(), expected, "{step} bytes at a time");
        }
    }

    #[test]
    fn compression_is_marked_on_the_first_frame_of_a_message() {
        let mut input = &[0x41, 1, b'a', 0x89, 0, 0x80, 1, b'b', 0x82, 1, b'c'][..];
        let mut reader = Reader::new(true);
        let mut next = || reader.next(&mut input).unwrap().unwrap();
        assert_eq!(next(), Piece::Data { opcode: TEXT, compressed: true, bytes: b"a", ends: false });
        assert_eq!(next(), Piece::Control { opcode: PING, payload: vec![] });
        assert_eq!(next(), Piece::Data { opcode: TEXT, compressed: true, bytes: b"b", ends: true });
        assert_eq!(next(), Piece::Data { opcode: BINARY, compressed: false, bytes: b"c", ends: true });
        for mut wrong in [&[0xc9, 0][..], &[0x01, 0, 0xc0, 0]] {
            let mut reader = Reader::new(true);
            assert!((0..2).any(|_| reader.next(&mut wrong).is_err()));
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_an_error() {
        for input in [
            &[0x82, 0x80, 1, 2, 3, 4][..], // masked
            &[0xc2, 0],                    // RSV1 without the extension
            &[0x83, 0],                    // opcode 3
            &[0x80, 0],                    // continues nothing
            &[0x02, 0, 0x82, 0],           // begins inside a message
            &[0x09, 0],                    // a fragmented ping
            &[0x89, 126, 0, 126],          // a ping of 126 bytes
        ] {
            assert!(read(input, input.len()).is_err(), "{input:02x?}");
        }
    }
}
