// One connection: what ws documents, and what a browser's WebSocket is.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import Default, { Server, WebSocket, WebSocketServer } from "../index.mjs";
import { accepted, failed, frame, leave, limit, open, raw, serve, serveEcho } from "./support.mjs";

test("the exports are those of ws", limit, () => {
  assert.equal(Default, WebSocket);
  assert.equal(Server, WebSocketServer);
  assert.equal(WebSocket.WebSocketServer, WebSocketServer);
  assert.deepEqual([WebSocket.CONNECTING, WebSocket.OPEN, WebSocket.CLOSING, WebSocket.CLOSED], [0, 1, 2, 3]);
  assert.equal(WebSocket.prototype.OPEN, 1);
});

test("a connection has its properties from CONNECTING to CLOSED", limit, async (t) => {
  const server = await serveEcho(t);
  const socket = new WebSocket(`${server.url}path?query`, ["chat", "other"]);
  assert.equal(socket.readyState, 0);
  assert.equal(socket.url, `${server.url}path?query`);
  assert.throws(() => socket.send("early"), { message: "WebSocket is not open: readyState 0 (CONNECTING)" });
  await once(socket, "open");
  assert.equal(socket.readyState, 1);
  assert.equal(socket.protocol, "chat");
  assert.equal(socket.extensions, "");
  assert.equal(socket.bufferedAmount, 0);
  assert.equal(socket.closeInfo, null);
  socket.close(1000, "bye");
  assert.equal(socket.readyState, 2);
  const [code, reason] = await once(socket, "close");
  assert.equal(socket.readyState, 3);
  assert.equal(code, 1000);
  assert.ok(Buffer.isBuffer(reason));
  assert.equal(reason.toString(), "bye");
  const { error, ...info } = socket.closeInfo;
  assert.equal(error, null);
  assert.deepEqual(info, { code: 1000, reason: "bye", wasClean: true, by: "us", undeliveredMessages: 0, lostMessages: 0, unsentBytes: 0,
    text: 'closed by us with 1000 (normal closure) "bye", clean' });
});

for (const [name, message] of Object.entries({
  "text": "Hello", "text beyond ASCII": "Grüße, 日本語, 👩‍🚀", "empty text": "", "empty binary": Buffer.alloc(0), "binary": Buffer.from([0, 1, 255]),
  "16,383 bytes": "x".repeat(16_383), "16,384 bytes": Buffer.alloc(16_384, 7), "65,536 bytes": "y".repeat(65_536), "1 MiB": Buffer.alloc(1 << 20, "libwsx"),
  "1 MiB of text beyond ASCII": "é".repeat(1 << 19),
})) {
  test(`${name} comes back as it was`, limit, async (t) => {
    const socket = await open((await serveEcho(t)).url);
    socket.send(message);
    assert.deepEqual(await socket.receive(), message);
    await leave(socket);
  });
}

test("what is not a string goes out as bytes, unless told otherwise", limit, async (t) => {
  const socket = await open((await serveEcho(t)).url);
  const bytes = Uint8Array.of(1, 2, 3, 4);
  for (const data of [bytes, bytes.buffer, new DataView(bytes.buffer, 1, 2), new Uint16Array(bytes.buffer), [1, 2, 3]]) {
    socket.send(data);
    const expected = Array.isArray(data) ? Buffer.from(data) : Buffer.from(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength);
    assert.deepEqual(await socket.receive(), expected);
  }
  socket.send(Buffer.from("as text"), { binary: false });
  assert.equal(await socket.receive(), "as text");
  socket.send("as bytes", { binary: true });
  assert.deepEqual(await socket.receive(), Buffer.from("as bytes"));
  socket.send(17);
  assert.equal(await socket.receive(), "17");
  socket.send();
  assert.deepEqual(await socket.receive(), Buffer.alloc(0));
  socket.send("lone \ud800 surrogate");
  assert.equal(await socket.receive(), "lone \ufffd surrogate");
  assert.throws(() => socket.send({}), { code: "ERR_INVALID_ARG_TYPE" });
  assert.throws(() => socket.publish("topic", "part", { fin: false }), { code: "WSX_ERR_UNSUPPORTED" });
  await leave(socket);
});

