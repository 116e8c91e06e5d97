// What is counted, as text as well, and what is logged.

import assert from "node:assert/strict";
import diagnostics from "node:diagnostics_channel";
import { once } from "node:events";
import { test } from "node:test";
import { METRICS_TYPE, WebSocket, WebSocketServer, metrics, stats } from "../index.mjs";
import { limit } from "./support.mjs";

async function serving(options) {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", ...options });
  await once(server, "listening");
  return server;
}

test("a server counts its connections, and a thread all of them", limit, async () => {
  const server = await serving({ path: "/chat" }), url = `ws://127.0.0.1:${server.address().port}`;
  server.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
  const client = new WebSocket(`${url}/chat`);
  await once(client, "open");
  client.send("hello");
  await once(client, "message");
  const refused = new WebSocket(`${url}/other`);
  await once(refused, "error");
  const { accepted, opened, messagesReceived, refused: causes, connectsFailed } = server.stats();
  assert.deepEqual({ accepted, opened, messagesReceived, causes, connectsFailed },
    { accepted: 2, opened: 1, messagesReceived: 1, causes: { path: 1 }, connectsFailed: {} });
  assert.equal(stats().connects, 2);
  assert.deepEqual(stats().failures, { http: { refused: 1 } });
  assert.equal("longestCallback" in stats(), false);
  server.close({ code: 1001 });
  await once(server, "close");
  assert.throws(() => server.stats(), { code: "WSX_ERR_CLOSED" });
  assert.equal(stats().accepted, 2, "what is gone stays in the sum");
});

test("metrics are for Prometheus to read, in one line", limit, async () => {
  const server = await serving({ handleRequest: ({ url }) => url === "/metrics" && { headers: { "Content-Type": METRICS_TYPE }, body: metrics() } });
  const { port } = server.address();
  const answer = await fetch(`http://127.0.0.1:${port}/metrics`);
  assert.equal(answer.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  assert.match(await answer.text(), new RegExp(`^wsx_accepted_total\\{listener="127\\.0\\.0\\.1:${port}"\\} 1$`, "m"));
  server.close();
});

test("what happens is published to who subscribes, and to nobody else", limit, async () => {
  const told = [], hear = (record) => told.push(record);
  diagnostics.subscribe("wsx:connection", hear);
  const server = await serving(), client = new WebSocket(`ws://127.0.0.1:${server.address().port}`);
  await once(client, "open");
  client.close(4000);
  await once(client, "close");
  server.close();
  await once(server, "close");
  const seen = told.map(({ level, topic, message }) => [level, topic, message.replace(/127.0.0.1:\d+/, "HERE")]);
  for (const record of [["information", "listener", "listens on HERE, plain"], ["debug", "connection", "connects to HERE"],
    ["debug", "connection", "accepted HERE"], ["debug", "connection", "HERE: open"]]) {
    assert.ok(seen.some((one) => `${one}` === `${record}`), `${record} in ${seen.join("\n")}`);
  }
  assert.equal(told.find(({ message }) => message.startsWith("accepted")).server, server);
  diagnostics.unsubscribe("wsx:connection", hear);
  const heard = told.length, errors = [], fail = (record) => errors.push(record);
  diagnostics.subscribe("wsx:error", fail);
  for (let turn = 0; turn < 2; turn++) {
    const nobody = new WebSocket("ws://127.0.0.1:1/").on("error", () => {});
    await new Promise((resolve) => nobody.on("close", resolve));
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  assert.equal(told.length, heard);
  assert.equal(errors[0]?.level, "warning");
  assert.match(errors[0].message, /cannot connect to 127\.0\.0\.1:1/);
  diagnostics.unsubscribe("wsx:error", fail);
});

test("what a subscriber of the log does itself is not logged", limit, async () => {
  const listening = [], begun = [];
  const hear = ({ message }) => {
    if (message.startsWith("listens on ")) listening.push(message);
    // A log that told of these would never end.
    if (begun.length < 20) begun.push(new WebSocketServer({ host: "127.0.0.1", port: 0 }));
    for (const server of begun) server.close();
  };
  diagnostics.subscribe("wsx:connection", hear);
  const server = await serving(), address = `127.0.0.1:${server.address().port}`;
  for (let round = 0; round < 2; round++) {
    const client = new WebSocket(`ws://${address}`);
    await once(client, "open");
    client.close();
    await once(client, "close");
  }
  assert.deepEqual(listening, [`listens on ${address}, plain`]);
  assert.ok(begun.length > 1);
  diagnostics.unsubscribe("wsx:connection", hear);
  server.close();
  await once(server, "close");
});
