//! A raw peer that speaks byte by byte, in either role, and what it speaks: heads and frames.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::DEADLINE;

pub const FIN: u8 = 0x80;
pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A frame as it came over the wire, unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    /// The three reserved bits, in the low bits of this.
    pub rsv: u8,
    pub opcode: u8,
    pub masked: bool,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code and reason of a Close.
    #[track_caller]
    pub fn close(&self) -> (Option<u16>, String) {
        assert_eq!(self.opcode, CLOSE, "not a Close: {self:?}");
        match self.payload.split_first_chunk::<2>() {
            None => (None, String::new()),
            Some((code, reason)) => (Some(u16::from_be_bytes(*code)), String::from_utf8(reason.to_vec()).unwrap()),
        }
    }

    /// The payload as text; panics where it is another kind of frame.
    #[track_caller]
    pub fn text(self) -> String {
        assert_eq!((self.opcode, self.fin), (TEXT, true), "not a whole text");
        String::from_utf8(self.payload).unwrap()
    }
}

/// An HTTP answer: status, head as text, and the body up to the end of the connection (or its `Content-Length`).
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// The status of an HTTP answer.
#[track_caller]
pub fn status(head: &str) -> u16 {
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status: {head}"))
}

/// The key of RFC 6455 section 1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What a server answers to it.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A valid opening handshake, with further header lines (each ended by CRLF).
pub fn upgrade(host: &str, path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// A frame: `first` is the whole first byte (FIN, reserved bits, opcode).
pub fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = frame_header(first, payload.len() as u64, mask);
    bytes.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask.map_or(0, |mask| mask[index % 4])));
    bytes
}

