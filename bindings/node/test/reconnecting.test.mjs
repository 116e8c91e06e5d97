// A WebSocket that connects again.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import { WebSocket, WebSocketServer } from "../index.mjs";
import { limit, serve } from "./support.mjs";

const SOON = { baseDelay: 2, maxDelay: 20 };
const LATE = { baseDelay: 3_600_000, maxDelay: 3_600_000 };

/** The URL of a port where nobody listens. */
async function nobody() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return `ws://127.0.0.1:${port}/`;
}

/** A client, terminated after the test; `heard` has its events. */
function connect(t, url, reconnect = SOON) {
  const socket = new WebSocket(url, { reconnect });
  socket.heard = [];
  for (const name of ["open", "reconnecting", "giveup", "error", "close"]) socket.on(name, () => socket.heard.push(name));
  t.after(() => socket.terminate());
  return socket;
}

test("one object stays over a server that goes away and comes back on its port", limit, async (t) => {
  const server = await serve(t);
  const { port } = server.address();
  const socket = connect(t, server.url);
  await once(socket, "open");
  const states = [];
  socket.once("reconnecting", () => states.push(socket.readyState, socket.protocol));
  server.close({ code: 1012 });
  const [attempt, delay, cause] = await once(socket, "reconnecting");
  assert.deepEqual([attempt, cause.code, cause.by, cause.error], [1, 1012, "peer", null]);
  assert.ok(delay >= 0 && delay <= 2);
  assert.deepEqual(states, [WebSocket.CONNECTING, ""]);
  const [, , refused] = await once(socket, "reconnecting");
  assert.equal(refused.error.code, "ECONNREFUSED");
  const again = new WebSocketServer({ host: "127.0.0.1", port, reusePort: true });
  t.after(() => again.close({ timeout: 100 }));
  again.on("connection", (peer) => peer.on("message", (data) => peer.send(data, { binary: false })));
  await once(socket, "open");
  assert.equal(socket.readyState, WebSocket.OPEN);
  socket.send("hello");
  assert.equal(String((await once(socket, "message"))[0]), "hello");
  socket.close(1000, "done");
  const [code] = await once(socket, "close");
  assert.equal(code, 1000);
  assert.deepEqual(socket.heard.filter((name) => name !== "reconnecting"), ["open", "open", "giveup", "close"]);
  assert.equal(socket.readyState, WebSocket.CLOSED);
});

test("a final status is told by giveup, error and close", limit, async (t) => {
  const server = await serve(t, { handleRequest: () => 401 });
  const socket = connect(t, server.url);
  let told = null;
  socket.on("giveup", (info) => (told = info));
  const [, , info] = await new Promise((resolve) => socket.on("close", (...args) => resolve(args)));
  assert.equal(info.error.statusCode, 401);
  assert.deepEqual(socket.heard, ["giveup", "error", "close"]);
  assert.deepEqual([told.kind, told.statusCode, told.closeCode, told.attempts], ["httpStatus", 401, 1006, 0]);
  assert.match(told.message, /401/);
});

test("a final code is told by giveup and close", limit, async (t) => {
  const server = await serve(t);
  server.on("connection", (peer) => peer.close(4999, "never again"));
  const socket = connect(t, server.url);
  const [code, reason, info] = await once(socket, "close");
  assert.deepEqual([code, String(reason), info.wasClean], [4999, "never again", true]);
  assert.deepEqual(socket.heard, ["open", "giveup", "close"]);
});

test("what is sent offline waits, and its callback hears when it has left", limit, async (t) => {
  const url = await nobody();
  const socket = connect(t, url, { ...SOON, offlineLimit: 100 });
  await once(socket, "reconnecting");
  const order = [];
  assert.equal(socket.send("one"), true);
  socket.send(Buffer.from("two"), (error) => order.push(["callback", error]));
  assert.equal(socket.bufferedAmount, 70);
  assert.throws(() => socket.send("three"), { code: "WSX_ERR_BACKLOG_FULL" });
  const error = await new Promise((resolve) => socket.send("three", resolve));
  assert.equal(error.code, "WSX_ERR_BACKLOG_FULL");
  const server = new WebSocketServer({ host: "127.0.0.1", port: Number(new URL(url).port) });
  t.after(() => server.close({ timeout: 100 }));
  server.on("connection", (peer) => peer.on("message", (data, isBinary) => order.push([String(data), isBinary])));
  while (order.length < 3) await new Promise(setImmediate);
  assert.deepEqual(order.filter(([what]) => what !== "callback"), [["one", false], ["two", true]]);
  assert.deepEqual(order.find(([what]) => what === "callback"), ["callback", undefined]);
});

test("without a queue send throws, or calls back, while there is no connection", limit, async (t) => {
  const socket = connect(t, await nobody(), LATE);
  assert.throws(() => socket.send("x"), { code: "WSX_ERR_NOT_OPEN" });
  await once(socket, "reconnecting");
  assert.throws(() => socket.send("x"), { code: "WSX_ERR_NOT_OPEN", message: /readyState 0/ });
  const error = await new Promise((resolve) => socket.send("x", resolve));
  assert.equal(error.code, "WSX_ERR_NOT_OPEN");
});

