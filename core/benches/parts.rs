//! How long each part of the engine takes: `make bench-parts`, or for some `cargo bench -p wsx-core -- NAME`.
//!
//! What a whole message costs is told by `make budgets`, without noise; this tells which part of it a change has moved.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
#[cfg(feature = "deflate")]
use wsx_core::protocol::deflate::{Compressors, Inflaters, Sending};
use wsx_core::protocol::frame::{self, OpCode, Role};
use wsx_core::protocol::message::{Limits, Received, Receiver};
use wsx_core::protocol::unmask::{unmask, unmask_from};
use wsx_core::protocol::{handshake, http};
use wsx_core::{EventLoop, Options};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const SIZES: [usize; 3] = [64, 1024, 64 * 1024];
const TIMERS: u64 = 10_000;

fn main() {
    let (warm_up, measurement) = (Duration::from_millis(500), Duration::from_secs(2));
    let mut criterion = Criterion::default().warm_up_time(warm_up).measurement_time(measurement).configure_from_args();
    unmasking(&mut criterion);
    headers(&mut criterion);
    encoding(&mut criterion);
    messages(&mut criterion);
    utf8(&mut criterion);
    opening(&mut criterion);
    #[cfg(feature = "deflate")]
    compression(&mut criterion);
    timers(&mut criterion);
    criterion.final_summary();
}

fn unmasking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unmask");
    for size in SIZES {
        let mut payload = vec![b'x'; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("whole", size), |bench| {
            bench.iter(|| unmask(black_box(&mut payload), KEY));
        });
        group.bench_function(BenchmarkId::new("from the third byte of the key", size), |bench| {
            bench.iter(|| unmask_from(black_box(&mut payload), KEY, 2));
        });
    }
    group.finish();
}

fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("header");
    for size in SIZES {
        let (bytes, _) = frame::encode_header(OpCode::Binary, true, size, Some(KEY));
        group.bench_function(BenchmarkId::new("parse", size), |bench| {
            bench.iter(|| frame::parse(black_box(&bytes), Role::Server, false));
        });
        group.bench_function(BenchmarkId::new("encode", size), |bench| {
            bench.iter(|| frame::encode_header(OpCode::Binary, true, black_box(size), None));
        });
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (name, mask) in [("as a server", None), ("as a client", Some(KEY))] {
        for size in SIZES {
            let payload = vec![b'x'; size];
            let mut out = Vec::with_capacity(size + frame::MAX_HEADER);
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(name, size), |bench| {
                bench.iter(|| {
                    out.clear();
                    frame::append(&mut out, OpCode::Binary, true, black_box(&payload), mask);
                });
            });
        }
    }
    group.finish();
}

/// Receives frames that make `messages` messages, in reads of at most `read` bytes.
fn receive(frames: &mut [u8], read: usize, role: Role, limits: &Limits, messages: usize) {
    let mut receiver = Receiver::default();
    let mut received = 0;
    for mut bytes in frames.chunks_mut(read) {
        while !bytes.is_empty() {
            let (event, rest) = receiver.receive(bytes, role, limits, None).expect("the frames are valid");
            received += usize::from(matches!(event, Some(Received::Message(_) | Received::Assembled(_))));
            black_box(&event);
            bytes = rest;
        }
    }
    assert_eq!(received, messages);
}

/// A message in frames of at most `size` bytes of payload.
fn fragments(opcode: OpCode, payload: &[u8], size: usize, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frames = Vec::new();
    let count = payload.len().div_ceil(size);
    for (index, part) in payload.chunks(size).enumerate() {
        let opcode = if index == 0 { opcode } else { OpCode::Continuation };
        frame::append(&mut frames, opcode, index + 1 == count, part, mask);
    }
    frames
}

