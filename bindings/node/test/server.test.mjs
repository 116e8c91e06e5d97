// A listener and its connections.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { WebSocket, WebSocketServer } from "../index.mjs";
import { accepted, failed, frame, leave, limit, open, raw, serve, serveEcho } from "./support.mjs";

/** A plain HTTP request: status, headers, body. */
async function get(server, path, { method = "GET", headers } = {}) {
  const request = http.request({ port: server.address().port, path, method, headers, agent: false }).end();
  const [response] = await once(request, "response");
  let body = "";
  for await (const chunk of response.setEncoding("utf8")) body += chunk;
  return { status: response.statusCode, headers: response.headers, body };
}

test("listening is told, to the callback as well, and address() tells where", limit, async () => {
  let called = 0;
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 }, () => called++);
  await once(server, "listening");
  assert.equal(called, 1);
  const { address, family, port } = server.address();
  assert.deepEqual([address, family, port > 0], ["127.0.0.1", "IPv4", true]);
  const closed = once(server, "close");
  await new Promise((resolve) => server.close(resolve));
  await closed;
  assert.equal(server.address(), null);
  const [error] = await new Promise((resolve) => server.close((...args) => resolve(args)));
  assert.equal(error.message, "The server is not running");
});

test("without a host it listens on every address", limit, async (t) => {
  const server = new WebSocketServer({ port: 0 });
  t.after(() => server.close());
  await once(server, "listening");
  const socket = await open(`ws://127.0.0.1:${server.address().port}`);
  await leave(socket);
});

test("a port that is taken is an error in Node's words", limit, async (t) => {
  const first = await serve(t);
  const { port } = first.address();
  const second = new WebSocketServer({ host: "127.0.0.1", port });
  second.on("listening", () => assert.fail("the port is taken"));
  const [error] = await once(second, "error");
  assert.deepEqual([error.code, error.syscall, error.address, error.port, error.errno < 0], ["EADDRINUSE", "listen", "127.0.0.1", port, true]);
  assert.equal(second.address(), null);
});

test("options that cannot be are refused at once", limit, () => {
  assert.throws(() => new WebSocketServer(), { name: "TypeError" });
  assert.throws(() => new WebSocketServer({ port: 70_000 }), { code: "ERR_SOCKET_BAD_PORT" });
  assert.throws(() => new WebSocketServer({ port: 0, maxMessage: -1 }), { name: "RangeError", message: /maxMessage/ });
  assert.throws(() => new WebSocketServer({ port: 0, maxPayload: 1.5 }), { name: "RangeError", message: /maxPayload/ });
  assert.throws(() => new WebSocketServer({ port: 0, pingInterval: "25s" }), { name: "TypeError", message: /pingInterval/ });
  assert.throws(() => new WebSocketServer({ port: 0, backlogPolicy: "wait" }), { name: "TypeError", message: /close, drop, refuse, pause/ });
  assert.throws(() => new WebSocketServer({ port: 0, origins: [1] }), { name: "TypeError", message: /origins/ });
  assert.throws(() => new WebSocketServer({ port: 0, subprotocols: ["a b"] }), { message: /a b/ });
  assert.throws(() => new WebSocketServer({ port: 0, verifyClient: true }), { name: "TypeError", message: /verifyClient/ });
  assert.throws(() => new WebSocketServer({ port: 0, handlers: { message: "echo" } }), { name: "TypeError", message: /message/ });
  for (const name of ["noServer", "server"]) assert.throws(() => new WebSocketServer({ port: 0, [name]: {} }), { code: "WSX_ERR_UNSUPPORTED" });
});

