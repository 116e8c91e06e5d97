// Requests and the hooks that answer them, now or later.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { WebSocket } from "../index.mjs";
import { accepted, failed, leave, limit, open, raw, serve } from "./support.mjs";

test("hooks may answer later: by a promise, or by calling back", limit, async (t) => {
  const later = (value) => new Promise((resolve) => setImmediate(resolve, value));
  const server = await serve(t, {
    handleRequest: async ({ path }) => later(path === "/page" ? { status: 203, body: "later" } : undefined),
    verifyClient({ req }, callback) {
      req.user = req.query.get("user");
      setImmediate(() => callback(req.user !== null, 403, "who?", { "X-Why": "because" }));
    },
    handleProtocols: async (offered) => later([...offered].at(-1)),
  });
  server.on("headers", (headers, request) => headers.push(`X-User: ${request.user}`));
  const users = Array.from({ length: 20 }, (_, number) => `u${number}`), opened = [];
  server.on("connection", (socket, request) => opened.push(request.user));
  const sockets = await Promise.all(users.map((user) => open(`${server.url}?user=${user}`, ["a", "b"])));
  assert.deepEqual(opened.sort(), users.sort());
  for (const socket of sockets) {
    assert.equal(socket.protocol, "b");
    await leave(socket);
  }
  const { error } = await failed(new WebSocket(server.url));
  assert.equal(error.statusCode, 403);
  const peer = await raw(server, "/page");
  assert.match(peer.head, /^HTTP\/1\.1 203 /);
  peer.destroy();
});

test("a promise that is kept at once, and one that is a thenable, answer as well", limit, async (t) => {
  const server = await serve(t, { verifyClient: ({ req }) => (req.path === "/now" ? Promise.resolve(true) : { then: (keep) => keep(true) }) });
  await leave(await open(`${server.url}now`));
  await leave(await open(`${server.url}thenable`));
});

test("who has left, or waited too long, aborts the signal of its request", limit, async (t) => {
  const asked = [];
  const server = await serve(t, { handshakeTimeout: 300, verifyClient: ({ req }) => new Promise((resolve) => { asked.push(req); req.answer = resolve; }) });
  const told = once(server, "error");
  const waits = async () => { while (asked.length === 0) await new Promise(setImmediate); return asked.shift(); };
  const aborted = (signal) => (signal.aborted ? undefined : once(signal, "abort"));
  const slow = failed(new WebSocket(server.url));
  const waiting = await waits();
  assert.equal(waiting.signal.aborted, false);
  assert.equal((await slow).error.statusCode, 503);
  await aborted(waiting.signal);
  const [error] = await told;
  assert.deepEqual([error.kind, error.stage, error.code], ["timeout", "http", "WSX_ERR_LISTENER"]);
  assert.match(error.message, /did not come within 300ms/);
  waiting.answer(true);                // to nobody
  const leaving = new WebSocket(server.url);
  const request = await waits();
  leaving.on("error", () => {});
  leaving.terminate();
  await aborted(request.signal);
  assert.equal(server._deferred.size, 0);
});

test("a server that closes answers who waits with 503", limit, async (t) => {
  const asked = [];
  const server = await serve(t, { verifyClient: ({ req }) => new Promise((resolve) => { asked.push(req); req.answer = resolve; }) });
  const refused = failed(new WebSocket(server.url));
  while (asked.length === 0) await new Promise(setImmediate);
  server.close();
  assert.equal((await refused).error.statusCode, 503);
  assert.equal(asked[0].signal.aborted, true);
  asked[0].answer(true);
});

test("an answer that cannot be sent is a 500, later as well, and the server hears why", limit, async (t) => {
  const server = await serve(t, { handleRequest: async () => 99 });
  const told = once(server, "error");
  assert.equal((await failed(new WebSocket(server.url))).error.statusCode, 500);
  assert.match((await told)[0].message, /99 is not a final HTTP status/);
});

test("cookies are parsed for who asks", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const socket = await open(server.url, [], { headers: { Cookie: 'a=1; __proto__=x; b="q"; lonely; a=2' } });
  const { cookies } = (await connection).request;
  assert.deepEqual(Object.entries(cookies), [["a", "1"], ["__proto__", "x"], ["b", '"q"']]);
  assert.equal(Object.getPrototypeOf(cookies), null);
  await leave(socket);
});

test("a route has handlers, events and options of its own", limit, async (t) => {
  const server = await serve(t);
  const heard = [];
  const chat = server.route("/chat", { maxMessage: 10, subprotocols: ["v1"], verifyClient: async ({ req }) => req.query.get("x") !== "no" });
  const rooms = server.route("/rooms/*", { handlers: { open: (socket, request) => heard.push(`rooms ${request.path}`) } });
  server.on("connection", (_, request) => heard.push(`server ${request.path}`));
  chat.on("connection", (_, request) => heard.push(`chat ${request.path}`));
  await once(chat, "listening");
  assert.deepEqual([chat.path, chat.address().port], ["/chat", server.address().port]);
  const sockets = [];
  for (const path of ["chat", "rooms/7", "rooms", ""]) sockets.push(await open(server.url + path, ["v1"]));
  assert.deepEqual(heard, ["chat /chat", "rooms /rooms/7", "server /rooms", "server /"]);
  assert.equal((await failed(new WebSocket(`${server.url}chat?x=no`))).error.statusCode, 401);
  assert.deepEqual([server.clients.size, chat.clients.size, rooms.clients.size], [2, 1, 1]);
  chat.broadcast("to the chat");
  assert.equal(String(await sockets[0].receive()), "to the chat");
  sockets[0].send("more than ten");
  assert.equal((await sockets[0].closed).code, 1009);
  for (const [path, options] of [["chat"], ["/chat"], ["/x", { path: "/y" }], ["/x", { maxHead: 1000 }]]) {
    assert.throws(() => server.route(path, options), { name: "TypeError", code: "ERR_INVALID_ARG_VALUE" });
  }
  assert.throws(() => chat.route("/chat/x"), /a route has no routes/);
  chat.close();
  await once(chat, "close");
  await leave(await open(`${server.url}chat`));
  assert.equal(heard.at(-1), "server /chat");
  const ends = [];
  for (const [name, one] of Object.entries({ rooms, server })) one.on("close", () => ends.push(name));
  server.close({});
  await once(server, "close");
  assert.deepEqual(ends, ["rooms", "server"]);
  assert.equal((await sockets[1].closed).code, 1001);
  assert.throws(() => server.route("/x"), { code: "ERR_SERVER_NOT_RUNNING" });
});
