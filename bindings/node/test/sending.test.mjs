// Ways of sending that ws does not have.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { SharedMessage } from "../index.mjs";
import { accepted, leave, limit, open, serve } from "./support.mjs";

test("a shared message is sent again and again, by whoever has it", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const socket = await open(server.url);
  const { socket: other } = await connection;
  const shared = [new SharedMessage("Grüße"), new SharedMessage(Buffer.alloc(70_000, "x")), new SharedMessage(Buffer.from("text"), { binary: false })];
  for (let round = 0; round < 2; round++) {
    for (const [one, expected] of [[shared[0], "Grüße"], [shared[1], Buffer.alloc(70_000, "x")], [shared[2], "text"]]) {
      const heard = once(socket, "message"), told = once(other, "message");
      await new Promise((resolve, reject) => other.sendShared(one, (error) => error ? reject(error) : resolve()));
      assert.equal(socket.sendShared(one), true);
      for (const [data, isBinary] of [await heard, await told]) assert.deepEqual(isBinary ? data : data.toString(), expected);
    }
  }
  assert.throws(() => socket.sendShared("text"), { code: "ERR_INVALID_ARG_TYPE" });
  assert.throws(() => new SharedMessage(Buffer.from([0xff]), { binary: false }), { code: "WS_ERR_INVALID_UTF8" });
  await leave(socket);
  assert.equal(socket.sendShared(shared[0]), false);
});

test("a shared message between the fragments of another one is refused, and not lost without a word", limit, async (t) => {
  const server = await serve(t);
  const connection = accepted(server);
  const socket = await open(server.url);
  const { socket: other } = await connection;
  const told = once(other, "message");
  const shared = new SharedMessage("shared"), code = "WSX_ERR_MESSAGE_IN_PROGRESS";
  socket.send("a", { fin: false });
  assert.throws(() => socket.sendShared(shared), { code });
  const error = await new Promise((resolve) => socket.sendShared(shared, resolve));
  assert.equal(error?.code, code);
  socket.send("b", { fin: true });
  const [data] = await told;
  assert.equal(data.toString(), "ab");
  await leave(socket);
});