fn messages(criterion: &mut Criterion) {
    let limits = Limits::from(&Options::default());
    let payload = vec![b'x'; 64 * 1024];
    let whole = fragments(OpCode::Binary, &payload, payload.len(), Some(KEY));
    let many = fragments(OpCode::Binary, &payload[..32 * 64], 64, Some(KEY));
    let many: Vec<u8> = many.chunks(64 + 6).flat_map(|frame| [&[0x82], &frame[1..]].concat()).collect();
    let cases = [
        ("32 of 64 B in a read", many, usize::MAX, 32),
        ("64 KiB in a read", whole.clone(), usize::MAX, 1),
        ("64 KiB in reads of 16 KiB", whole, 16 * 1024, 1),
        ("64 KiB in fragments of 1 KiB", fragments(OpCode::Binary, &payload, 1024, Some(KEY)), usize::MAX, 1),
    ];
    let mut group = criterion.benchmark_group("receive");
    for (name, frames, read, messages) in cases {
        group.throughput(Throughput::Bytes(frames.len() as u64));
        group.bench_function(name, |bench| {
            // Unmasking writes into them.
            bench.iter_batched_ref(
                || frames.clone(),
                |frames| receive(frames, read, Role::Server, &limits, messages),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Text as a client receives it: without a mask, so that what is left beside the check is the header, and the copy
/// where a message comes in pieces.
fn utf8(criterion: &mut Criterion) {
    let limits = Limits::from(&Options::default());
    let mut group = criterion.benchmark_group("utf8");
    for (alphabet, characters) in [("ascii", "the quick brown fox "), ("mixed", "aé€😀zß語")] {
        for size in SIZES {
            let text: String = characters
                .chars()
                .cycle()
                .scan(0, |length, character| {
                    *length += character.len_utf8();
                    (*length <= size).then_some(character)
                })
                .collect();
            // 61 and 4,093 are prime, so characters are cut at all their places.
            let whole = fragments(OpCode::Text, text.as_bytes(), size, None);
            let pieces = fragments(OpCode::Text, text.as_bytes(), if size > 1024 { 4093 } else { 61 }, None);
            group.throughput(Throughput::Bytes(text.len() as u64));
            for (name, mut frames) in [("whole", whole), ("in fragments", pieces)] {
                group.bench_function(BenchmarkId::new(format!("{alphabet}, {name}"), size), |bench| {
                    bench.iter(|| receive(black_box(&mut frames), usize::MAX, Role::Client, &limits, 1));
                });
            }
        }
    }
    group.finish();
}

const REQUEST: &[u8] = b"GET /chat?room=1 HTTP/1.1\r\n\
    Host: localhost:9001\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: */*\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Origin: http://localhost:9001\r\n\
    Sec-WebSocket-Protocol: chat\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Connection: keep-alive, Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    Upgrade: websocket\r\n\r\n";

/// A browser's request and its answer, as a server has it to do.
fn opening(criterion: &mut Criterion) {
    let options = Options::default();
    let mut out = Vec::with_capacity(1024);
    let mut group = criterion.benchmark_group("opening handshake");
    group.bench_function("find the end of the head", |bench| {
        bench.iter(|| http::scan_head(black_box(REQUEST), &mut 0, options.max_head));
    });
    group.bench_function("parse and check the request", |bench| {
        bench.iter(|| {
            let mut storage = [MaybeUninit::uninit(); 100];
            let head = http::parse_request(black_box(REQUEST), &mut storage).expect("it is valid");
            black_box(handshake::check_request(&head).expect("it is valid"));
        });
    });
    group.bench_function("answer", |bench| {
        bench.iter(|| {
            out.clear();
            handshake::write_accept(&mut out, black_box(b"dGhlIHNhbXBsZSBub25jZQ=="), Some("chat"), None, &[]);
        });
    });
    group.finish();
}

/// JSON as programs send it, no record like another: it compresses to a quarter.
#[cfg(feature = "deflate")]
fn json(size: usize) -> Vec<u8> {
    const STATES: [&str; 4] = ["created", "paid", "shipped", "returned"];
    const CITIES: [&str; 7] = ["Lisbon", "Oslo", "Nairobi", "Kyoto", "Lima", "Tartu", "Quebec"];
    let mut text = String::new();
    for number in (1..).take_while(|number| number * 64 <= size as u64) {
        // The golden ratio's bits: so the numbers look like any.
        let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (state, city, price) = (STATES[key as usize % 4], CITIES[key as usize % 7], key % 20_000);
        text += &format!(r#"{{"key":"{key:016x}","type":"order.{state}","city":"{city}","price":{price}}},"#);
    }
    text.truncate(size);
    text.into_bytes()
}

/// What compresses and inflates belongs to the loop where no context is kept, and is begun anew for each message.
#[cfg(feature = "deflate")]
fn compression(criterion: &mut Criterion) {
    const SIZE: usize = 4096;
    let text = json(SIZE);
    let mut group = criterion.benchmark_group("deflate");
    group.throughput(Throughput::Bytes(SIZE as u64));
    for level in [1, 6, 9] {
        let sending = Sending { level, window_bits: 15, threshold: 0, keeps_context: false };
        let mut compressors = Compressors::default();
        assert!(compressors.compress(&sending, &text));
        let compressed = compressors.compressed.clone();
        group.bench_function(BenchmarkId::new("compress", format!("level {level}")), |bench| {
            bench.iter(|| assert!(compressors.compress(&sending, black_box(&text))));
        });
        let (mut inflaters, mut out) = (Inflaters::default(), Vec::with_capacity(SIZE));
        group.bench_function(BenchmarkId::new("inflate", format!("level {level}")), |bench| {
            bench.iter(|| {
                out.clear();
                let mut inflater = inflaters.lend();
                inflater.inflate_all(black_box(&compressed), &mut out, SIZE).expect("it is valid");
                inflater.finish_message(false).expect("it is whole");
                inflaters.take_back(inflater);
                assert_eq!(out.len(), SIZE);
            });
        });
    }
    // It has all of it from the message before, so that this is the least that a message can take.
    let sending = Sending { level: 6, window_bits: 15, threshold: 0, keeps_context: true };
    let (mut compressor, mut out) = (sending.compressor(), Vec::new());
    group.bench_function(BenchmarkId::new("compress", "a message that came before, with a context"), |bench| {
        bench.iter(|| assert!(compressor.compress_message(black_box(&text), &mut out)));
    });
    group.finish();
}

/// The program's timers, which are in one structure with the deadlines of connections.
fn timers(criterion: &mut Criterion) {
    let mut event_loop = EventLoop::new().expect("a loop can be made");
    event_loop.turn(Some(Duration::ZERO)).expect("it turns");
    let mut group = criterion.benchmark_group("timers");
    group.throughput(Throughput::Elements(TIMERS));
    group.bench_function("set and cancel 10,000", |bench| {
        bench.iter(|| {
            let set: Vec<_> = (0..TIMERS)
                // A prime step, so that they come in no order.
                .map(|index| Duration::from_millis(60_000 + index * 7919 % TIMERS))
                .map(|after| event_loop.set_timer(after, || ()).expect("it can be set"))
                .collect();
            for timer in set {
                timer.cancel().expect("it can be cancelled");
            }
            // What is left of them goes when the loop looks for its next deadline.
            assert_eq!(event_loop.next_deadline().expect("it can be asked"), None);
        });
    });
    group.bench_function("set and run 10,000", |bench| {
        bench.iter(|| {
            for _ in 0..TIMERS {
                event_loop.set_timer(Duration::ZERO, || ()).expect("it can be set");
            }
            while event_loop.next_deadline().expect("it can be asked").is_some() {
                event_loop.turn(Some(Duration::ZERO)).expect("it turns");
            }
        });
    });
    group.finish();
}
