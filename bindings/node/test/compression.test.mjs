// permessage-deflate: what is agreed on with real peers and raw ones, and what then is on the wire.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { test } from "node:test";
import { constants, inflateRawSync } from "node:zlib";
import { WebSocket as Undici } from "undici";
import * as ws from "ws";
import { WebSocket, WebSocketServer } from "../index.mjs";
import { accepted, frame, inLine, leave, limit, open, raw, serve, serveEcho, serveWs } from "./support.mjs";

const WITHOUT_CONTEXTS = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const WITH_CONTEXTS = { serverNoContextTakeover: false, clientNoContextTakeover: false };
const COMPRESSED = 0x40;                   // RSV1 (RFC 7692 section 6)

/** An open connection of the package ws, with the extensions of the answer as it came. */
async function openWs(url, perMessageDeflate = true) {
  const socket = inLine(new ws.WebSocket(url, { perMessageDeflate }));
  const upgraded = once(socket, "upgrade");
  await once(socket, "open");
  socket.answer = (await upgraded)[0].headers["sec-websocket-extensions"];
  return socket;
}

/** Messages of all sizes, that compress well and that do not, come back as they were. */
async function echoes(socket) {
  const random = randomBytes(100_000);
  for (const message of ["", "short", "Grüße 👩‍🚀 ".repeat(10_000), Buffer.alloc(0), Buffer.alloc(1 << 20), random, random, random.toString("hex")]) {
    socket.send(message);
    assert.deepEqual(await socket.receive(), message);
  }
}

const offer = (extensions) => `Sec-WebSocket-Extensions: ${extensions}\r\n`;
const agreedBy = (peer) => /^sec-websocket-extensions: (.*)$/im.exec(peer.head)?.[1];

/** The next frame of a raw peer: first byte and payload. */
async function frameOf(peer, from = 0) {
  const whole = (all) => all.length >= from + 4 && all.length >= from + headOf(all) + lengthOf(all);
  const headOf = (all) => all[from + 1] === 126 ? 4 : 2;
  const lengthOf = (all) => all[from + 1] === 126 ? all.readUInt16BE(from + 2) : all[from + 1];
  const all = await peer.until(whole);
  const start = from + headOf(all), end = start + lengthOf(all);
  return { first: all[from], payload: all.subarray(start, end), end };
}

/** A message that was compressed by itself (RFC 7692 section 7.2.2). */
function inflated(payload) {
  return inflateRawSync(Buffer.concat([payload, Buffer.from([0, 0, 0xff, 0xff])]), { finishFlush: constants.Z_SYNC_FLUSH }).toString();
}

for (const [name, options, answer] of [
  ["by default", true, WITHOUT_CONTEXTS],
  ["with contexts", WITH_CONTEXTS, "permessage-deflate"],
  ["with small windows", { serverMaxWindowBits: 9, clientMaxWindowBits: 10 }, `${WITHOUT_CONTEXTS}; server_max_window_bits=9; client_max_window_bits=10`],
]) {
  test(`ws as client: messages are compressed, ${name}`, limit, async (t) => {
    const server = await serveEcho(t, { perMessageDeflate: options });
    const connection = accepted(server);
    const socket = await openWs(server.url);
    assert.equal(socket.answer, answer);
    assert.equal(socket.extensions, "permessage-deflate");
    const { socket: other } = await connection;
    assert.equal(other.extensions, "permessage-deflate");
    await echoes(socket);
    await leave(socket);
    await other.closed;
    assert.equal(other.extensions, "permessage-deflate");
  });

  test(`ws as server: messages are compressed, ${name}`, limit, async (t) => {
    const server = await serveWs(t, { perMessageDeflate: true });
    const socket = inLine(new WebSocket(server.url, { perMessageDeflate: options }));
    assert.equal(socket.extensions, "");
    await once(socket, "open");
    assert.equal(socket.extensions, "permessage-deflate");
    assert.equal([...server.clients][0].extensions, "permessage-deflate");
    await echoes(socket);
    await leave(socket);
  });
}

test("undici as client: messages are compressed", limit, async (t) => {
  const server = await serveEcho(t, { origins: "any", perMessageDeflate: true });
  const socket = new Undici(server.url);
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = (event) => reject(event.error); });
  assert.match(socket.extensions, /^permessage-deflate/);
  for (const message of ["short", "long ".repeat(100_000)]) {
    const heard = new Promise((resolve) => { socket.onmessage = resolve; });
    socket.send(message);
    assert.equal((await heard).data, message);
  }
  socket.close();
});

