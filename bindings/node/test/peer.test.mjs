// A connection and its peer: where it is, how it ends because of it, and what it is owed.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { WebSocket } from "../index.mjs";
import { accepted, frame, limit, open, raw, serve, serveEcho } from "./support.mjs";

/** A frame of so many bytes, masked with zeros. */
function binary(size) {
  const bytes = Buffer.alloc(14 + size);
  bytes.set([0x82, 0xff]);
  bytes.writeUInt32BE(size, 6);
  if (size > 65535) return bytes;
  const head = size > 125 ? [0x82, 0xfe, size >> 8, size & 255] : [0x82, 0x80 | size];
  return Buffer.concat([Buffer.from(head), Buffer.alloc(4 + size)]);
}

test("a reason without a code is left out, as in ws", limit, async (t) => {
  const server = await serve(t);
  const opened = accepted(server);
  const socket = await open(server.url);
  const { socket: other } = await opened;
  socket.close(undefined, "why");
  assert.deepEqual([(await other.closed).code, (await other.closed).reason], [1005, ""]);
  assert.equal((await socket.closed).code, 1005);
});

test("who broke the protocol is CLOSING until the end; what was held before it is told", limit, async (t) => {
  const server = await serve(t);
  const opened = accepted(server);
  const peer = await raw(server);
  const { socket } = await opened;
  socket.once("message", () => socket.pause());
  peer.write(Buffer.concat([frame(1, "one"), frame(1, "two"), frame(3, "")]));
  assert.equal(await socket.receive(), "one");
  while (socket.readyState === WebSocket.OPEN) await new Promise(setImmediate);
  assert.equal(socket.readyState, WebSocket.CLOSING);
  assert.equal(socket.send("late"), false);
  peer.end();
  socket.resume();
  assert.equal(await socket.receive(), "two");
  assert.equal((await socket.closed).code, 1002);
  assert.equal(socket.readyState, WebSocket.CLOSED);
});

test("both sides know where the other is while the connection is open", limit, async (t) => {
  const server = await serve(t);
  const opened = accepted(server);
  const socket = new WebSocket(server.url);
  assert.equal(socket.remoteAddress, undefined);
  await once(socket, "open");
  const { socket: other, request } = await opened;
  assert.deepEqual([socket.remoteAddress, socket.remotePort, socket.remoteFamily], ["127.0.0.1", server.address().port, "IPv4"]);
  assert.deepEqual([other.remoteAddress, other.remotePort], [request.socket.remoteAddress, request.socket.remotePort]);
  socket.close();
  await once(socket, "close");
  assert.equal(socket.remoteAddress, undefined);
});

test("backlogPolicy pause: echoes of one burst are never refused", limit, async (t) => {
  const server = await serveEcho(t, { backlogLimit: 10_000, backlogPolicy: "pause", maxMessage: 0 });
  const opened = accepted(server);
  const peer = await raw(server);
  const { socket } = await opened;
  const sizes = [1_000_000, 9_000, 9_000, 100, 9_000, 9_000, 9_000, 20_000, 20_000, 1];
  peer.pause();
  peer.write(Buffer.concat(sizes.map(binary)));
  await new Promise((resolve) => { setTimeout(resolve, 200); });
  assert.equal(socket.readyState, WebSocket.OPEN);
  peer.write(frame(8, Buffer.from([3, 232])));
  peer.resume();
  const { code, info } = await socket.closed;
  assert.deepEqual([code, info.lostMessages], [1000, 0]);
});
