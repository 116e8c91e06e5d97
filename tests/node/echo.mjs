// Starting the echo server: `build/echo`, or the command in WSX_ECHO (other echo servers pass the same tests).

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const command = (process.env.WSX_ECHO ?? "build/echo").split(" ");
const START_TIMEOUT = 20_000, STOP_TIMEOUT = 10_000;

/** A running server with `host`, `port`, `url` and `stop()`; stopped after the test `t` (or suite) if not before. */
export async function startEcho(t, ...options) {
  const [program, ...args] = command;
  const server = spawn(program, [...args, "--host", "127.0.0.1", "--port", "0", ...options], { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  const ended = new Promise((resolve, reject) => {
    server.once("error", (error) => reject(new Error(`${program} does not start: ${error.message}`)));
    server.once("close", (code, signal) => resolve(code ?? signal));
  });
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => { server.kill("SIGKILL"); reject(new Error(`${program} printed no line`)); }, START_TIMEOUT);
    server.stdout.setEncoding("utf8").on("data", (chunk) => {
      output += chunk;
      if (output.includes("\n")) { clearTimeout(timer); resolve(); }
    });
    ended.then((status) => { clearTimeout(timer); reject(new Error(`${program} ended with ${status} before it listened`)); }, reject);
  });
  const found = /^listening on (wss?):\/\/(\S+):(\d+)\n/.exec(output);
  if (!found) server.kill("SIGKILL");
  assert.ok(found, `not the line of a listening server: ${output}`);

  let stopped;
  const echo = {
    host: found[2], port: Number(found[3]), url: `${found[1]}://${found[2]}:${found[3]}/`,
    /** SIGTERM, and what must follow: status 0 and nothing more on standard output. */
    stop() {
      return stopped ??= (async () => {
        assert.equal(server.exitCode, null, `the server ended by itself with ${server.exitCode}`);
        server.kill("SIGTERM");
        const timer = setTimeout(() => server.kill("SIGKILL"), STOP_TIMEOUT);
        const status = await ended;
        clearTimeout(timer);
        assert.equal(status, 0, `the server ended with ${status} on SIGTERM`);
        assert.equal(output, found[0], "the server prints exactly one line");
      })();
    },
  };
  t.after(() => echo.stop());
  return echo;
}

const certificates = join(root, "build", "certificates");
const tls = ["--tls-cert", join(certificates, "server.pem"), "--tls-key", join(certificates, "server-key.pem")];

/** The server's options for each way that bytes travel. */
export const ways = {
  "ws": [], "ws, compressed": ["--compression"], "ws, compressed in contexts": ["--compression", "--context-takeover"],
  "wss": tls, "wss, compressed": [...tls, "--compression"],
};

/** What clients trust. */
export const ca = () => readFileSync(join(certificates, "ca.pem"));

export const messages = {
  "text": "Hello, libwsx",
  "text beyond ASCII": "Grüße, 日本語, 👩‍🚀",
  "binary": Buffer.from(Array.from({ length: 256 }, (_, i) => i)),
  "empty text": "",
  "empty binary": Buffer.alloc(0),
  "65,535 bytes": "x".repeat(65_535),
  "65,536 bytes": "x".repeat(65_536),
  "1 MiB text": "x".repeat(1 << 20),
  "1 MiB binary": Buffer.alloc(1 << 20, "libwsx"),
  "200 kB of noise": randomBytes(200_000),
  "words": Array.from({ length: 30_000 }, (_, i) => ["broadcast", "echo", "été", "日本"][(i * i) % 4]).join(" "),
};