test("without the option nothing is offered and nothing answered", limit, async (t) => {
  const socket = await openWs((await serveEcho(t)).url);
  assert.deepEqual([socket.extensions, socket.answer], ["", undefined]);
  await echoes(socket);
  const server = await serveWs(t, { perMessageDeflate: true });
  const connection = once(server, "connection");
  const ours = await open(server.url);
  assert.equal(ours.extensions, "");
  assert.equal((await connection)[1].headers["sec-websocket-extensions"], undefined);
  await echoes(ours);
});

test("a peer that declines is spoken to without compression", limit, async (t) => {
  const socket = await open((await serveWs(t)).url, [], { perMessageDeflate: true });
  assert.equal(socket.extensions, "");
  await echoes(socket);
  const other = await openWs((await serveEcho(t, { perMessageDeflate: true })).url, false);
  assert.deepEqual([other.extensions, other.answer], ["", undefined]);
  await echoes(other);
});

test("a client offers what is asked for, and a connection fails where that is not granted", limit, async (t) => {
  const server = await serveWs(t, { perMessageDeflate: true });
  for (const [options, offered] of [
    [true, `${WITHOUT_CONTEXTS}; client_max_window_bits`],
    [{ clientMaxWindowBits: true, ...WITH_CONTEXTS }, "permessage-deflate; client_max_window_bits"],
    [{ serverMaxWindowBits: 11, clientMaxWindowBits: 12 }, `${WITHOUT_CONTEXTS}; server_max_window_bits=11; client_max_window_bits=12`],
  ]) {
    const connection = once(server, "connection");
    const socket = await open(server.url, [], { perMessageDeflate: options });
    assert.equal((await connection)[1].headers["sec-websocket-extensions"], offered);
    await leave(socket);
  }
  server.on("headers", (headers) => {
    headers[headers.findIndex((line) => line.startsWith("Sec-WebSocket-Extensions"))] = "Sec-WebSocket-Extensions: permessage-deflate";
  });
  const [error] = await once(new WebSocket(server.url, { perMessageDeflate: true }), "error");
  assert.match(error.message, /server_no_context_takeover/);
  assert.deepEqual([error.stage, error.kind], ["http", "protocol"]);
});

test("a server answers offers within its options", limit, async (t) => {
  const server = await serve(t, { perMessageDeflate: { serverMaxWindowBits: 12, clientMaxWindowBits: 11, clientNoContextTakeover: false } });
  for (const [offered, answer] of [
    ["permessage-deflate", "permessage-deflate; server_no_context_takeover; server_max_window_bits=12"],
    ["permessage-deflate; server_max_window_bits=10; client_max_window_bits", "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; client_max_window_bits=11"],
    ["permessage-deflate; server_max_window_bits=16", undefined],
    ["constructor, permessage-deflate; x=1", undefined],
  ]) {
    const peer = await raw(server, "/", offer(offered));
    assert.match(peer.head, /^HTTP\/1.1 101 /);
    assert.equal(agreedBy(peer), answer, offered);
    peer.destroy();
  }
});

test("messages from the threshold on are compressed, at the level asked for", limit, async (t) => {
  const text = Array.from({ length: 700 }, (_, i) => `${i * i} `).join("");
  const sizes = [];
  for (const level of [1, 9, -1]) {
    const server = await serve(t, { perMessageDeflate: { threshold: 100, zlibDeflateOptions: { level, memLevel: 9 }, concurrencyLimit: 1 } });
    const connection = accepted(server);
    const peer = await raw(server, "/", offer("permessage-deflate"));
    const { socket } = await connection;
    socket.send("x".repeat(99));
    socket.send("x".repeat(100));
    socket.send(text);
    const small = await frameOf(peer);
    assert.deepEqual([small.first & COMPRESSED, small.payload.toString()], [0, "x".repeat(99)]);
    const next = await frameOf(peer, small.end);
    assert.deepEqual([next.first & COMPRESSED, inflated(next.payload)], [COMPRESSED, "x".repeat(100)]);
    const last = await frameOf(peer, next.end);
    assert.deepEqual([last.first & COMPRESSED, inflated(last.payload)], [COMPRESSED, text]);
    sizes.push(last.payload.length);
    peer.destroy();
  }
  assert.ok(sizes[1] < sizes[0] && sizes[2] < sizes[0], sizes.join(" "));
});

