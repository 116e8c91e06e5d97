'use strict';
// The border between JavaScript and the engine, in JavaScript's memory.
//
// Events come in by one call of `dispatch` for many: numbers in `inIndex`, payloads in `inSlab`. Messages go out by
// writing them to `outIndex` and `outSlab`, where the engine finds them at the end of the dispatch or before libuv
// waits. `src/memory.rs`, `src/event.rs` and `src/command.rs` are the other half: the numbers here and there are the same.

const { load } = require('./native.js');
const { coded, translate } = require('./errors.js');
const log = require('./log.js');

const { Border } = load();

const SLAB = 64 * 1024;
const LARGE = 16 * 1024;            // from here on a payload is handed over by itself
const EVENTS = 4096, COMMANDS = 4096;
const MAX_TOPIC = 255;              // bytes: the engine's limit, whose refusal would come too late to be thrown
const ENTRY = 4;

const OUT_COUNT = 0, OUT_BYTES = 1, IN_COUNT = 2, IN_CURSOR = 3, IN_BYTES = 4;

const TEXT = 0x100, SEND = 1, PUBLISH = 2, BROADCAST = 3;

const EVENT = {
  OPEN: 1, CONNECTED: 2, TEXT: 3, BINARY: 4, FRAGMENT: 5, PING: 6, PONG: 7, DRAIN: 8, CLOSE: 9, LISTENER_ERROR: 10,
  BUFFERED: 11, NOT_UTF8: 12, CLOSING: 13, DEFERRAL_ENDED: 14, LOST: 15, RECONNECTING: 16, GAVE_UP: 17, RECORD: 18,
};
const LARGE_FLAG = 0x80;

/** The index of nobody: a broadcast that leaves nobody out. */
const NOBODY = -1;

const control = new Int32Array(8);
const inIndex = new Int32Array(EVENTS * ENTRY);
const inSlab = Buffer.from(new ArrayBuffer(SLAB));
const outIndex = new Int32Array(COMMANDS * ENTRY);
const outSlab = Buffer.from(new ArrayBuffer(SLAB));
const large = [];

let native = null;
let holders = 0;
let logged = 0;                     // how much the engine logs
/** The WebSocket of each index. */
const sockets = [];
/** The server of each listener. */
const servers = [];

/** The engine of this thread, begun when it is first used. */
function border() {
  return native ?? begin();
}

function begin() {
  native = new Border({ control, inIndex, inSlab, outIndex, outSlab, large, dispatch, request });
  process.on('exit', () => native.flush());
  return native;
}

/** Calls the engine, with its errors made Node's. */
function attempt(name, ...args) {
  try {
    listenForSubscribers();
    return border()[name](...args);
  } catch (error) {
    throw translate(error);
  }
}

/** Those who hear the log may come and go at any time; nobody tells. */
function listenForSubscribers() {
  const level = log.wantedLevel();
  if (level !== logged) border().log(logged = level);
}

/** Something is open: the process stays. */
function hold() {
  if (holders++ === 0) border().hold(true);
}

/** It is open no more, or may be left. */
function release() {
  if (--holders === 0) native.hold(false);
}

// --- In: events

// A Buffer over memory that is known, in a third of the time of `subarray`, which asks for that memory first.
const View = Buffer[Symbol.species];
const view = View?.prototype === Buffer.prototype
  ? (memory, start, length) => new View(memory, start, length)
  : (memory, start, length) => Buffer.from(memory, start, length);

let batch = null;                   // a copy of this batch's payloads, made when the first one is wanted
let batchStart = 0;                 // where in its memory

/** A payload as a Buffer of its own: a view of one copy per batch. */
function payload(at) {
  const start = inIndex[at + 2];
  if (inIndex[at] & LARGE_FLAG) return large[start];
  const length = inIndex[at + 3];
  if (length === 0) return Buffer.alloc(0);
  if (batch === null) {
    const copy = Buffer.allocUnsafe(control[IN_BYTES]);
    inSlab.copy(copy, 0, 0, copy.length);
    batch = copy.buffer;
    batchStart = copy.byteOffset;
  }
  return view(batch, batchStart + start, length);
}

/** A payload as text whose characters are its bytes. */
function latin1(at) {
  const start = inIndex[at + 2];
  return inIndex[at] & LARGE_FLAG ? large[start].latin1Slice() : inSlab.latin1Slice(start, start + inIndex[at + 3]);
}

