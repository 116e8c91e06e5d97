// The process around the engine: when it ends, workers that end at any moment, exceptions. Each in a process of its own.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { limit, open, run, serve } from "./support.mjs";

const long = { timeout: 60_000 };
const ok = { status: 0, stdout: "", stderr: "" };

test("a program that imports the door and opens nothing ends", limit, async () => {
  assert.deepEqual(await run(`import LIBWSX;`), ok);
});

test("a program ends when its server and its connections are closed", limit, async () => {
  assert.deepEqual(await run(`
    import { WebSocket, WebSocketServer } from LIBWSX;
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0 }, () => {
      const socket = new WebSocket(\`ws://127.0.0.1:\${server.address().port}\`);
      socket.on("open", () => { socket.close(); server.close(); });
      socket.on("close", () => console.log("closed"));
    });
  `), { ...ok, stdout: "closed\n" });
});

test("a connection keeps the process, and unref lets it go", limit, async (t) => {
  const server = await serve(t);
  let dropped = 0;
  server.on("connection", (socket) => socket.on("close", () => dropped++));
  const result = await run(`
    import { WebSocket, WebSocketServer } from LIBWSX;
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    server.unref();
    const socket = new WebSocket(${JSON.stringify(server.url)});
    socket.on("open", () => {
      console.log("open");
      setTimeout(() => { console.log("unref"); socket.unref(); }, 50).unref();   // only the connection keeps us until then
    });
    process.on("exit", () => console.log("exit"));
  `);
  assert.deepEqual(result, { ...ok, stdout: "open\nunref\nexit\n" });
});

test("ref after unref keeps it again", limit, async () => {
  const result = await run(`
    import { WebSocketServer } from LIBWSX;
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    server.unref().unref();
    server.ref().ref();
    setTimeout(() => { console.log("still here"); server.close(); }, 50).unref();
  `);
  assert.deepEqual(result, { ...ok, stdout: "still here\n" });
});

test("what was sent before process.exit arrives", limit, async (t) => {
  const server = await serve(t);
  const heard = once(server, "connection").then(([socket]) => once(socket, "message"));
  const { status } = await run(`
    import { WebSocket } from LIBWSX;
    const socket = new WebSocket(${JSON.stringify(server.url)});
    socket.on("open", () => { socket.send("last words"); process.exit(3); });
  `);
  assert.equal(status, 3);
  assert.equal((await heard)[0].toString(), "last words");
});

test("an exception in a listener is uncaught, and ends the process as Node does", limit, async () => {
  const { status, stdout, stderr } = await run(`
    import { WebSocket, WebSocketServer } from LIBWSX;
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0 }, () => new WebSocket(\`ws://127.0.0.1:\${server.address().port}\`));
    server.on("connection", () => { throw new Error("from a listener"); });
    process.on("exit", (code) => console.log("exit", code));
  `);
  assert.equal(status, 1);
  assert.equal(stdout, "exit 1\n");
  assert.match(stderr, /Error: from a listener/);
});

test("a client without a listener for error that cannot connect ends the process as Node does", limit, async () => {
  const { status, stderr } = await run(`
    import { WebSocket } from LIBWSX;
    new WebSocket("ws://127.0.0.1:1");
  `);
  assert.equal(status, 1);
  assert.match(stderr, /ECONNREFUSED/);
});

test("where uncaughtException is heard, every other event is told all the same", limit, async () => {
  const { status, stdout } = await run(`
    import { WebSocket, WebSocketServer } from LIBWSX;
    let heard = 0, thrown = 0;
    process.on("uncaughtException", (error) => { if (error.message === "one of them") thrown++; else throw error; });
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0, handlers: {
      message(socket, data) {
        heard++;
        if (heard % 3 === 0) throw new Error("one of them");
        socket.send(data);
      },
    } }, () => {
      const socket = new WebSocket(\`ws://127.0.0.1:\${server.address().port}\`);
      let back = 0;
      socket.on("open", () => { for (let i = 0; i < 300; i++) socket.send(\`\${i}\`); });
      socket.on("message", () => { if (++back === 200) socket.close(); });
      socket.on("close", () => { console.log(heard, thrown, back); server.close(); });
    });
  `);
  assert.equal(stdout, "300 100 200\n");
  assert.equal(status, 0);
});