test("connection comes with the request, and clients has those that are open", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const socket = await open(`${server.url}a/path?x=1&y=2`);
  const { socket: other, request } = await connection;
  assert.deepEqual([request.method, request.url, request.path, request.query.get("y"), request.isUpgrade], ["GET", "/a/path?x=1&y=2", "/a/path", "2", true]);
  assert.equal(request.headers.upgrade, "websocket");
  assert.ok(request.rawHeaders.includes("Sec-WebSocket-Version"));
  assert.deepEqual([request.socket.remoteAddress, request.socket.remoteFamily], ["127.0.0.1", "IPv4"]);
  assert.ok(request.socket.remotePort > 0);
  assert.equal(other.readyState, WebSocket.OPEN);
  assert.deepEqual([...server.clients], [other]);
  await leave(socket);
  await other.closed;
  assert.equal(server.clients.size, 0);
});

test("clientTracking: false keeps no set", limit, async (t) => {
  const server = await serve(t, { clientTracking: false });
  assert.equal(server.clients, undefined);
  await leave(await open(server.url));
});

test("close waits for the connections, and with options closes them", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const socket = await open(server.url);
  const { socket: other } = await connection;
  const told = [];
  server.close(() => told.push("server"));
  await failed(new WebSocket(server.url));
  other.send("still here");
  assert.equal(await socket.receive(), "still here");
  server.broadcast("to all");
  assert.equal(await socket.receive(), "to all");
  assert.deepEqual(told, []);
  server.close({ code: 4001, reason: "enough" }, () => told.push("all"));
  const { code, reason } = await socket.closed;
  assert.deepEqual({ code, reason }, { code: 4001, reason: "enough" });
  if (server.clients.size !== 0) await once(server, "close");
  assert.deepEqual(told, ["server", "all"]);
});

test("close with a timeout cuts who does not answer", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const peer = await raw(server);
  const { socket } = await connection;
  const closed = once(server, "close");
  server.close({ timeout: 50 });
  assert.equal((await socket.closed).code, 1006);
  await closed;
  peer.destroy();
});

test("a Unix socket is listened on and connected to", limit, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "libwsx-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const socketPath = join(folder, "socket");
  const server = new WebSocketServer({ socketPath, handlers: { message: (socket, data) => socket.send(data) } });
  t.after(() => server.close());
  await once(server, "listening");
  assert.equal(server.address(), socketPath);
  const connection = accepted(server);
  const socket = await open(`ws+unix:${socketPath}:/path`);
  assert.equal((await connection).request.url, "/path");
  socket.send("over a file");
  assert.deepEqual(await socket.receive(), Buffer.from("over a file"));
  await leave(socket);
});

test("subprotocols: the first offered, the server's preference, or handleProtocols", limit, async (t) => {
  const chosen = async (options, offered) => {
    const server = await serve(t, options);
    const socket = await open(server.url, offered);
    await leave(socket);
    return socket.protocol;
  };
  assert.equal(await chosen({}, ["b", "a"]), "b");
  assert.equal(await chosen({ subprotocols: ["a", "b"] }, ["b", "a"]), "a");
  assert.equal(await chosen({ subprotocols: [] }, ["b", "a"]), "");
  assert.equal(await chosen({ handleProtocols: (protocols) => [...protocols].at(-1) }, ["b", "a"]), "a");
  assert.equal(await chosen({ handleProtocols: () => false }, ["b", "a"]), "");
  assert.equal(await chosen({ handleProtocols: () => assert.fail("nothing was offered") }, []), "");
});

test("verifyClient accepts and refuses, and the request it saw comes with the connection", limit, async (t) => {
  const server = await serve(t, {
    origins: "any",
    verifyClient({ origin, secure, req }) {
      req.user = req.headers["x-user"];
      assert.equal(secure, false);
      return origin === "http://example.org";
    },
  });
  const refused = await failed(new WebSocket(server.url));
  assert.equal(refused.error.statusCode, 401);
  const connection = accepted(server);
  const socket = await open(server.url, [], { origin: "http://example.org", headers: { "X-User": "ann" } });
  assert.equal((await connection).request.user, "ann");
  await leave(socket);
});