/** Walks the events, from the first that was not begun: called again after one whose listener threw. */
function dispatch() {
  if (control[IN_CURSOR] === 0) batch = null;
  const count = control[IN_COUNT];
  for (let number = control[IN_CURSOR]; number < count; number++) {
    control[IN_CURSOR] = number + 1;
    const at = number * ENTRY;
    const flags = inIndex[at], index = inIndex[at + 1], kind = flags & 0x7f;
    if (kind === EVENT.TEXT || kind === EVENT.BINARY) {
      sockets[index]?._receive(kind === EVENT.BINARY, at);
    } else if (kind === EVENT.OPEN) {
      servers[flags >> 16]?._open(index, latin1(at), (flags & 0x100) !== 0);
    } else if (kind === EVENT.LISTENER_ERROR) {
      servers[index]._failed(payload(at));
    } else if (kind === EVENT.DEFERRAL_ENDED) {
      servers[index]?._deferralEnded(latin1(at), (flags & 0x100) !== 0);
    } else if (kind === EVENT.RECORD) {
      log.publish((flags >> 8) & 0xff, flags >> 16, payload(at).toString(), servers[index]);
    } else if (kind === EVENT.BUFFERED) {
      sockets[index]?._told(inIndex[at + 2]);
    } else {
      const socket = sockets[index];
      if (kind === EVENT.CLOSE || kind === EVENT.GAVE_UP) sockets[index] = undefined;
      socket?._event(kind, flags, kind === EVENT.CONNECTED ? latin1(at) : payload(at));
    }
  }
  batch = null;
  if (large.length !== 0) large.length = 0;
  listenForSubscribers();
}

/** A request that a server of ours answers. */
function request(listener, lines) {
  return servers[listener]._request(lines);
}

// --- Out: messages

/** Room for `most` bytes and one more command. */
function makeRoom(most) {
  if (control[OUT_BYTES] + most > SLAB || control[OUT_COUNT] === COMMANDS) border().commit();
  return control[OUT_BYTES];
}

function put(kind, index, length, extra) {
  const number = control[OUT_COUNT], at = number * ENTRY;
  outIndex[at] = kind;
  outIndex[at + 1] = index;
  outIndex[at + 2] = length;
  outIndex[at + 3] = extra;
  control[OUT_COUNT] = number + 1;
  control[OUT_BYTES] += length;
}

/** Writes text or bytes behind what is there; answers how many bytes. */
function write(data, used) {
  if (typeof data === 'string') return outSlab.utf8Write(data, used);
  outSlab.set(data, used);
  return data.length;                 // of bytes; `byteLength` takes thrice as long to ask for
}

/** The most bytes that a message can have. */
function most(data) {
  return typeof data === 'string' ? data.length * 3 : data.length;
}

function bytesOf(data) {
  return typeof data === 'string' ? Buffer.from(data) : data;
}

/** Sends a string or Uint8Array; answers how many bytes it has. */
function send(index, data, isText) {
  const size = most(data);
  if (size >= LARGE) {
    const bytes = bytesOf(data);
    attempt('send', index, isText, bytes);
    return bytes.byteLength;
  }
  const length = write(data, makeRoom(size));
  put(isText ? SEND | TEXT : SEND, index, length, 0);
  return length;
}

function publish(topic, data, isText, except) {
  const size = topic.length * 3 + most(data);
  if (size >= LARGE) return attempt('publish', topic, isText, bytesOf(data), except);
  const used = makeRoom(size);
  const prefix = write(topic, used);
  if (prefix === 0 || prefix > MAX_TOPIC) {
    throw coded(TypeError, 'ERR_INVALID_ARG_VALUE', `invalid argument: a topic's name has 1 to ${MAX_TOPIC} bytes, this one ${prefix}`);
  }
  put(isText ? PUBLISH | TEXT : PUBLISH, except, prefix + write(data, used + prefix), prefix);
}

function broadcast(listener, data, isText, except) {
  const size = most(data);
  if (size >= LARGE) return attempt('broadcast', listener, isText, bytesOf(data), except);
  put(isText ? BROADCAST | TEXT : BROADCAST, except, write(data, makeRoom(size)), listener);
}

module.exports = { EVENT, NOBODY, attempt, border, broadcast, bytesOf, hold, payload, publish, release, send, servers, sockets };
