//! A raw peer that compresses: zlib as flate2 has it, with none of our own code.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::net::SocketAddr;

use wsx_core::Options;

use super::{Frame, RawPeer, upgrade};

/// RSV1 as [`Frame`] tells it: the message is compressed.
pub const RSV1: u8 = 4;

/// Options that compress, as by default without contexts.
pub fn compressing() -> Options {
    let mut options = Options::default();
    options.compression = Some(wsx_core::Compression::default());
    options
}

/// The same, with the contexts of both sides.
pub fn keeping() -> Options {
    let mut options = compressing();
    let compression = options.compression.as_mut().unwrap();
    compression.server_no_context_takeover = false;
    compression.client_no_context_takeover = false;
    options
}

/// Both directions of one end.
pub struct Deflate {
    compress: Compress,
    decompress: Decompress,
    keeps_sent: bool,
    keeps_received: bool,
}

impl Deflate {
    /// `keeps_sent` and `keeps_received` are what this end remembers between messages.
    pub fn new(window_bits: u8, keeps_sent: bool, keeps_received: bool) -> Self {
        let compress = Compress::new_with_window_bits(Compression::new(6), false, window_bits);
        Self { compress, decompress: Decompress::new(false), keeps_sent, keeps_received }
    }

    /// Compresses a message.
    pub fn deflate(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(payload.len() + payload.len() / 8 + 64);
        let before = self.compress.total_in();
        self.compress.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
        assert_eq!(self.compress.total_in() - before, payload.len() as u64);
        assert!(out.len() < out.capacity() && out.ends_with(&[0, 0, 0xff, 0xff]));
        out.truncate(out.len() - 4);
        if !self.keeps_sent {
            self.compress.reset();
        }
        out
    }

    /// Inflates a message; panics where it is more than 64 MiB.
    pub fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(payload.len() * 4 + 64);
        let input = [payload, &[0, 0, 0xff, 0xff]].concat();
        let mut used = 0;
        loop {
            let before = self.decompress.total_in();
            self.decompress.decompress_vec(&input[used..], &mut out, FlushDecompress::Sync).unwrap();
            used += (self.decompress.total_in() - before) as usize;
            if out.len() < out.capacity() {
                break;
            }
            assert!(out.len() < 64 << 20);
            out.reserve(out.len());
        }
        assert_eq!(used, input.len());
        if !self.keeps_received {
            self.decompress.reset(false);
        }
        out
    }

    /// The payload of a whole message, inflated where its frame says so; and whether it does.
    #[track_caller]
    pub fn payload(&mut self, frame: Frame) -> (Vec<u8>, bool) {
        assert!(frame.fin && matches!(frame.rsv, 0 | RSV1), "{frame:?}");
        match frame.rsv {
            0 => (frame.payload, false),
            _ => (self.inflate(&frame.payload), true),
        }
    }
}

/// A raw client whose opening handshake made this offer; and the answer to it, where there was one.
#[track_caller]
pub fn open_with(address: SocketAddr, offer: &str) -> (RawPeer, Option<String>) {
    let mut peer = RawPeer::connect(address);
    peer.write(upgrade(&address.to_string(), "/", &format!("Sec-WebSocket-Extensions: {offer}\r\n")).as_bytes());
    let head = peer.expect_upgrade();
    (peer, extensions(&head))
}

/// The extensions that a head names.
pub fn extensions(head: &str) -> Option<String> {
    let (name, value) = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"))?;
    assert_eq!(name, "Sec-WebSocket-Extensions");
    Some(value.to_owned())
}

/// Bytes that do not compress.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// Text that compresses, with characters of every length.
pub fn words(size: usize) -> String {
    let mut text = String::with_capacity(size + 64);
    for number in 0.. {
        let part = format!("{{\"number\":{},\"名\":\"é😀\"}},", number * 7919 % 1000);
        if text.len() + part.len() > size {
            break;
        }
        text.push_str(&part);
    }
    text.extend(std::iter::repeat_n('x', size - text.len()));
    text
}
