// What the tests share: a server on a port of its own, a connection whose messages wait in line, a program of its own.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { WebSocketServer as WsServer } from "ws";
import { WebSocket, WebSocketServer } from "../index.mjs";

export const folder = join(dirname(fileURLToPath(import.meta.url)), "..");
export const door = pathToFileURL(join(folder, "index.mjs")).href;
export const limit = { timeout: 30_000 };

/** A text in PEM that the tests of all languages share: see tests/certificates for the names. */
export function pem(name) {
  const file = join(folder, "../../build/certificates", `${name}.pem`);
  try {
    return readFileSync(file);
  } catch (error) {
    throw new Error(`${file} is missing: "make build/certificates/ca.pem" in the root of the tree makes it`, { cause: error });
  }
}

/** A certificate with its key, as options. */
export const certified = (name) => ({ cert: pem(name), key: pem(`${name}-key`) });

/** A server that listens; closed, with its connections, after the test. */
export async function serve(t, options = {}) {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, ...options });
  await once(server, "listening");
  server.url = `${options.cert ? "wss" : "ws"}://127.0.0.1:${server.address().port}/`;
  t.after(() => new Promise((resolve) => {
    server.close({ timeout: 100 }, resolve);
  }));
  return server;
}

/** A server that sends everything back. */
export function serveEcho(t, options = {}) {
  return serve(t, { handlers: { message: (socket, data, isBinary) => socket.send(data, { binary: isBinary }) }, ...options });
}

/** A server of the package ws that sends everything back. */
export async function serveWs(t, options = {}) {
  const server = new WsServer({ host: "127.0.0.1", port: 0, ...options });
  server.on("connection", (socket) => socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary })));
  await once(server, "listening");
  server.url = `ws://127.0.0.1:${server.address().port}/`;
  t.after(() => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  return server;
}

/** Makes messages of any EventEmitter in the manner of ws wait in line: `receive()`, `closed`. */
export function inLine(socket) {
  const waiting = [], wanted = [];
  socket.on("message", (data, isBinary) => {
    const message = isBinary ? data : data.toString();
    if (wanted.length) wanted.shift()(message); else waiting.push(message);
  });
  socket.receive = () => waiting.length ? Promise.resolve(waiting.shift()) : new Promise((resolve) => wanted.push(resolve));
  socket.closed = new Promise((resolve) => {
    socket.once("close", (code, reason, info) => resolve({ code, reason: reason.toString(), info }));
  });
  return socket;
}

/** An open connection whose messages wait in line. */
export async function open(url, protocols, options) {
  const socket = inLine(new WebSocket(url, protocols, options));
  await once(socket, "open");
  return socket;
}

/** How a client ends that cannot connect: the error and the code of the close behind it. */
export function failed(socket) {
  return new Promise((resolve) => {
    let error;
    socket.once("error", (told) => { error = told; });
    socket.once("close", (code) => resolve({ error, code }));
  });
}

/** Closes in order. */
export async function leave(socket) {
  socket.close(1000);
  return socket.closed;
}

/** The server's side of the next connection. */
export async function accepted(server) {
  const [socket, request] = await once(server, "connection");
  return { socket: inLine(socket), request };
}

/** A TCP connection that has sent an opening handshake, and what came since: `until(found)` waits for it. */
export async function raw(server, path = "/", headers = "") {
  const { port } = server.address();
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  let bytes = Buffer.alloc(0);
  let look = () => {};
  socket.on("data", (chunk) => { bytes = Buffer.concat([bytes, chunk]); look(); });
  socket.on("error", () => {});
  socket.until = (found) => new Promise((resolve, reject) => {
    look = () => { if (found(bytes)) resolve(bytes); };
    socket.once("close", () => { if (found(bytes)) resolve(bytes); else reject(new Error(`the connection ended after ${bytes.length} bytes`)); });
    look();
  });
  socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
    `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n${headers}\r\n`);
  const head = (await socket.until((all) => all.includes("\r\n\r\n"))).toString("latin1");
  bytes = bytes.subarray(head.indexOf("\r\n\r\n") + 4);
  socket.head = head.slice(0, head.indexOf("\r\n\r\n"));
  return socket;
}

/** A frame of a client, masked with zeros. */
export function frame(opcode, payload = "", { fin = true } = {}) {
  const bytes = Buffer.from(payload);
  if (bytes.length > 125) throw new RangeError("short frames only");
  return Buffer.concat([Buffer.from([(fin ? 0x80 : 0) | opcode, 0x80 | bytes.length, 0, 0, 0, 0]), bytes]);
}

/** Runs a program (the text of an ES module) in a process of its own, until it ends. */
export async function run(program, { timeout = 20_000, stdin, env } = {}) {
  const child = spawn(process.execPath, ["--input-type=module", "-e", program.replaceAll("LIBWSX", JSON.stringify(door))],
    { stdio: [stdin ?? "ignore", "pipe", "pipe"], env: { ...process.env, ...env }, cwd: folder });
  let stdout = "", stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text) => { stdout += text; });
  child.stderr.setEncoding("utf8").on("data", (text) => { stderr += text; });
  const timer = setTimeout(() => child.kill("SIGKILL"), timeout);
  const [status, signal] = await once(child, "close");
  clearTimeout(timer);
  return { status: status ?? signal, stdout, stderr };
}