test("no part of a message waits offline: on the next connection it would be a whole one", limit, async (t) => {
  const url = await nobody();
  const socket = connect(t, url, { ...SOON, offlineLimit: 1000 });
  assert.throws(() => socket.send("begin", { fin: false }), { code: "WSX_ERR_NOT_OPEN" });
  const error = await new Promise((resolve) => socket.send("begin", { fin: false }, resolve));
  assert.equal(error.code, "WSX_ERR_NOT_OPEN");
  socket.send("whole");
  const server = new WebSocketServer({ host: "127.0.0.1", port: Number(new URL(url).port) });
  t.after(() => server.close({ timeout: 100 }));
  const heard = [];
  server.on("connection", (peer) => peer.on("message", (data) => {
    heard.push(String(data));
    if (heard.length === 1) peer.terminate();
  }));
  await once(socket, "open");
  socket.send("first part", { fin: false });
  await once(socket, "reconnecting");
  // The message went down with its connection.
  assert.throws(() => socket.send("last part"), { code: "WSX_ERR_NOT_OPEN" });
  await once(socket, "open");
  socket.send("another");
  while (heard.length < 2) await new Promise(setImmediate);
  assert.deepEqual(heard, ["whole", "another"]);
});

test("a shared message waits offline as any other", limit, async (t) => {
  const url = await nobody();
  const socket = connect(t, url, { ...SOON, offlineLimit: 1000 });
  const texts = [new WebSocket.SharedMessage("text"), new WebSocket.SharedMessage(Buffer.from("bytes"))];
  for (const shared of texts) assert.equal(socket.sendShared(shared), true);
  const server = new WebSocketServer({ host: "127.0.0.1", port: Number(new URL(url).port) });
  t.after(() => server.close({ timeout: 100 }));
  const heard = [];
  server.on("connection", (peer) => peer.on("message", (data, isBinary) => heard.push([String(data), isBinary])));
  while (heard.length < 2) await new Promise(setImmediate);
  assert.deepEqual(heard, [["text", false], ["bytes", true]]);
});

test("a callback whose connection is lost hears why", limit, async (t) => {
  const server = await serve(t);
  const socket = connect(t, server.url);
  const [peer] = await once(server, "connection");
  if (socket.readyState !== WebSocket.OPEN) await once(socket, "open");
  peer.pause();
  const error = await new Promise((resolve) => {
    socket.send(Buffer.alloc(64 * 1024 * 1024), resolve);
    setImmediate(() => peer.terminate());
  });
  assert.ok(error instanceof Error);
});

for (const end of ["close", "terminate"]) {
  test(`${end}() ends a client that waits, without an error`, limit, async (t) => {
    const socket = connect(t, await nobody(), LATE);
    await once(socket, "reconnecting");
    socket[end]();
    const [code, , info] = await once(socket, "close");
    assert.deepEqual([code, info.error], [1006, null]);
    assert.deepEqual(socket.heard, ["reconnecting", "giveup", "close"]);
    assert.throws(() => socket.reconnect.call(new WebSocket(socket.url).on("error", () => {})), { code: "WSX_ERR_WRONG_KIND" });
  });
}

test("close() in an event of the client ends it", limit, async (t) => {
  const server = await serve(t);
  server.on("connection", (peer) => peer.close(1011));
  const socket = connect(t, server.url);
  socket.on("reconnecting", () => socket.close());
  await once(socket, "close");
  assert.deepEqual(socket.heard, ["open", "reconnecting", "giveup", "close"]);
});

test("reconnect() closes the connection alone", limit, async (t) => {
  const server = await serve(t);
  const codes = [];
  server.on("connection", (peer) => peer.on("close", (code) => codes.push(code)));
  const socket = connect(t, server.url);
  await once(socket, "open");
  socket.reconnect();
  const [attempt, , cause] = await once(socket, "reconnecting");
  assert.deepEqual([attempt, cause.code, cause.by], [1, 1001, "us"]);
  await once(socket, "open");
  assert.throws(() => socket.reconnect(999), { code: "ERR_INVALID_ARG_VALUE" });
  socket.reconnect(1000);
  await once(socket, "close");
  assert.equal(codes[0], 1001);
  assert.deepEqual(socket.heard, ["open", "reconnecting", "open", "giveup", "close"]);
});

test("a pause ends with its connection", limit, async (t) => {
  const server = await serve(t);
  const socket = connect(t, server.url);
  const [peer] = await once(server, "connection");
  if (socket.readyState !== WebSocket.OPEN) await once(socket, "open");
  socket.pause();
  peer.pause();
  await new Promise((resolve) => socket.send("unread, so that the end is a reset, which is noticed without reading", resolve));
  peer.terminate();
  await once(socket, "reconnecting");
  assert.equal(socket.isPaused, false);
  await once(socket, "open");
});

test("options are checked", limit, async () => {
  const made = (reconnect) => () => new WebSocket("ws://127.0.0.1:1/", { reconnect });
  assert.throws(made(1), { code: "ERR_INVALID_ARG_TYPE", message: /"reconnect" must be a boolean or an object/ });
  assert.throws(made({ baseDelay: "1" }), { code: "ERR_INVALID_ARG_TYPE", message: /"reconnect.baseDelay"/ });
  assert.throws(made({ maxAttempts: -1 }), { code: "ERR_OUT_OF_RANGE", message: /"reconnect.maxAttempts"/ });
  const [error] = await once(made({ baseDelay: 60_000 })(), "error");
  assert.equal(error.code, "ERR_INVALID_ARG_VALUE");
  assert.match(error.message, /base_delay is 60s/);
});
