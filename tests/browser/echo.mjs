// A page in headless Chromium against the echo server: plain and over TLS, with and without compression.
//
//   node --test echo.mjs      the server is build/echo, or the command in WSX_ECHO

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEcho, ways } from "../node/echo.mjs";
import { launch } from "./browser.mjs";

const limit = { timeout: 60_000 };
let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

/** In the page: sends all messages at once, and answers what came back, what was agreed on and how it closed. */
async function exchange({ url, texts, sizes }) {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  const sent = [...texts, ...sizes.map((size) => Uint8Array.from({ length: size }, (_, i) => (i * i) % 251))];
  const come = [];
  const closed = new Promise((resolve) => {
    socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
  });
  socket.onopen = () => sent.forEach((message) => socket.send(message));
  socket.onmessage = ({ data }) => {
    come.push(data);
    if (come.length === sent.length) socket.close(1000, "bye");
  };
  const { code, wasClean } = await closed;
  const same = (one, other) => typeof one === "string" ? one === other
    : other instanceof ArrayBuffer && one.length === other.byteLength && new Uint8Array(other).every((byte, i) => byte === one[i]);
  return { code, wasClean, extensions: socket.extensions, same: sent.map((message, i) => same(message, come[i])) };
}

for (const [way, options] of Object.entries(ways)) {
  test(`a page's messages come back: ${way}`, limit, async (t) => {
    const echo = await startEcho(t, "--origin", "any", ...options);
    const page = await browser.newPage({ ignoreHTTPSErrors: true });
    t.after(() => page.close());
    const texts = ["Hello, libwsx", "", "Grüße, 日本語, 👩‍🚀", "many words ".repeat(40_000)];
    const sizes = [0, 125, 126, 65_535, 65_536, 1_000_000];
    const answer = await page.evaluate(exchange, { url: echo.url, texts, sizes });
    assert.deepEqual(answer.same, Array(texts.length + sizes.length).fill(true));
    assert.deepEqual({ code: answer.code, wasClean: answer.wasClean }, { code: 1000, wasClean: true });
    assert.equal(answer.extensions.startsWith("permessage-deflate"), options.includes("--compression"));
  });
}