test("verifyClient may call back at once, with a status and headers", limit, async (t) => {
  const server = await serve(t, { verifyClient: ({ req }, callback) => callback(req.path === "/in", 418, "no tea\n", { "X-Why": "because" }) });
  await leave(await open(`${server.url}in`));
  const peer = await raw(server, "/out");
  assert.match(peer.head, /^HTTP\/1\.1 418 /);
  assert.match(peer.head, /X-Why: because/i);
  peer.destroy();
});

test("headers may add lines to the answer", limit, async (t) => {
  const server = await serve(t);
  server.on("headers", (headers, request) => headers.push(`X-Path: ${request.path}`, "Set-Cookie: a=b"));
  const peer = await raw(server, "/here");
  assert.match(peer.head, /X-Path: \/here/);
  assert.match(peer.head, /Set-Cookie: a=b/);
  peer.destroy();
});

test("handleRequest answers pages, and what it leaves goes on to the WebSocket", limit, async (t) => {
  const server = await serve(t, {
    handleRequest(request) {
      assert.equal(this, server);
      if (request.path === "/page") return { headers: { "content-type": "text/html", "X-Many": ["1", "2"] }, body: `<p>${request.query.get("name")}</p>` };
      if (request.path === "/bytes") return { status: 201, body: Buffer.from("bytes") };
      if (request.path === "/gone") return 410;
      if (request.path === "/in") return true;
      return undefined;
    },
  });
  const page = await get(server, "/page?name=Ann");
  assert.deepEqual([page.status, page.headers["content-type"], page.headers["x-many"], page.body], [200, "text/html", "1, 2", "<p>Ann</p>"]);
  assert.deepEqual((({ status, body }) => [status, body])(await get(server, "/bytes")), [201, "bytes"]);
  assert.deepEqual((({ status, body }) => [status, body])(await get(server, "/gone")), [410, "Gone\n"]);
  assert.equal((await get(server, "/page", { method: "HEAD" })).body, "");
  assert.equal((await get(server, "/other")).status, 426);
  await leave(await open(`${server.url}in`));
  await leave(await open(`${server.url}other`));
  assert.equal((await failed(new WebSocket(`${server.url}gone`))).error.statusCode, 410);
});

test("path and origins are checked by the engine", limit, async (t) => {
  const server = await serve(t, { path: "/chat", origins: ["https://example.org"] });
  await leave(await open(`${server.url}chat?room=1`));
  assert.equal((await failed(new WebSocket(`${server.url}other`))).error.statusCode, 404);
  assert.equal((await failed(new WebSocket(`${server.url}chat`, { origin: "https://example.com" }))).error.statusCode, 403);
  await leave(await open(`${server.url}chat`, [], { origin: "https://example.org" }));
  const same = await serve(t);
  await leave(await open(same.url, [], { origin: `http://127.0.0.1:${same.address().port}` }));
  assert.equal((await failed(new WebSocket(same.url, { origin: "http://elsewhere.example" }))).error.statusCode, 403);
});

test("handlers given once per server are called for each connection, before listeners", limit, async (t) => {
  const told = [];
  const handlers = {
    name: "this",
    open(socket, request) { told.push([this.name, "open", request.path]); },
    message(socket, data, isBinary) { told.push(["message", data.toString(), isBinary]); socket.send(data, { binary: isBinary }); },
    ping(socket, data) { told.push(["ping", data.toString()]); },
    pong(socket, data) { told.push(["pong", data.toString()]); },
    error(socket, error) { told.push(["error", error.code]); },
    close(socket, code, reason, info) { told.push(["close", code, info.by, socket.readyState]); },
  };
  const server = await serve(t, { handlers });
  server.on("connection", (socket) => {
    told.push(["connection"]);
    socket.on("message", () => told.push(["listener"]));
  });
  const peer = await raw(server, "/p");
  peer.write(Buffer.concat([frame(1, "one"), frame(9, "a"), frame(10, "b")]));
  await peer.until((all) => all.includes("one"));
  peer.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0]));
  await peer.until((all) => all.includes(Buffer.from([0x03, 0xea])));
  peer.end();
  if (server.clients.size !== 0) await new Promise((resolve) => [...server.clients][0].on("close", resolve));
  assert.deepEqual(told, [["this", "open", "/p"], ["connection"], ["message", "one", false], ["listener"], ["ping", "a"], ["pong", "b"],
    ["error", "WS_ERR_INVALID_OPCODE"], ["close", 1002, "us", 3]]);
});