test("a context that is kept makes the second of two messages small", limit, async (t) => {
  const text = randomBytes(1000).toString("hex");
  for (const [options, isKept] of [[WITH_CONTEXTS, true], [true, false]]) {
    const server = await serve(t, { perMessageDeflate: options });
    const connection = accepted(server);
    const peer = await raw(server, "/", offer("permessage-deflate"));
    const { socket } = await connection;
    socket.send(text);
    socket.send(text);
    const first = await frameOf(peer);
    const second = await frameOf(peer, first.end);
    assert.ok(first.payload.length > 1000);
    assert.equal(second.payload.length < 100, isKept, `${second.payload.length} bytes`);
    peer.destroy();
  }
});

test("maxMessage counts what a message inflates to", limit, async (t) => {
  const server = await serve(t, { perMessageDeflate: true, maxMessage: 10_000 });
  const connection = accepted(server);
  const socket = await openWs(server.url);
  const { socket: other } = await connection;
  socket.send(Buffer.alloc(10_000));
  assert.deepEqual(await other.receive(), Buffer.alloc(10_000));
  socket.send(Buffer.alloc(10_001));
  assert.equal((await socket.closed).code, 1009);
  const { info } = await other.closed;
  assert.deepEqual([info.error.code, info.error.kind], ["WS_ERR_UNSUPPORTED_MESSAGE_LENGTH", "limit"]);
});

test("a compressed message that is none is told in the code of ws", limit, async (t) => {
  const server = await serve(t, { perMessageDeflate: true });
  const connection = accepted(server);
  const peer = await raw(server, "/", offer("permessage-deflate"));
  const { socket } = await connection;
  peer.write(frame(COMPRESSED | 1, [0x07, 0xff, 0xff]));
  const { code, info } = await socket.closed;
  assert.deepEqual([code, info.error.code, info.error.kind], [1007, "Z_DATA_ERROR", "protocol"]);
  peer.destroy();
});

test("broadcasts and topics reach peers with compression and without", limit, async (t) => {
  const server = await serve(t, { perMessageDeflate: true });
  server.on("connection", (socket) => socket.subscribe("news"));
  const sockets = [await openWs(server.url), await openWs(server.url, false), await open(server.url, [], { perMessageDeflate: WITH_CONTEXTS })];
  const text = "to all ".repeat(1000);
  server.broadcast(text);
  server.publish("news", Buffer.from(text));
  for (const socket of sockets) {
    assert.equal(await socket.receive(), text);
    assert.deepEqual(await socket.receive(), Buffer.from(text));
  }
});

test("options of perMessageDeflate that cannot be are refused at once, on both sides", limit, () => {
  for (const [perMessageDeflate, refusal] of [
    ["yes", { name: "TypeError", code: "ERR_INVALID_ARG_TYPE", message: /"perMessageDeflate" must be a boolean or an object/ }],
    [{ serverMaxWindowBits: 8 }, { name: "RangeError", message: 'The option "perMessageDeflate.serverMaxWindowBits" must be an integer from 9 to 15. Received 8' }],
    [{ clientMaxWindowBits: 16 }, { name: "RangeError", message: /clientMaxWindowBits" must be an integer from 9 to 15/ }],
    [{ serverMaxWindowBits: true }, { name: "TypeError", message: /serverMaxWindowBits/ }],
    [{ threshold: -1 }, { name: "RangeError", message: /perMessageDeflate.threshold/ }],
    [{ zlibDeflateOptions: { level: 0 } }, { name: "RangeError", message: /zlibDeflateOptions.level" must be an integer from 1 to 9/ }],
    [{ zlibInflateOptions: { dictionary: Buffer.from("a") } }, { code: "WSX_ERR_UNSUPPORTED", message: /dictionary/ }],
  ]) {
    assert.throws(() => new WebSocketServer({ port: 0, perMessageDeflate }).unref(), refusal);
    assert.throws(() => new WebSocket("ws://127.0.0.1:1", { perMessageDeflate }), refusal);
  }
});
