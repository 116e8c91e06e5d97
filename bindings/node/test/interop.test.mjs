// Both directions with the package ws and with undici, the WebSocket that browsers and Node specify.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { WebSocket as Undici } from "undici";
import * as ws from "ws";
import * as libwsx from "../index.mjs";
import { inLine, leave, limit, serve, serveEcho, serveWs } from "./support.mjs";

const messages = {
  "text": "Hello, libwsx", "text beyond ASCII": "Grüße, 日本語, 👩‍🚀", "empty text": "", "empty binary": Buffer.alloc(0),
  "binary": Buffer.from(Array.from({ length: 256 }, (_, i) => i)), "65,536 bytes": "x".repeat(65_536), "1 MiB binary": Buffer.alloc(1 << 20, "libwsx"),
};

for (const [pair, door, url] of [
  ["ws as client", ws, async (t) => (await serveEcho(t)).url],
  ["ws as server", libwsx, async (t) => (await serveWs(t)).url],
]) {
  test(`${pair}: messages, pings, closes`, limit, async (t) => {
    const address = await url(t);
    const open = async () => {
      const socket = inLine(new door.WebSocket(address, "chat"));
      await once(socket, "open");
      return socket;
    };
    const socket = await open();
    assert.equal(socket.protocol, "chat");
    for (const [name, message] of Object.entries(messages)) {
      socket.send(message);
      assert.deepEqual(await socket.receive(), message, name);
    }
    for (let i = 0; i < 2000; i++) socket.send(`${i} ${"x".repeat((i * 37) % 900)}`);
    for (let i = 0; i < 2000; i++) assert.equal(await socket.receive(), `${i} ${"x".repeat((i * 37) % 900)}`);
    const ponged = once(socket, "pong");
    socket.ping("there?");
    assert.equal((await ponged)[0].toString(), "there?");
    assert.equal((await leave(socket)).code, 1000);
    for (const code of [1001, 3000, 4999]) {
      const other = await open();
      other.close(code, "Grüße");
      assert.equal((await other.closed).code, code);
    }
    await Promise.all(Array.from({ length: 50 }, async (_, i) => {
      const one = await open();
      one.send(`${i}`);
      assert.equal(await one.receive(), `${i}`);
      await leave(one);
    }));
  });
}

test("ws as client: what the server closes and fragments it sends", limit, async (t) => {
  const server = await serve(t);
  server.on("connection", (socket) => socket.on("message", (data) => socket.close(4000, data)));
  const socket = inLine(new ws.WebSocket(server.url));
  await once(socket, "open");
  socket.send("one ", { fin: false });
  socket.ping("between");
  socket.send("two", { fin: true });
  const { code, reason } = await socket.closed;
  assert.deepEqual({ code, reason }, { code: 4000, reason: "one two" });
});

test("ws as server: fragments are one message, their callbacks tell when each has left, and one of them alone may be refused", limit, async (t) => {
  const { url } = await serveWs(t);
  const socket = inLine(new libwsx.WebSocket(url));
  await once(socket, "open");
  const told = [];
  socket.send("one ", { fin: false }, (error) => told.push(error));
  socket.ping("between");
  socket.send(Buffer.from([0x74, 0xc3]), { fin: false });
  assert.throws(() => socket.send(Buffer.from("x"), { fin: false }), { message: /not UTF-8/ });
  socket.send(Buffer.from([0xa4]), { fin: true }, (error) => told.push(error));
  assert.equal(await socket.receive(), "one tä");
  assert.deepEqual(told, [undefined, undefined]);
  socket.send("whole");
  assert.equal(await socket.receive(), "whole");
  await leave(socket);
});

test("undici as client: messages and closes", limit, async (t) => {
  const server = await serveEcho(t, { origins: "any" });
  const socket = new Undici(server.url, ["chat"]);
  socket.binaryType = "arraybuffer";
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = (event) => reject(event.error); });
  assert.equal(socket.protocol, "chat");
  for (const [name, message] of Object.entries(messages)) {
    const heard = new Promise((resolve) => { socket.onmessage = resolve; });
    socket.send(message);
    const { data } = await heard;
    assert.deepEqual(typeof data === "string" ? data : Buffer.from(data), message, name);
  }
  const closed = new Promise((resolve) => { socket.onclose = resolve; });
  socket.close(3000, "bye");
  const { code, wasClean } = await closed;
  assert.deepEqual({ code, wasClean }, { code: 3000, wasClean: true });
});