test("bytes sent as text that are not UTF-8 are told as an error, and nothing is sent", limit, async (t) => {
  const socket = await open((await serveEcho(t)).url);
  const heard = once(socket, "error");
  socket.send(Buffer.from([0xff]), { binary: false });
  socket.send("next");
  assert.equal((await heard)[0].code, "WS_ERR_INVALID_UTF8");
  const [error] = await new Promise((resolve) => socket.send(Buffer.from([0xff]), { binary: false }, (...args) => resolve(args)));
  assert.equal(error.code, "WS_ERR_INVALID_UTF8");
  assert.throws(() => socket.send(Buffer.alloc(20_000, 0xff), { binary: false }), { code: "WS_ERR_INVALID_UTF8" });
  assert.equal(await socket.receive(), "next");
  await leave(socket);
});

test("a message keeps its bytes while others come", limit, async (t) => {
  const socket = await open((await serveEcho(t)).url);
  for (let i = 0; i < 500; i++) socket.send(Buffer.alloc(300, i));
  const kept = [];
  for (let i = 0; i < 500; i++) kept.push(await socket.receive());
  kept.forEach((message, i) => assert.deepEqual(message, Buffer.alloc(300, i)));
  await leave(socket);
});

test("send calls back when the message has left, and in order", limit, async (t) => {
  const server = await serveEcho(t);
  const socket = await open(server.url);
  const order = [];
  await new Promise((resolve) => {
    socket.send("a", (error) => order.push(["a", error]));
    socket.send("b", { binary: true }, (error) => order.push(["b", error]));
    socket.send(Buffer.alloc(1 << 20), (error) => { order.push(["c", error]); resolve(); });
    assert.deepEqual(order, [], "never at once");
  });
  assert.deepEqual(order, [["a", undefined], ["b", undefined], ["c", undefined]]);
  socket.terminate();
  const [error] = await new Promise((resolve) => socket.send("late", (...args) => resolve(args)));
  assert.match(error.message, /^WebSocket is not open: readyState 2 \(CLOSING\)$/);
  assert.equal(socket.send("late"), false, "without a callback it is silent, as in ws");
  await socket.closed;
});

test("a pump that sends from its callback leaves the others their turn", limit, async (t) => {
  const server = await serve(t);
  const socket = await open(server.url);
  let sent = 0;
  const pump = () => { if (++sent < 5000) socket.send("more", pump); };
  pump();
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(sent < 5000, `${sent} were sent before a tick was over`);
  while (sent < 5000) await new Promise((resolve) => setImmediate(resolve));
  await leave(socket);
});

test("pings are answered, and told with their payload", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const socket = await open(server.url);
  const { socket: other } = await connection;
  for (const payload of ["", "are you there?", "p".repeat(125)]) {
    const pinged = once(other, "ping"), ponged = once(socket, "pong");
    socket.ping(payload);
    assert.equal((await pinged)[0].toString(), payload);
    assert.equal((await ponged)[0].toString(), payload);
    assert.ok(socket.latency > 0 && socket.latency < 60_000, `${socket.latency} ms`);
  }
  assert.equal(other.latency, undefined);
  const told = once(other, "pong");
  await new Promise((resolve, reject) => socket.pong("unasked", (error) => error ? reject(error) : resolve()));
  assert.equal((await told)[0].toString(), "unasked");
  assert.throws(() => socket.ping("p".repeat(126)), { name: "RangeError", message: "The data size must not be greater than 125 bytes" });
  await leave(socket);
});