/// The header of a frame that announces `length` bytes.
pub fn frame_header(first: u8, length: u64, mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(bit | length as u8),
        126..=0xffff => {
            bytes.push(bit | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(bit | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
    bytes
}

/// The masking key of every frame a raw client sends.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One end of a TCP connection, or of TLS on it, that a test scripts byte by byte.
pub struct RawPeer<S = TcpStream> {
    pub stream: S,
    received: Vec<u8>,
    /// Whether frames are sent masked, as a client does.
    pub masks: bool,
}

impl RawPeer {
    pub fn new(stream: TcpStream, masks: bool) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new(), masks }
    }

    /// The same peer, speaking by this.
    pub fn over<S>(self, speak: impl FnOnce(TcpStream) -> S) -> RawPeer<S> {
        RawPeer { stream: speak(self.stream), received: self.received, masks: self.masks }
    }

    /// A client's TCP connection that has sent nothing.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&address, DEADLINE).unwrap(), true)
    }

    /// A client whose opening handshake is done.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let mut peer = Self::connect(address);
        peer.write(upgrade(&address.to_string(), "/", "").as_bytes());
        peer.expect_upgrade();
        peer
    }

    /// A client's TCP connection with a receive buffer as small as can be: little that is sent to it leaves its sender
    /// before it reads.
    #[track_caller]
    pub fn connect_narrow(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::new(socket.into(), true)
    }

    /// The same, with its opening handshake done.
    #[track_caller]
    pub fn open_narrow(address: SocketAddr) -> Self {
        let mut peer = Self::connect_narrow(address);
        peer.write(upgrade(&address.to_string(), "/", "").as_bytes());
        peer.expect_upgrade();
        peer
    }

    /// The server's end of the next connection, which has read nothing.
    #[track_caller]
    pub fn accept(listener: &TcpListener) -> Self {
        socket2::SockRef::from(listener).set_read_timeout(Some(DEADLINE)).unwrap();
        Self::new(listener.accept().expect("nobody connects").0, false)
    }

    /// The server's end of the next connection, with its opening handshake done; and the client's request head.
    #[track_caller]
    pub fn accept_upgrade(listener: &TcpListener) -> (Self, String) {
        let mut peer = Self::accept(listener);
        let head = peer.read_head();
        peer.answer_upgrade(&head, "");
        (peer, head)
    }

    /// Says that no more will be sent: FIN.
    #[track_caller]
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset instead of a FIN.
    #[track_caller]
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl<S: Read + Write> RawPeer<S> {
    /// Answers a client's opening handshake with 101 and further header lines (each ended by CRLF).
    #[track_caller]
    pub fn answer_upgrade(&mut self, head: &str, more: &str) {
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
        });
        let accept = tungstenite::handshake::derive_accept_key(key.expect("no key").as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
        );
        self.write(answer.as_bytes());
    }

    /// Reads the 101 that answers [`upgrade`]; and its head.
    #[track_caller]
    pub fn expect_upgrade(&mut self) -> String {
        let head = self.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "no upgrade: {head}");
        assert!(head.to_ascii_lowercase().contains(&format!("sec-websocket-accept: {ACCEPT}").to_ascii_lowercase()));
        head
    }

    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).unwrap();
    }

    /// Writes, though the other end may have gone already.
    pub fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Writes this again and again until the other end has gone.
    #[track_caller]
    pub fn write_until_the_end(&mut self, bytes: &[u8]) {
        let end = Instant::now() + DEADLINE;
        while self.try_write(bytes) {
            assert!(Instant::now() < end, "the other end stays");
        }
    }

    /// Sends one whole frame with FIN set.
    #[track_caller]
    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.send_frame(0x80 | opcode, payload);
    }

    /// Sends one whole frame; `first` is its whole first byte.
    #[track_caller]
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        let bytes = frame(first, payload, self.masks.then_some(MASK));
        self.write(&bytes);
    }

    #[track_caller]
    pub fn send_text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes());
    }

    /// Sends a Close; without a code where that is `None`.
    #[track_caller]
    pub fn send_close(&mut self, code: Option<u16>, reason: &str) {
        let mut payload = code.map_or_else(Vec::new, |code| code.to_be_bytes().to_vec());
        payload.extend(reason.as_bytes());
        self.send(CLOSE, &payload);
    }

    /// Reads more; false at the end of the stream. A reset is an end as well.
    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(count) => {
                    self.received.extend(&buffer[..count]);
                    return count != 0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Exactly `count` bytes.
    #[track_caller]
    pub fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(self.fill(), "the stream ended after {} of {count} bytes", self.received.len());
        }
        self.received.drain(..count).collect()
    }

    /// Everything up to the end of the stream.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.received)
    }

    /// An HTTP head, with its empty line.
    #[track_caller]
    pub fn read_head(&mut self) -> String {
        loop {
            if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                return String::from_utf8(self.received.drain(..at + 4).collect()).unwrap();
            }
            assert!(self.fill(), "the stream ended within a head: {}", String::from_utf8_lossy(&self.received));
        }
    }

    /// A whole HTTP answer, up to the end of the connection.
    #[track_caller]
    pub fn read_answer(&mut self) -> Answer {
        let head = self.read_head();
        let status = status(&head);
        let body = String::from_utf8(self.read_to_end()).unwrap();
        Answer { status, head, body }
    }

    /// The next frame; `None` at the end of the stream. Panics where the stream ends inside a frame.
    #[track_caller]
    pub fn try_read_frame(&mut self) -> Option<Frame> {
        if self.received.is_empty() && !self.fill() {
            return None;
        }
        let start = self.read_bytes(2);
        let length = match start[1] & 0x7f {
            126 => u16::from_be_bytes(self.read_bytes(2).try_into().unwrap()).into(),
            127 => u64::from_be_bytes(self.read_bytes(8).try_into().unwrap()),
            length => length.into(),
        };
        let masked = start[1] & 0x80 != 0;
        let mask = if masked { self.read_bytes(4) } else { vec![0; 4] };
        let mut payload = self.read_bytes(length as usize);
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[index % 4];
        }
        Some(Frame { fin: start[0] & 0x80 != 0, rsv: start[0] >> 4 & 7, opcode: start[0] & 15, masked, payload })
    }

    /// The next frame.
    #[track_caller]
    pub fn read_frame(&mut self) -> Frame {
        self.try_read_frame().expect("the stream ended where a frame was expected")
    }

    /// Reads a frame and compares it; `first` is its whole first byte.
    #[track_caller]
    pub fn expect_frame(&mut self, first: u8, payload: &[u8]) {
        let Frame { fin, rsv, opcode, payload: found, .. } = self.read_frame();
        assert_eq!(u8::from(fin) << 7 | rsv << 4 | opcode, first, "{} bytes came", found.len());
        assert!(found == payload, "{} bytes came instead of {}, or others", found.len(), payload.len());
    }

    /// Reads a whole text and compares it.
    #[track_caller]
    pub fn expect_text(&mut self, text: &str) {
        assert_eq!(self.read_frame().text(), text);
    }

    /// Reads a Close of this code; and its reason.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) -> String {
        let (found, reason) = self.read_frame().close();
        assert_eq!(found, Some(code), "the reason given is {reason:?}");
        reason
    }

    /// Nothing more comes, and the stream ends.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "more came: {:?}", String::from_utf8_lossy(&rest));
    }
}
