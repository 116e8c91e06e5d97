// undici's WebSocket, the one that browsers and Node's own global specify, against the echo server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Agent, WebSocket } from "undici";
import { ca, messages, startEcho, ways } from "./echo.mjs";

const limit = { timeout: 60_000 };

/** Trusts the tests' certificates. */
const dispatcher = new Agent({ connect: { ca: ca() } });

/** An open connection whose messages wait in line. */
async function open(url, options) {
  const socket = new WebSocket(url, { ...options, dispatcher });
  socket.binaryType = "arraybuffer";
  const waiting = [], wanted = [];
  socket.onmessage = ({ data }) => {
    const message = typeof data === "string" ? data : Buffer.from(data);
    if (wanted.length) wanted.shift()(message); else waiting.push(message);
  };
  socket.receive = () => waiting.length ? Promise.resolve(waiting.shift()) : new Promise((resolve) => wanted.push(resolve));
  socket.closed = new Promise((resolve) => {
    socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
  });
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = (event) => reject(event.error ?? new Error("no connection"));
  });
  socket.onerror = null;
  return socket;
}

async function echoes(socket, message) {
  socket.send(message);
  assert.deepEqual(await socket.receive(), message);
}

async function leave(socket) {
  socket.close(1000, "bye");
  const { code, wasClean } = await socket.closed;
  assert.deepEqual({ code, wasClean }, { code: 1000, wasClean: true });
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

  await suite.test("compression is agreed on where both ends know it", limit, async () => {
    const socket = await open(echo.url);
    assert.equal(socket.extensions.startsWith("permessage-deflate"), options.includes("--compression"));
    assert.equal(socket.protocol, "");
    await leave(socket);
  });

  await suite.test("many messages come back in order", limit, async () => {
    const socket = await open(echo.url);
    const sent = Array.from({ length: 1000 }, (_, i) => `${i} ${"x".repeat((i * 37) % 900)}`);
    for (const message of sent) socket.send(message);
    for (const message of sent) assert.equal(await socket.receive(), message);
    await leave(socket);
  });

  for (const [code, reason] of [[1000, "bye"], [3000, "a library's"], [4999, "Grüße"]]) {
    await suite.test(`a close with ${code} comes back clean`, limit, async () => {
      const socket = await open(echo.url);
      socket.close(code, reason);
      const closed = await socket.closed;
      assert.equal(closed.code, code);
      assert.equal(closed.wasClean, true);
    });
  }
});

test(`${way}: a broadcast reaches everybody else`, limit, async (t) => {
  const echo = await startEcho(t, "--broadcast", "--origin", "any", ...options);
  const [ann, bob, chloe] = await Promise.all([open(echo.url), open(echo.url), open(echo.url)]);
  ann.send("from Ann");
  assert.deepEqual(await Promise.all([bob.receive(), chloe.receive()]), ["from Ann", "from Ann"]);
  bob.send("from Bob");
  assert.deepEqual(await Promise.all([ann.receive(), chloe.receive()]), ["from Bob", "from Bob"]);
  for (const socket of [ann, bob, chloe]) await leave(socket);
});

test(`${way}: a message too big is answered with 1009`, limit, async (t) => {
  const echo = await startEcho(t, "--max-message", "1000", "--origin", "any", ...options);
  const socket = await open(echo.url);
  await echoes(socket, Buffer.alloc(1000, 7));
  socket.send(Buffer.alloc(1001, 7));
  assert.equal((await socket.closed).code, 1009);
});

test(`${way}: SIGTERM closes every connection with 1001`, limit, async (t) => {
  const echo = await startEcho(t, "--origin", "any", ...options);
  const sockets = await Promise.all([open(echo.url), open(echo.url)]);
  const stopped = echo.stop();
  for (const socket of sockets) {
    const { code, wasClean } = await socket.closed;
    assert.deepEqual({ code, wasClean }, { code: 1001, wasClean: true });
  }
  await stopped;
});

}