test("exceptions in hooks are answered with 500, and the server goes on", limit, async () => {
  const { stdout } = await run(`
    import { WebSocket, WebSocketServer } from LIBWSX;
    let thrown = 0;
    process.on("uncaughtException", () => thrown++);      // also of a promise that nobody handles
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0,
      verifyClient({ req }) { if (req.path === "/throw") throw new Error("hook"); if (req.path === "/later") return Promise.reject(new Error("hook")); return true; },
    }, async () => {
      for (const path of ["throw", "later", "in"]) {
        const socket = new WebSocket(\`ws://127.0.0.1:\${server.address().port}/\${path}\`);
        socket.on("error", (error) => console.log(path, error.statusCode));
        socket.on("open", () => { console.log(path, "open"); socket.close(); });
        await new Promise((resolve) => socket.on("close", resolve));
      }
      console.log("thrown", thrown);
      server.close();
    });
  `);
  assert.equal(stdout, "throw 500\nlater 500\nin open\nthrown 2\n");
});

test("ticks and microtasks run behind each batch, also behind one that threw", limit, async () => {
  const { stdout } = await run(`
    import { WebSocket, WebSocketServer } from LIBWSX;
    process.on("uncaughtException", () => console.log("thrown"));
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0 }, () => {
      const socket = new WebSocket(\`ws://127.0.0.1:\${server.address().port}\`);
      socket.on("open", () => socket.send("go"));
      socket.on("message", (data) => { console.log(String(data)); socket.close(); server.close(); });
    });
    server.on("connection", (socket) => socket.on("message", () => {
      process.nextTick(() => Promise.resolve().then(() => socket.send("from a microtask")));
      throw new Error("behind it");
    }));
  `);
  assert.equal(stdout, "thrown\nfrom a microtask\n");
});

const worker = JSON.stringify(new URL("fixtures/worker.mjs", import.meta.url).href);

for (const [how, end] of Object.entries({
  "by itself": "close", "by process.exit in a callback": "exit", "by an exception in a callback": "throw", "by terminate() from outside, in full traffic": "terminate",
})) {
  test(`workers end ${how}, and the process goes on`, long, async () => {
    const { status, stdout, stderr } = await run(`
      import { Worker } from "node:worker_threads";
      import { WebSocket, WebSocketServer } from LIBWSX;
      const ends = { close: 0, exit: 0, throw: 1, terminate: 1 };
      for (let round = 0; round < 5; round++) {
        await Promise.all(Array.from({ length: 4 }, async () => {
          const worker = new Worker(new URL(${worker}), { execArgv: [], workerData: { end: ${JSON.stringify(end)} } });
          worker.on("error", (error) => { if (error.message !== "in a worker") throw error; });
          const ended = new Promise((resolve) => worker.on("exit", resolve));
          await new Promise((resolve) => worker.once("message", resolve));
          if (${JSON.stringify(end)} === "terminate") worker.terminate();
          const code = await ended;
          if (code !== ends[${JSON.stringify(end)}]) console.log("exit code", code);
        }));
      }
      const server = new WebSocketServer({ host: "127.0.0.1", port: 0 }, () => {
        const socket = new WebSocket(\`ws://127.0.0.1:\${server.address().port}\`);
        socket.on("open", () => { console.log("the main thread is served"); socket.close(); server.close(); });
      });
    `, { timeout: 50_000 });
    assert.deepEqual({ status, stdout, stderr }, { ...ok, stdout: "the main thread is served\n" });
  });
}

test("a worker that ends leaves its peers a closed connection", limit, async (t) => {
  const server = await serve(t);
  const connection = once(server, "connection");
  const child = run(`
    import { Worker } from "node:worker_threads";
    new Worker(new URL(${worker}), { execArgv: [], workerData: { url: ${JSON.stringify(server.url)} } });
  `);
  const [socket] = await connection;
  await new Promise((resolve) => socket.on("close", resolve));
  assert.deepEqual(await child, ok);
});

test("an idle server and an idle connection wake nobody", long, async (t) => {
  const child = spawn(process.execPath, ["--input-type=module", "-e", `
    import { WebSocketServer } from ${JSON.stringify(new URL("../index.mjs", import.meta.url).href)};
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0, pingInterval: 0 }, () => console.log(server.address().port));
  `], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const [line] = await once(child.stdout.setEncoding("utf8"), "data");
  const socket = await open(`ws://127.0.0.1:${line.trim()}`, [], { pingInterval: 0 });
  const { readFileSync } = await import("node:fs");
  // Voluntary switches of the main thread: each is a wait that ended.
  const waits = () => Number(/voluntary_ctxt_switches:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/task/${child.pid}/status`, "utf8"))[1]);
  let before, after = waits();
  do {                                   // until the start is over
    before = after;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    after = waits();
  } while (after !== before);
  await new Promise((resolve) => setTimeout(resolve, 2000));
  assert.equal(waits(), after, "it woke up");
  assert.equal(socket.readyState, 1);
  socket.terminate();
  await socket.closed;
});