test("a broadcast reaches everybody, or everybody else", limit, async (t) => {
  const server = await serve(t, { handlers: { message: (socket, data, isBinary) => socket.broadcast(data, { binary: isBinary }) } });
  const elsewhere = await open((await serve(t)).url);
  elsewhere.on("message", () => assert.fail("the broadcast of another server"));
  const [ann, bob, cleo] = await Promise.all([open(server.url), open(server.url), open(server.url)]);
  server.broadcast("to all");
  for (const socket of [ann, bob, cleo]) assert.equal(await socket.receive(), "to all");
  ann.send("from Ann");
  for (const socket of [bob, cleo]) assert.equal(await socket.receive(), "from Ann");
  bob.send(Buffer.alloc(100_000, 1));
  for (const socket of [ann, cleo]) assert.deepEqual(await socket.receive(), Buffer.alloc(100_000, 1));
  server.broadcast(Buffer.from("last"));
  assert.deepEqual(await Promise.all([ann, bob, cleo].map((socket) => socket.receive())), Array(3).fill(Buffer.from("last")));
  for (const socket of [ann, bob, cleo, elsewhere]) await leave(socket);
});

test("topics: subscribe, publish, unsubscribe, in the order of the calls", limit, async (t) => {
  const server = await serve(t, { maxTopics: 2 });
  const join = async () => {
    const connection = accepted(server);
    const socket = await open(server.url);
    return [socket, (await connection).socket];
  };
  const [ann, annHere] = await join(), [bob, bobHere] = await join();
  annHere.subscribe("news");
  bobHere.subscribe("news");
  bobHere.subscribe("grüße");
  assert.equal(server.subscriberCount("news"), 2);
  server.publish("news", "1");
  bobHere.publish("news", "2");
  annHere.send("3");
  annHere.unsubscribe("news");
  server.publish("news", "4");
  server.publish("grüße", Buffer.alloc(50_000, 5));
  server.publish("nobody", "6");
  annHere.send("7");
  assert.deepEqual([await ann.receive(), await ann.receive(), await ann.receive(), await ann.receive()], ["1", "2", "3", "7"]);
  assert.deepEqual([await bob.receive(), await bob.receive(), await bob.receive()], ["1", "4", Buffer.alloc(50_000, 5)]);
  assert.throws(() => bobHere.subscribe("third"), { message: /128|2|topics/ });
  assert.throws(() => ann.subscribe("news"), { code: "WSX_ERR_WRONG_KIND" });
  assert.throws(() => bobHere.subscribe("x".repeat(256)), { code: "ERR_INVALID_ARG_VALUE" });
  await leave(bob);
  await bobHere.closed;
  assert.equal(server.subscriberCount("news"), 0);
  await leave(ann);
});

test("what is sent between turns, after an await or in a timer, goes out in that tick", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const socket = await open(server.url);
  const { socket: other } = await connection;
  await new Promise((resolve) => setImmediate(resolve));
  other.send("after an await");
  assert.equal(await socket.receive(), "after an await");
  setTimeout(() => other.send("in a timer"), 1);
  assert.equal(await socket.receive(), "in a timer");
  process.nextTick(() => other.send("in nextTick"));
  assert.equal(await socket.receive(), "in nextTick");
});

test("thousands of small messages in one tick arrive in order, with large ones between them", limit, async (t) => {
  const socket = await open((await serveEcho(t, { backlogPolicy: "pause" })).url);
  const sent = Array.from({ length: 20_000 }, (_, i) => i % 1000 === 999 ? `${i} ${"y".repeat(30_000)}` : `${i} ${"x".repeat(i % 50)}`);
  for (const message of sent) socket.send(message);
  for (const message of sent) assert.equal(await socket.receive(), message);
  await leave(socket);
});