test("an echo leaves before the Close, the pong or the end by a violation that came behind its message", limit, async (t) => {
  const server = await serveEcho(t);
  for (const [behind, answer] of [
    [frame(8, Buffer.from([0x03, 0xe8])), Buffer.from([0x88, 2, 0x03, 0xe8])],
    [frame(9, "p"), Buffer.from([0x8a, 1, 0x70])],
    [Buffer.from([0x83, 0x80, 0, 0, 0, 0]), Buffer.from([0x88])],
  ]) {
    const peer = await raw(server);
    peer.write(Buffer.concat([frame(1, "one"), frame(1, "two"), behind]));
    const expected = Buffer.concat([Buffer.from("\x81\x03one\x81\x03two", "latin1"), answer]);
    const bytes = await peer.until((all) => all.length >= expected.length);
    assert.deepEqual(bytes.subarray(0, expected.length), expected);
    peer.destroy();
  }
});

test("messages and the Close behind them are told in their order", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const peer = await raw(server);
  const { socket } = await connection;
  const told = [];
  socket.on("message", (data) => told.push(data.toString()));
  socket.on("ping", (data) => told.push(`ping ${data}`));
  socket.on("close", (code, reason) => told.push(`${code} ${reason}`));
  peer.write(Buffer.concat([frame(1, "one"), frame(9, "p"), frame(1, "tw", { fin: false }), frame(0, "o"),
    frame(8, Buffer.from([0x03, 0xe8, 0x62, 0x79, 0x65]))]));
  await socket.closed;
  assert.deepEqual(told, ["one", "ping p", "two", "1000 bye"]);
});

test("after close no message is told", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const peer = await raw(server);
  const { socket } = await connection;
  let heard = 0;
  socket.on("message", () => { heard++; socket.close(4000, "enough"); });
  peer.write(Buffer.concat([frame(1, "one"), frame(1, "two"), frame(1, "three")]));
  await peer.until((all) => all.includes("enough"));
  peer.write(frame(8, Buffer.from([0x0f, 0xa0])));
  const { code, info } = await socket.closed;
  assert.deepEqual({ heard, code, by: info.by, wasClean: info.wasClean }, { heard: 1, code: 4000, by: "us", wasClean: true });
});

test("close checks its arguments in the words of ws", limit, async (t) => {
  const socket = await open((await serveEcho(t)).url);
  for (const code of [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, "1000"]) {
    assert.throws(() => socket.close(code), { name: "TypeError", message: "First argument must be a valid error code number" });
  }
  assert.throws(() => socket.close(1000, "x".repeat(124)), { name: "RangeError", message: "The message must not be greater than 123 bytes" });
  assert.equal(socket.readyState, WebSocket.OPEN);
  socket.close(3000, Buffer.from("Grüße"));
  socket.close(1000, "twice is once");
  const { code, reason } = await socket.closed;
  assert.deepEqual({ code, reason }, { code: 3000, reason: "Grüße" });
});

test("a close without a code is told as 1005 on both sides", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const socket = await open(server.url);
  const { socket: other } = await connection;
  socket.close();
  for (const { code, reason, info } of await Promise.all([socket.closed, other.closed])) {
    assert.deepEqual({ code, reason, wasClean: info.wasClean }, { code: 1005, reason: "", wasClean: true });
  }
});

test("terminate is told as 1006, ours without and the peer's with an error", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const socket = await open(server.url);
  const { socket: other } = await connection;
  let told = null;
  other.on("error", (error) => { told = error; assert.equal(other.closeInfo.error, error); });
  socket.terminate();
  assert.equal(socket.readyState, WebSocket.CLOSING);
  const [ours, theirs] = await Promise.all([socket.closed, other.closed]);
  assert.deepEqual([ours.code, ours.info.error], [1006, null]);
  assert.deepEqual([theirs.code, theirs.info.by, theirs.info.error.kind], [1006, "peer", "transport"]);
  assert.equal(told, theirs.info.error);
});

