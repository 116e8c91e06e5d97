// The programs in examples/, as they are run from the root of the tree.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { certified, failed, folder, inLine, limit, open, pem } from "./support.mjs";
import { WebSocket } from "../index.mjs";

const root = join(folder, "../..");

/** Starts an example; its one line, and what `end` with a signal brings. */
async function start(t, name, ...options) {
  const require = createRequire(join(root, "examples", name));
  assert.doesNotThrow(() => require.resolve("libwsx"), "the examples find libwsx by node_modules: `npm install ./bindings/node`, or `make build`");
  const child = spawn(process.execPath, [join("examples", name), "--port", "0", ...options], { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text) => { output += text; });
  await once(child.stdout, "data");
  const end = async (signal) => {
    child.kill(signal);
    const [status] = await once(child, "close");
    return { status, output };
  };
  return { line: output, url: output.trim().replace(/^listening on (http|ws)/, "ws"), end };
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  test(`echo.mjs sends back, closes everybody with 1001 on ${signal}, and ends with status 0`, limit, async (t) => {
    const echo = await start(t, "echo.mjs");
    assert.match(echo.line, /^listening on ws:\/\/127\.0\.0\.1:\d+\n$/);
    const socket = await open(echo.url, ["unknown"]);
    assert.equal(socket.protocol, "");
    for (const message of ["text", Buffer.from("binary")]) {
      socket.send(message);
      assert.deepEqual(await socket.receive(), message);
    }
    assert.deepEqual(await echo.end(signal), { status: 0, output: echo.line });
    assert.equal((await socket.closed).code, 1001);
  });
}

test("echo.mjs --broadcast sends to everybody else, and --host takes IPv6", limit, async (t) => {
  const echo = await start(t, "echo.mjs", "--broadcast", "--host", "::1");
  assert.match(echo.line, /^listening on ws:\/\/\[::1\]:\d+\n$/);
  const [ann, bob] = await Promise.all([open(echo.url), open(echo.url)]);
  ann.send("from Ann");
  assert.equal(await bob.receive(), "from Ann");
  bob.send("from Bob");
  assert.equal(await ann.receive(), "from Bob");
  assert.equal((await echo.end("SIGTERM")).status, 0);
});

test("echo.mjs --compression agrees to it, and with --tls-cert, --tls-key and --tls-ca it speaks TLS", limit, async (t) => {
  const file = (name) => join("build/certificates", `${name}.pem`);
  const echo = await start(t, "echo.mjs", "--compression", "--tls-cert", file("server"), "--tls-key", file("server-key"), "--tls-ca", file("ca"));
  assert.match(echo.line, /^listening on wss:\/\/127\.0\.0\.1:\d+\n$/);
  const socket = await open(echo.url, [], { perMessageDeflate: true, ca: pem("ca"), ...certified("client") });
  assert.equal(socket.extensions, "permessage-deflate");
  socket.send("x".repeat(10_000));
  assert.equal(await socket.receive(), "x".repeat(10_000));
  assert.equal((await failed(new WebSocket(echo.url, { ca: pem("ca") }))).error.stage, "tls");
  assert.equal((await echo.end("SIGTERM")).status, 0);
});

test("chat.mjs serves the page and the room", limit, async (t) => {
  const chat = await start(t, "chat.mjs");
  assert.match(chat.line, /^listening on http:\/\/127\.0\.0\.1:\d+\n$/);
  const page = await fetch(chat.url.replace("ws", "http"));
  assert.match(page.headers.get("content-type"), /^text\/html/);
  assert.match(await page.text(), /<title>/i);
  const ann = inLine(new WebSocket(`${chat.url}/chat`));
  await once(ann, "open");
  const said = { type: "enter", sender: "Ann", text: "", time: "now" };
  ann.send(JSON.stringify(said));
  assert.deepEqual(JSON.parse(await ann.receive()), { ...said, people: 1 });
  ann.send("no JSON");
  assert.equal((await ann.closed).code, 1008);
  assert.deepEqual(await chat.end("SIGINT"), { status: 0, output: chat.line });
});
