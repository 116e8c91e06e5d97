//! What the way of a message costs in memory, counted by an allocator of its own.
//!
//! The loop is turned by the test's own thread, which counts what it allocates; the peers are blocking sockets on the
//! same thread that allocate nothing. Unix sockets hand over what was written in one piece, whatever its size, so the
//! counts are exact.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use wsx_core::{Connection, EventLoop, Handler, Message, Opening, Options};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, which counts for each thread.
struct Counting;

fn count(calls: usize, bytes: isize) {
    // A thread that ends allocates nothing that is of interest.
    let _ = COUNT.try_with(|count| count.set(count.get() + calls));
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(live.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as isize - layout.size() as isize);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `call` allocates on this thread.
fn allocations(call: impl FnOnce()) -> usize {
    let before = COUNT.get();
    call();
    COUNT.get() - before
}

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn frame(first: u8, payload: &[u8], announced: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    match announced {
        0..=125 => bytes.push(0x80 | announced as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((announced as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((announced as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ MASK[index % 4]));
    bytes
}

/// Size of the frame that a server sends for a message of this size.
fn sent_size(payload: usize) -> usize {
    payload
        + match payload {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        }
}

#[derive(Default)]
struct Heard {
    opened: AtomicUsize,
    messages: AtomicUsize,
    closed: AtomicUsize,
}

/// Echoes, and subscribes every connection to a topic if it is given one.
struct Echo(Arc<Heard>, Option<&'static str>);

impl Handler for Echo {
    fn on_open(&mut self, connection: Connection, _: &Opening<'_>) {
        if let Some(topic) = self.1 {
            connection.subscribe(topic).unwrap();
        }
        self.0.opened.fetch_add(1, Ordering::Relaxed);
    }

    fn on_message(&mut self, connection: Connection, message: Message<'_>) {
        connection.send(message).unwrap();
        self.0.messages.fetch_add(1, Ordering::Relaxed);
    }

    fn on_close(&mut self, _: Connection, _: &wsx_core::Close<'_>) {
        self.0.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// A loop, and where it listens.
struct Bench {
    event_loop: EventLoop,
    path: PathBuf,
    heard: Arc<Heard>,
}

impl Bench {
    fn new(name: &str) -> Self {
        Self::with_topic(name, None)
    }

    fn with_topic(name: &str, topic: Option<&'static str>) -> Self {
        Self::with_options(name, topic, &Options::default())
    }

    fn with_options(name: &str, topic: Option<&'static str>, options: &Options) -> Self {
        let path = std::env::temp_dir().join(format!("wsx-{name}-{}.sock", std::process::id()));
        let heard = Arc::new(Heard::default());
        let event_loop = EventLoop::new().unwrap();
        event_loop.listen(&format!("unix:{}", path.display()), options, Echo(heard.clone(), topic)).unwrap();
        Self { event_loop, path, heard }
    }

    /// Turns until so much was heard; what does not come is a bug, for everything was written before.
    fn turn_until(&mut self, what: fn(&Heard) -> &AtomicUsize, count: usize) {
        let begun = Instant::now();
        while what(&self.heard).load(Ordering::Relaxed) < count {
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not come");
            self.event_loop.turn(Some(Duration::from_secs(30))).unwrap();
        }
    }

    fn open(&mut self) -> UnixStream {
        self.open_with("")
    }

    /// The same, with further header lines.
    fn open_with(&mut self, more: &str) -> UnixStream {
        let mut peer = UnixStream::connect(&self.path).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
        );
        peer.write_all(request.as_bytes()).unwrap();
        let opened = self.heard.opened.load(Ordering::Relaxed);
        self.turn_until(|heard| &heard.opened, opened + 1);
        let mut head = [0; 512];
        let size = peer.read(&mut head).unwrap();
        assert!(head[..size].starts_with(b"HTTP/1.1 101 ") && head[..size].ends_with(b"\r\n\r\n"));
        peer
    }

    /// One message there, and its echo back.
    fn echo(&mut self, peer: &mut UnixStream, frame: &[u8], answer: &mut [u8]) {
        let heard = self.heard.messages.load(Ordering::Relaxed);
        peer.write_all(frame).unwrap();
        self.turn_until(|heard| &heard.messages, heard + 1);
        peer.read_exact(answer).unwrap();
    }
}

#[test]
fn a_message_that_arrives_whole_crosses_without_an_allocation() {
    let mut bench = Bench::new("whole");
    let mut peer = bench.open();
    for (first, size) in [(0x81, 64), (0x82, 64), (0x81, 4096), (0x82, 4096), (0x81, 64 * 1024), (0x82, 64 * 1024)] {
        let frame = frame(first, &vec![b'x'; size], size);
        let mut answer = vec![0; sent_size(size)];
        (0..5).for_each(|_| bench.echo(&mut peer, &frame, &mut answer));
        let found = allocations(|| (0..100).for_each(|_| bench.echo(&mut peer, &frame, &mut answer)));
        assert_eq!(found, 0, "100 messages of {size} bytes, first byte {first:#x}");
        assert_eq!(answer[0], first);
        assert!(answer.ends_with(&vec![b'x'; size]));
    }
}

#[test]
fn many_messages_in_one_read_cross_without_an_allocation() {
    let mut bench = Bench::new("many");
    let mut peer = bench.open();
    let one = frame(0x81, &[b'x'; 64], 64);
    let frames = one.repeat(32);
    let mut answer = vec![0; 32 * sent_size(64)];
    let mut round = |bench: &mut Bench| {
        let heard = bench.heard.messages.load(Ordering::Relaxed);
        peer.write_all(&frames).unwrap();
        bench.turn_until(|heard| &heard.messages, heard + 32);
        peer.read_exact(&mut answer).unwrap();
    };
    (0..5).for_each(|_| round(&mut bench));
    assert_eq!(allocations(|| (0..100).for_each(|_| round(&mut bench))), 0);
}

/// A client of this loop, and the server that it has, which speaks by hand.
fn open_client(bench: &mut Bench) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    bench.event_loop.connect(&url, &Options::default(), Echo(bench.heard.clone(), None)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    let (mut head, begun) = (Vec::new(), Instant::now());
    while !head.ends_with(b"\r\n\r\n") {
        assert!(begun.elapsed() < Duration::from_secs(30), "the request does not come");
        bench.event_loop.turn(Some(Duration::from_millis(1))).unwrap();
        _ = server.read_to_end(&mut head);
    }
    server.set_nonblocking(false).unwrap();
    let head = String::from_utf8(head).unwrap();
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    server.write_all(answer.as_bytes()).unwrap();
    bench.turn_until(|heard| &heard.opened, 1);
    server
}

#[test]
fn messages_of_a_client_cross_without_an_allocation() {
    let mut bench = Bench::new("client");
    let mut server = open_client(&mut bench);
    for (first, size, count) in [(0x81, 64, 1), (0x82, 64, 32), (0x81, 1000, 1), (0x82, 1000, 8), (0x82, 4096, 1)] {
        let header = if size < 126 { vec![first, size as u8] } else { vec![first, 126, (size >> 8) as u8, size as u8] };
        let frames = [&header[..], &vec![b'x'; size]].concat().repeat(count);
        let mut answer = vec![0; count * (sent_size(size) + MASK.len())];
        let mut round = |bench: &mut Bench| {
            let heard = bench.heard.messages.load(Ordering::Relaxed);
            server.write_all(&frames).unwrap();
            bench.turn_until(|heard| &heard.messages, heard + count);
            server.read_exact(&mut answer).unwrap();
        };
        (0..5).for_each(|_| round(&mut bench));
        let found = allocations(|| (0..100).for_each(|_| round(&mut bench)));
        assert_eq!(found, 0, "100 times {count} messages of {size} bytes, first byte {first:#x}");
    }
}

#[test]
fn a_ping_is_answered_without_an_allocation() {
    let mut bench = Bench::new("ping");
    let mut peer = bench.open();
    // The message behind it tells when it was heard.
    let mut frames = frame(0x89, b"ping", 4);
    frames.extend(frame(0x81, b"text", 4));
    let mut answer = vec![0; 2 * sent_size(4)];
    (0..5).for_each(|_| bench.echo(&mut peer, &frames, &mut answer));
    let found = allocations(|| (0..100).for_each(|_| bench.echo(&mut peer, &frames, &mut answer)));
    assert_eq!((found, &answer[..6]), (0, &b"\x8a\x04ping"[..]));
}

#[test]
fn a_broadcast_allocates_no_more_for_many_than_for_few() {
    let mut bench = Bench::with_topic("broadcast", Some("all"));
    let mut peers = Vec::new();
    for (count, call) in [(10, "broadcast"), (10, "publish"), (300, "broadcast"), (300, "publish")] {
        while peers.len() < count {
            peers.push(bench.open());
        }
        let payload = vec![b'x'; 1000];
        let mut answer = vec![0; sent_size(1000)];
        let mut round = || {
            let message = std::str::from_utf8(&payload).unwrap();
            match call {
                "publish" => bench.event_loop.publish("all", message, None).unwrap(),
                _ => bench.event_loop.broadcast(message, None).unwrap(),
            }
            bench.event_loop.turn(Some(Duration::ZERO)).unwrap();
            peers.iter_mut().for_each(|peer| peer.read_exact(&mut answer).unwrap());
        };
        (0..3).for_each(|_| round());
        // The frame, the count of its references, and the list of the groups.
        let found = allocations(round);
        assert!(found <= 5, "a {call} to {count} allocates {found} times");
    }
}

#[test]
fn an_idle_connection_owns_no_buffer() {
    const COUNT: usize = 1024;
    let mut bench = Bench::new("idle");
    let size = 1000;
    let frame = frame(0x81, &vec![b'x'; size], size);
    let mut answer = vec![0; sent_size(size)];
    let mut peers = Vec::with_capacity(COUNT);
    let mut first = bench.open();
    bench.echo(&mut first, &frame, &mut answer);
    let before = LIVE.get();
    for _ in 0..COUNT {
        let mut peer = bench.open();
        bench.echo(&mut peer, &frame, &mut answer);
        peers.push(peer);
    }
    let each = (LIVE.get() - before) / COUNT as isize;
    // A record, and its places in the list of the open connections and in that of the timers.
    assert!(each < 300, "{each} bytes for each idle connection");
    assert!(each > 100, "{each} bytes is too little to be true");
}

#[test]
fn a_connection_that_is_gone_leaves_nothing() {
    let mut bench = Bench::new("gone");
    let round = |bench: &mut Bench| {
        let mut peers: Vec<_> = (0..200).map(|_| bench.open()).collect();
        let size = 1000;
        let frame = frame(0x81, &vec![b'x'; size], size);
        let mut answer = vec![0; sent_size(size)];
        peers.iter_mut().for_each(|peer| bench.echo(peer, &frame, &mut answer));
        let closed = bench.heard.closed.load(Ordering::Relaxed) + peers.len();
        drop(peers);
        bench.turn_until(|heard| &heard.closed, closed);
        LIVE.get()
    };
    (0..10).for_each(|_| _ = round(&mut bench));
    let before = round(&mut bench);
    let after = (0..10).map(|_| round(&mut bench)).last().unwrap();
    // The timers of those that are gone are cleared out when they are many.
    assert!(after - before < 64 * 1024, "{} bytes are left", after - before);
}

#[test]
fn a_split_message_is_buffered_as_it_comes_and_freed_when_it_was_told() {
    let mut bench = Bench::new("split");
    let mut peer = bench.open();
    let mut other = bench.open();
    let text = frame(0x81, b"x", 1);
    let mut answer = [0; 3];
    let mut turned = |bench: &mut Bench| (0..3).for_each(|_| bench.echo(&mut other, &text, &mut answer));
    turned(&mut bench);
    let size = 1024 * 1024;
    let whole = frame(0x82, &vec![b'x'; size], size);
    let mut buffer = vec![0; 64 * 1024];
    let before = LIVE.get();
    // A mebibyte is announced, a thousand bytes come.
    peer.write_all(&whole[..1000]).unwrap();
    turned(&mut bench);
    let held = LIVE.get() - before;
    assert!((900..8 * 1024).contains(&held), "{held} bytes are held for 1,000 that came");
    MOST.set(LIVE.get());
    let heard = bench.heard.messages.load(Ordering::Relaxed);
    for piece in whole[1000..].chunks(100_000) {
        peer.write_all(piece).unwrap();
        bench.event_loop.turn(Some(Duration::from_secs(30))).unwrap();
    }
    bench.turn_until(|heard| &heard.messages, heard + 1);
    assert!(MOST.get() - before < 5 * 1024 * 1024, "{} bytes at most", MOST.get() - before);
    let mut received = 0;
    while received < sent_size(size) {
        received += peer.read(&mut buffer).unwrap();
        bench.event_loop.turn(Some(Duration::ZERO)).unwrap();
    }
    turned(&mut bench);
    let left = LIVE.get() - before;
    assert!(left < 1024, "{left} bytes are left");
}

#[cfg(feature = "deflate")]
mod compression {
    use flate2::{Compress, FlushCompress};
    use wsx_core::Compression;

    use super::*;

    const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

    fn options(change: impl FnOnce(&mut Compression)) -> Options {
        let mut compression = Compression::default();
        change(&mut compression);
        let mut options = Options::default();
        options.compression = Some(compression);
        options
    }

    fn deflated(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(payload.len() + 100);
        Compress::new(flate2::Compression::best(), false).compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
        out.truncate(out.len() - 4);
        out
    }

    fn compressed_frame(payload: &[u8]) -> Vec<u8> {
        let compressed = deflated(payload);
        frame(0xc2, &compressed, compressed.len())
    }

    /// One message there, and its compressed echo back, of at most 125 bytes; how long that was.
    fn echo(bench: &mut Bench, peer: &mut UnixStream, frame: &[u8]) -> usize {
        let mut header = [0; 2];
        bench.echo(peer, frame, &mut header);
        assert!(header[0] == 0xc2 && header[1] < 126, "{header:x?}");
        let mut payload = [0; 125];
        peer.read_exact(&mut payload[..usize::from(header[1])]).unwrap();
        usize::from(header[1])
    }

    #[test]
    fn a_compressed_message_costs_one_small_allocation_however_large_it_becomes() {
        let mut bench = Bench::with_options("deflate", None, &options(|_| {}));
        let mut peer = bench.open_with(OFFER);
        for size in [2000, 50_000] {
            let frame = compressed_frame(&vec![b'x'; size]);
            (0..5).for_each(|_| _ = echo(&mut bench, &mut peer, &frame));
            let before = LIVE.get();
            let found = allocations(|| (0..100).for_each(|_| _ = echo(&mut bench, &mut peer, &frame)));
            assert!(found <= 100, "100 messages of {size} bytes allocate {found} times");
            assert_eq!(LIVE.get() - before, 0);
        }
    }

    /// Bytes that each of some connections holds after a compressed message in either direction.
    fn held_by_each(name: &str, options: &Options) -> isize {
        const COUNT: usize = 64;
        let mut bench = Bench::with_options(name, None, options);
        let frame = compressed_frame(&[b'x'; 2000]);
        let mut first = bench.open_with(OFFER);
        echo(&mut bench, &mut first, &frame);
        let mut peers = Vec::with_capacity(COUNT);
        let before = LIVE.get();
        for _ in 0..COUNT {
            let mut peer = bench.open_with(OFFER);
            echo(&mut bench, &mut peer, &frame);
            peers.push(peer);
        }
        (LIVE.get() - before) / COUNT as isize
    }

    #[test]
    fn a_connection_without_contexts_owns_nothing_between_compressed_messages() {
        let each = held_by_each("no-context", &options(|_| {}));
        assert!(each < 600, "{each} bytes for each connection");
    }

    #[test]
    fn a_kept_context_costs_what_the_options_say() {
        let inflating =
            held_by_each("context-in", &options(|compression| compression.client_no_context_takeover = false));
        assert!((46..50).contains(&(inflating / 1024)), "{inflating} bytes to inflate");
        for bits in [9, 12, 15] {
            let compressing = held_by_each(
                "context-out",
                &options(|compression| {
                    compression.server_no_context_takeover = false;
                    compression.server_max_window_bits = bits;
                }),
            );
            let told = 243 + 4 * (1 << bits) / 1024;
            assert!(
                (told..told + 2).contains(&(compressing / 1024)),
                "{compressing} bytes to compress with {bits} bits"
            );
        }
    }

    #[test]
    fn hostile_26_a_bomb_takes_no_more_memory_than_the_largest_message() {
        let mut options = options(|_| {});
        options.max_message = 2 * 1024 * 1024;
        let mut bench = Bench::with_options("bomb", None, &options);
        let mut peer = bench.open_with(OFFER);
        // 1 GiB of zeros: the block of the first of them again and again, in one frame.
        let mut block = Vec::with_capacity(100_000);
        let zeros = vec![0; 1 << 20];
        Compress::new(flate2::Compression::best(), false)
            .compress_vec(&zeros, &mut block, FlushCompress::Full)
            .unwrap();
        drop(zeros);
        let bomb = block.repeat(1024);
        let bomb = frame(0xc2, &bomb, bomb.len());
        let before = LIVE.get();
        MOST.set(before);
        for piece in bomb.chunks(100_000) {
            // The end of it finds nobody.
            let _ = peer.write_all(piece);
            bench.event_loop.turn(Some(Duration::ZERO)).unwrap();
        }
        drop(peer);
        bench.turn_until(|heard| &heard.closed, 1);
        let most = MOST.get() - before;
        assert_eq!(bench.heard.messages.load(Ordering::Relaxed), 0);
        assert!(most < 5 * 1024 * 1024, "{most} bytes at most");
    }
}