test("a violation is an error with the code that ws has for it", limit, async (t) => {
  const server = await serve(t, { maxMessage: 100, maxFragments: 2 });
  const cases = {
    WS_ERR_INVALID_OPCODE: [Buffer.from([0x83, 0x80, 0, 0, 0, 0]), 1002],
    WS_ERR_UNEXPECTED_RSV_1: [Buffer.from([0xc1, 0x80, 0, 0, 0, 0]), 1002],
    WS_ERR_UNEXPECTED_RSV_2_3: [Buffer.from([0xa1, 0x80, 0, 0, 0, 0]), 1002],
    WS_ERR_EXPECTED_MASK: [Buffer.from([0x81, 0x00]), 1002],
    WS_ERR_EXPECTED_FIN: [Buffer.from([0x09, 0x80, 0, 0, 0, 0]), 1002],
    WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH: [Buffer.from([0x89, 0xfe, 0, 126, 0, 0, 0, 0]), 1002],
    WS_ERR_INVALID_CLOSE_CODE: [frame(8, Buffer.from([0x03, 0xed])), 1002],
    WS_ERR_INVALID_UTF8: [frame(1, Buffer.from([0xff])), 1007],
    WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH: [Buffer.from([0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 1002],
    WS_ERR_UNSUPPORTED_MESSAGE_LENGTH: [frame(1, "x".repeat(101)), 1009],
    WS_ERR_TOO_MANY_BUFFERED_PARTS: [Buffer.concat([frame(1, "a", { fin: false }), frame(0, "b", { fin: false }), frame(0, "c")]), 1008],
  };
  for (const [code, [bytes, closeCode]] of Object.entries(cases)) {
    const connection = accepted(server);
    const peer = await raw(server);
    const { socket } = await connection;
    const erred = once(socket, "error");
    peer.write(bytes);
    const [error] = await erred;
    assert.equal(error.code, code, error.message);
    assert.equal(socket.closeInfo.error, error);
    const limits = { 1009: { option: "maxMessage", unit: "bytes", value: 100, reached: 101 }, 1008: { option: "maxFragments", unit: "count", value: 2, reached: 3 } };
    assert.deepEqual(error.limit, limits[closeCode]);
    peer.destroy();
    assert.equal((await socket.closed).code, closeCode, code);
  }
});

test("nobody has to listen to a connection's errors", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const peer = await raw(server);
  const { socket } = await connection;
  peer.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0]));
  peer.end();
  assert.equal((await socket.closed).info.error.code, "WS_ERR_INVALID_OPCODE");
});

test("a connect that is refused tells error, then close", limit, async () => {
  const listener = createServer();
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  const socket = new WebSocket(`ws://127.0.0.1:${port}`);
  const told = [];
  socket.on("error", (error) => told.push(["error", error.code, error.syscall, error.stage]));
  socket.on("close", (code) => told.push(["close", code, socket.readyState]));
  await new Promise((resolve) => socket.on("close", resolve));
  assert.deepEqual(told, [["error", "ECONNREFUSED", "connect", "connect"], ["close", 1006, 3]]);
});

test("a server's refusal tells its status", limit, async (t) => {
  const server = await serve(t, { path: "/here" });
  const { error, code } = await failed(new WebSocket(`${server.url}there`));
  assert.deepEqual([error.statusCode, error.code, error.stage, code], [404, "WSX_ERR_UNEXPECTED_RESPONSE", "http", 1006]);
});

test("close while connecting is told as ws tells it", limit, async (t) => {
  const server = await serve(t);
  for (const end of ["close", "terminate"]) {
    const socket = new WebSocket(server.url);
    socket.on("open", () => assert.fail("it was closed before"));
    socket[end]();
    const { error, code } = await failed(socket);
    assert.equal(error.message, "WebSocket was closed before the connection was established");
    assert.equal(code, 1006);
  }
});

test("what cannot be a URL or a subprotocol is a SyntaxError", limit, () => {
  assert.throws(() => new WebSocket("no url"), { name: "SyntaxError", message: "Invalid URL: no url" });
  assert.throws(() => new WebSocket("ftp://localhost"), { name: "SyntaxError", message: /must be one of "ws:"/ });
  assert.throws(() => new WebSocket("ws://localhost/#part"), { name: "SyntaxError", message: "The URL contains a fragment identifier" });
  for (const protocols of [[""], ["a b"], ["a", "a"], [1]]) {
    assert.throws(() => new WebSocket("ws://localhost", protocols), { name: "SyntaxError", message: "An invalid or duplicated subprotocol was specified" });
  }
});