test("a topic of no bytes or more than 255 is refused by every call", limit, async (t) => {
  const server = await serve(t);
  const opened = accepted(server);
  await open(server.url);
  const { socket } = await opened;
  for (const topic of ["", "x".repeat(256), "é".repeat(128)]) {
    const size = Buffer.byteLength(topic);
    const refusal = { name: "TypeError", code: "ERR_INVALID_ARG_VALUE", message: `invalid argument: a topic's name has 1 to 255 bytes, this one ${size}` };
    for (const data of ["small", Buffer.alloc(100_000)]) {
      assert.throws(() => server.publish(topic, data), refusal);
      assert.throws(() => socket.publish(topic, data), refusal);
    }
    assert.throws(() => socket.subscribe(topic), refusal);
  }
  server.publish("x".repeat(255), "taken");
});

test("what fails at a listener tells stage and kind", limit, async (t) => {
  const server = await serve(t, { handleProtocols: () => "other" });
  const told = once(server, "error");
  await failed(new WebSocket(server.url, ["chat"]));
  const [error] = await told;
  assert.deepEqual([error.code, error.stage, error.kind], ["WSX_ERR_LISTENER", "http", "callback"]);
});

test("an index is not another's before its close was told", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const socket = await open(server.url);
  const { socket: old } = await connection;
  socket.terminate();
  await old.closed;
  const next = accepted(server);
  const other = await open(server.url);
  const { socket: here } = await next;
  old.send("late");
  old.ping("late", false, () => {});
  old.close();
  here.send("for the other");
  assert.equal(await other.receive(), "for the other");
  await leave(other);
});

test("the heartbeat and its timeout run without any traffic", limit, async (t) => {
  const server = await serve(t, { pingInterval: 40, pongTimeout: 40 });
  const connection = accepted(server);
  const peer = await raw(server);
  const { socket } = await connection;
  socket.on("pong", () => assert.fail("the heartbeat's own pings are not told"));
  await peer.until((all) => all[0] === 0x89);
  const { code, info } = await socket.closed;
  assert.deepEqual([code, info.by, info.error.code, info.error.kind], [1006, "us", "ETIMEDOUT", "timeout"]);
  peer.destroy();
});

test("a client that answers the heartbeat stays, and one whose name does not resolve is told ENOTFOUND", limit, async (t) => {
  const server = await serve(t, { pingInterval: 20, pongTimeout: 2000 });
  const socket = await open(server.url);
  let pings = 0;
  await new Promise((resolve) => socket.on("ping", () => { if (++pings === 3) resolve(); }));
  assert.equal(socket.readyState, WebSocket.OPEN);
  await leave(socket);
  const { error } = await failed(new WebSocket("ws://nowhere.invalid/"));
  assert.deepEqual([error.code, error.stage], ["ENOTFOUND", "resolve"]);
});

test("a request that does not come whole within handshakeTimeout is answered with 408", limit, async (t) => {
  const server = await serve(t, { handshakeTimeout: 50 });
  const peer = connect(server.address().port, "127.0.0.1");
  peer.write("GET / HTTP/1.1\r\n");
  let answer = "";
  for await (const chunk of peer.setEncoding("latin1")) answer += chunk;
  assert.match(answer, /^HTTP\/1\.1 408 /);
});

test("who has connected and sends the request after close is answered with 503, and opens nothing", limit, async () => {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
  const { port } = server.address();
  const peer = connect(port, "127.0.0.1");
  peer.write("GET / HTTP/1.1\r\n");
  // One that connects behind it is served, so it was accepted as well.
  await leave(await open(`ws://127.0.0.1:${port}`));
  await new Promise((resolve) => server.close(resolve));
  server.on("connection", () => assert.fail("the server is closed"));
  peer.write("Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
  let answer = "";
  for await (const chunk of peer.setEncoding("latin1")) answer += chunk;
  assert.match(answer, /^HTTP\/1\.1 503 /);
});
