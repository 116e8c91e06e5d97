// The package ws against the echo server.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { WebSocket } from "ws";
import { ca, messages, startEcho, ways } from "./echo.mjs";

const limit = { timeout: 60_000 };

/** The options of a client that trusts the tests' certificates. */
const trusting = (url, options) => url.startsWith("wss:") ? { ca: ca(), ...options } : options;

/** An open connection whose messages wait in line. */
async function open(url, options = {}) {
  const socket = new WebSocket(url, trusting(url, options));
  const waiting = [], wanted = [];
  socket.on("message", (data, isBinary) => {
    const message = isBinary ? data : data.toString();
    if (wanted.length) wanted.shift()(message); else waiting.push(message);
  });
  socket.receive = () => waiting.length ? Promise.resolve(waiting.shift()) : new Promise((resolve) => wanted.push(resolve));
  socket.closed = once(socket, "close").then(([code, reason]) => ({ code, reason: reason.toString() }));
  socket.closed.catch(() => {});
  await once(socket, "open");
  return socket;
}

async function echoes(socket, message) {
  socket.send(message);
  assert.deepEqual(await socket.receive(), message);
}

async function leave(socket) {
  socket.close(1000);
  assert.equal((await socket.closed).code, 1000);
}

for (const [way, options] of Object.entries(ways)) {

test(way, limit, async (suite) => {
  const echo = await startEcho(suite, "--origin", "any", ...options);

  for (const [name, message] of Object.entries(messages)) {
    await suite.test(`${name} comes back with its type`, limit, async () => {
      const socket = await open(echo.url);
      await echoes(socket, message);
      await leave(socket);
    });
  }

  await suite.test("many messages come back in order", limit, async () => {
    const socket = await open(echo.url);
    const sent = Array.from({ length: 2000 }, (_, i) => `${i} ${"x".repeat((i * 37) % 900)}`);
    for (const message of sent) socket.send(message);
    for (const message of sent) assert.equal(await socket.receive(), message);
    await leave(socket);
  });

  await suite.test("fragments come back as one message", limit, async () => {
    const socket = await open(echo.url);
    for (const part of ["one ", "", "two "]) socket.send(part, { fin: false });
    socket.send("three", { fin: true });
    assert.equal(await socket.receive(), "one two three");
    socket.send(Buffer.alloc(70_000, 1), { fin: false });
    socket.ping("between");
    assert.equal((await once(socket, "pong"))[0].toString(), "between");
    socket.send(Buffer.alloc(3, 2), { fin: true });
    assert.deepEqual(await socket.receive(), Buffer.concat([Buffer.alloc(70_000, 1), Buffer.alloc(3, 2)]));
    await leave(socket);
  });

  await suite.test("a ping is answered with its payload", limit, async () => {
    const socket = await open(echo.url);
    for (const payload of ["", "are you there?", "p".repeat(125)]) {
      socket.ping(payload);
      assert.equal((await once(socket, "pong"))[0].toString(), payload);
    }
    await leave(socket);
  });

  await suite.test("compression is agreed on where both ends know it", limit, async () => {
    const socket = await open(echo.url, { perMessageDeflate: true });
    assert.equal(socket.extensions, options.includes("--compression") ? "permessage-deflate" : "");
    assert.equal(socket.protocol, "");
    await leave(socket);
  });

  for (const [code, reason] of [[1000, "bye"], [1001, ""], [3000, "a library's"], [4999, "Grüße"]]) {
    await suite.test(`a close with ${code} comes back`, limit, async () => {
      const socket = await open(echo.url);
      socket.close(code, reason);
      assert.equal((await socket.closed).code, code);
    });
  }

  await suite.test("a close without code is answered", limit, async () => {
    const socket = await open(echo.url);
    socket.close();
    assert.ok([1000, 1005].includes((await socket.closed).code));
  });

  await suite.test("a connection cut off leaves the others served", limit, async () => {
    const other = await open(echo.url);
    for (let i = 0; i < 20; i++) (await open(echo.url)).terminate();
    await echoes(other, "still here");
    await leave(other);
  });

  await suite.test("a hundred connections are served at once", limit, async () => {
    await Promise.all(Array.from({ length: 100 }, async (_, i) => {
      const socket = await open(echo.url);
      for (let k = 0; k < 10; k++) await echoes(socket, `${i}.${k}`);
      await leave(socket);
    }));
  });
});

test(`${way}: a broadcast reaches everybody else`, limit, async (t) => {
  const echo = await startEcho(t, "--broadcast", "--origin", "any", ...options);
  const [ann, bob, chloe] = await Promise.all([open(echo.url), open(echo.url), open(echo.url)]);
  ann.send("from Ann");
  assert.deepEqual(await Promise.all([bob.receive(), chloe.receive()]), ["from Ann", "from Ann"]);
  bob.send("from Bob");
  // Ann hears Bob first: her own message did not come back to her
  assert.deepEqual(await Promise.all([ann.receive(), chloe.receive()]), ["from Bob", "from Bob"]);
  for (const socket of [ann, bob, chloe]) await leave(socket);
});

test(`${way}: a message too big is answered with 1009`, limit, async (t) => {
  const echo = await startEcho(t, "--max-message", "1000", "--origin", "any", ...options);
  const socket = await open(echo.url);
  await echoes(socket, "x".repeat(1000));
  socket.send("x".repeat(1001));
  const { code, reason } = await socket.closed;
  assert.equal(code, 1009);
  assert.match(reason, /1000/, "the reason names the limit");
});

test(`${way}: a page from elsewhere is refused with 403`, limit, async (t) => {
  const echo = await startEcho(t, ...options);
  const refused = new WebSocket(echo.url, trusting(echo.url, { origin: "http://elsewhere.example" }));
  const [, response] = await once(refused, "unexpected-response");
  assert.equal(response.statusCode, 403);
  refused.on("error", () => {});
  refused.terminate();
  const socket = await open(echo.url, { origin: echo.url.replace("ws", "http").replace(/\/$/, "") });
  await echoes(socket, "from our own page");
  await leave(socket);
});

test(`${way}: SIGTERM closes every connection with 1001`, limit, async (t) => {
  const echo = await startEcho(t, "--origin", "any", ...options);
  const sockets = await Promise.all([open(echo.url), open(echo.url)]);
  const stopped = echo.stop();
  for (const socket of sockets) assert.equal((await socket.closed).code, 1001);
  await stopped;
});

}