test("the request has the headers, the origin and the user that the client was given", limit, async (t) => {
  const server = await serve(t, { origins: "any" });
  const connection = accepted(server);
  const { port } = server.address();
  const socket = await open(`ws://ann:s%20p@127.0.0.1:${port}/`, { headers: { Cookie: "a=b", "X-List": ["1", "2"] }, origin: "http://example.org" });
  const { request } = await connection;
  assert.equal(request.headers.cookie, "a=b");
  assert.equal(request.headers["x-list"], "1, 2");
  assert.equal(request.headers.origin, "http://example.org");
  assert.equal(request.headers.authorization, `Basic ${Buffer.from("ann:s p").toString("base64")}`);
  assert.equal(request.headers.host, `127.0.0.1:${port}`);
  await leave(socket);
});

test("pause holds everything, and resume tells it in order", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const peer = await raw(server);
  const { socket } = await connection;
  const told = [];
  socket.on("message", (data) => {
    told.push(data.toString());
    if (told.length === 1) socket.pause();
  });
  socket.on("pong", (data) => told.push(`pong ${data}`));
  const first = once(socket, "message");
  peer.write(Buffer.concat([frame(1, "one"), frame(1, "two"), frame(10, "p")]));
  await first;
  assert.equal(socket.isPaused, true);
  peer.write(frame(1, "three"));
  // Another connection is served meanwhile: if this one were read, it would have been by then.
  const other = await open(server.url);
  await leave(other);
  assert.deepEqual(told, ["one"]);
  const last = new Promise((resolve) => socket.on("message", (data) => { if (data.toString() === "three") resolve(); }));
  socket.resume();
  await last;
  assert.deepEqual(told, ["one", "two", "pong p", "three"]);
  peer.destroy();
  await socket.closed;
});

test("the browser's listeners get event objects", limit, async (t) => {
  const server = await serveEcho(t);
  const socket = new WebSocket(server.url);
  assert.equal(socket.onmessage, null);
  const told = [];
  const opened = new Promise((resolve) => { socket.onopen = (event) => { told.push([event.type, event.target === socket]); resolve(); }; });
  await opened;
  socket.onmessage = () => assert.fail("replaced below");
  const message = new Promise((resolve) => { socket.onmessage = resolve; });
  const removed = () => assert.fail("removed");
  socket.addEventListener("message", removed);
  socket.removeEventListener("message", removed);
  const once = { count: 0, handleEvent() { this.count++; } };
  socket.addEventListener("message", once, { once: true });
  socket.addEventListener("message", once, { once: true });
  socket.send("text");
  const event = await message;
  assert.deepEqual([event.type, event.data, event.target === socket], ["message", "text", true]);
  socket.binaryType = "arraybuffer";
  const binary = new Promise((resolve) => { socket.onmessage = resolve; });
  socket.send(Buffer.from([1, 2]));
  assert.deepEqual((await binary).data, Uint8Array.of(1, 2).buffer);
  socket.binaryType = "blob";
  const blob = new Promise((resolve) => { socket.onmessage = resolve; });
  socket.send(Buffer.from([3]));
  assert.deepEqual(await (await blob).data.arrayBuffer(), Uint8Array.of(3).buffer);
  assert.throws(() => { socket.binaryType = "fragments"; }, { code: "WSX_ERR_UNSUPPORTED" });
  assert.equal(once.count, 1);
  const closed = new Promise((resolve) => socket.addEventListener("close", resolve));
  socket.close(1000, "bye");
  const { code, reason, wasClean, closeInfo } = await closed;
  assert.deepEqual({ code, reason, wasClean, by: closeInfo.by }, { code: 1000, reason: "bye", wasClean: true, by: "us" });
  const failing = new WebSocket("ws://127.0.0.1:1");
  const event2 = await new Promise((resolve) => { failing.onerror = resolve; });
  assert.ok(event2.error instanceof Error);
  assert.equal(event2.message, event2.error.message);
  assert.equal(failing.readyState, 3);
});

test("backpressure: send answers false, drain tells when to go on, and bufferedAmount counts", limit, async (t) => {
  const server = await serve(t, { backlogLimit: 1 << 26 });
  const connection = accepted(server);
  const peer = await raw(server);
  const { socket } = await connection;
  peer.pause();
  const chunk = Buffer.alloc(1 << 20);
  let sent = 0;
  while (socket.send(chunk)) assert.ok(++sent < 200, "the kernel takes everything");
  assert.ok(socket.bufferedAmount > 1 << 25, `${socket.bufferedAmount} bytes wait`);
  const drained = once(socket, "drain");
  peer.resume();
  await drained;
  assert.ok(socket.bufferedAmount <= 1 << 24);
  assert.equal(socket.send("again"), true);
  peer.destroy();
  await socket.closed;
});

test("small messages are counted as well, within one tick", limit, async (t) => {
  const server = await serve(t, { backlogLimit: 64 * 1024 });
  const connection = accepted(server);
  const peer = await raw(server);
  const { socket } = await connection;
  peer.pause();
  const message = "x".repeat(1000);
  let sent = 0;
  while (socket.send(message)) assert.ok(++sent < 100_000, "the kernel takes everything");
  const drained = once(socket, "drain");
  peer.resume();
  await drained;
  peer.destroy();
  await socket.closed;
});

test("backlogPolicy refuse: send throws, or calls back, and the connection stays", limit, async (t) => {
  const server = await serve(t, { backlogLimit: 64 * 1024, backlogPolicy: "refuse" });
  const connection = accepted(server);
  const peer = await raw(server);
  const { socket } = await connection;
  peer.pause();
  const chunk = Buffer.alloc(60_000);
  assert.throws(() => { for (;;) socket.send(chunk); }, { code: "WSX_ERR_BACKLOG_FULL", message: /the limit is 65536/ });
  const [error] = await new Promise((resolve) => socket.send(chunk, (...args) => resolve(args)));
  assert.equal(error.code, "WSX_ERR_BACKLOG_FULL");
  assert.equal(socket.readyState, WebSocket.OPEN);
  const drained = once(socket, "drain");
  peer.resume();
  await drained;
  assert.equal(socket.send("again"), true);
  peer.destroy();
  await socket.closed;
});

test("backlogPolicy close: a peer that does not read is closed with 1013, and told why", limit, async (t) => {
  const server = await serve(t, { backlogLimit: 64 * 1024, closeTimeout: 100 });
  const connection = accepted(server);
  const peer = await raw(server);
  const { socket } = await connection;
  peer.pause();
  const full = once(socket, "error");
  const chunk = Buffer.alloc(60_000);
  for (let i = 0; i < 1000; i++) socket.send(chunk);
  const [error] = await full;
  const { code, info } = await socket.closed;
  assert.deepEqual([code, info.by, info.wasClean, error.code, error.kind], [1013, "us", false, "WSX_ERR_BACKLOG_FULL", "limit"]);
  assert.ok(info.unsentBytes > 0);
  peer.destroy();
});

test("deliverFragments tells each frame", limit, async (t) => {
  const server = await serve(t, { deliverFragments: true });
  const connection = accepted(server);
  const peer = await raw(server);
  const { socket } = await connection;
  const told = [];
  const last = new Promise((resolve) => socket.on("fragment", (payload, fragment) => {
    told.push([payload.toString(), ...Object.values(fragment)]);
    if (fragment.isLast) resolve();
  }));
  peer.write(Buffer.concat([frame(1, "a", { fin: false }), frame(0, "", { fin: false }), frame(0, "b")]));
  await last;
  assert.deepEqual(told, [["a", false, true, false], ["", false, false, false], ["b", false, false, true]]);
  peer.destroy();
  await socket.closed;
});
