// What programs write, as TypeScript reads it; `@ts-expect-error` marks what it must refuse.

import Default, { METRICS_TYPE, Server, SharedMessage, WebSocket, WebSocketServer, metrics, stats } from "libwsx";

function is<T>(_value: T): void {}

const server = new WebSocketServer({ port: 0, host: "127.0.0.1", maxPayload: 1000, backlogPolicy: "pause", origins: ["https://example.org"] });
server.on("connection", (socket, request) => {
  is<WebSocket>(socket);
  is<string | undefined>(request.headers.cookie);
  is<string | undefined>(request.socket.remoteAddress);
  is<[boolean, string | undefined, Buffer | undefined]>([request.isSecure, request.serverName, request.peerCertificates[0]]);
  is<string | string[] | undefined>(request.socket.getPeerCertificate().subject?.CN);
  socket.on("message", (data, isBinary) => {
    is<Buffer | ArrayBuffer | Blob>(data);
    is<boolean>(socket.send(data as Buffer, { binary: isBinary }, (error) => is<Error | undefined>(error)));
  });
  socket.on("close", (code, reason, info) => {
    is<number>(code);
    is<Buffer>(reason);
    is<"us" | "peer">(info.by);
    is<[string, number]>([info.text, info.undeliveredMessages]);
    is<[string, "bytes" | "count" | "milliseconds", number, number | null] | undefined>(
      info.error?.limit && [info.error.limit.option, info.error.limit.unit, info.error.limit.value, info.error.limit.reached]);
  });
  socket.subscribe("news");
  socket.publish("news", "text");
  // @ts-expect-error a topic is a string
  socket.subscribe(1);
});
server.on("headers", (headers) => headers.push("X-Served-By: libwsx"));
server.broadcast(new Uint8Array(3), { except: [...server.clients][0] });
is<number>(server.stats().connections);
is<number | undefined>(stats().refused.full);
is<number | undefined>(stats().failures.websocket?.protocol);
is<number | undefined>(stats().closes[1000]);
is<string>(metrics() + METRICS_TYPE);
// @ts-expect-error no such cause
stats().refused.nonsense;
server.close({ code: 1001, timeout: 1000 }, (error) => is<Error | undefined>(error));
is<Server>(server);

new WebSocketServer({
  port: 0,
  handleRequest: ({ path }) => (path === "/" ? { headers: { "Content-Type": "text/html" }, body: "<p>" } : undefined),
  verifyClient: ({ origin, req }) => origin === undefined && req.method === "GET",
  handleProtocols: (protocols) => protocols.has("chat") && "chat",
  handlers: { message: (socket, data, isBinary) => void socket.send(data as Buffer, { binary: isBinary }) },
});
new WebSocketServer({ port: 0, verifyClient: (_info, callback) => callback(false, 403, "no", { "X-Why": "no" }) });
new WebSocketServer({
  port: 0,
  handleRequest: async ({ cookies, signal }) => (cookies.id === "1" && !signal.aborted ? 204 : undefined),
  verifyClient: async ({ req }) => req.query.get("token") !== null,
  handleProtocols: async (protocols) => [...protocols][0],
});
is<WebSocketServer>(server.route("/rooms/*", { maxMessage: 10, origins: ["https://*.example.org"] }));
// @ts-expect-error the server's
server.route("/chat", { port: 0 });
// @ts-expect-error the server's
server.route("/chat", { cert: "" });
new WebSocketServer({ port: 0, perMessageDeflate: { threshold: 0, clientMaxWindowBits: 10, zlibDeflateOptions: { level: 1 } } });
new WebSocketServer({ port: 0, cert: "", key: Buffer.alloc(0), ca: [new Uint8Array(0)], requestCert: true, rejectUnauthorized: false, ALPNProtocols: ["chat"] });
server.setSecureContext({ cert: [""], key: [""] });
new WebSocket("wss://localhost", { ca: "", servername: "localhost", rejectUnauthorized: true });
// @ts-expect-error a server asks for no name
new WebSocketServer({ port: 0, servername: "localhost" });
// @ts-expect-error not there
new WebSocketServer({ port: 0, pfx: Buffer.alloc(0) });
// @ts-expect-error a number
new WebSocketServer({ port: 0, perMessageDeflate: { serverMaxWindowBits: "15" } });
// @ts-expect-error not a policy
new WebSocketServer({ port: 0, backlogPolicy: "wait" });
// @ts-expect-error a number of milliseconds
new WebSocketServer({ port: 0, pingInterval: "25s" });

const client = new WebSocket("ws://localhost", ["a", "b"], { headers: { Cookie: "a=b" }, origin: "http://localhost" });
client.binaryType = "arraybuffer";
// @ts-expect-error not supported
client.binaryType = "fragments";
client.onmessage = ({ data, target }) => is<[string | Buffer | ArrayBuffer | Blob, WebSocket]>([data, target]);
client.onclose = null;
is<string | undefined>(client.remoteAddress);
is<number | undefined>(client.remotePort);
is<number | undefined>(client.latency);
is<boolean>(client.send("part", { fin: false }));
is<boolean>(client.sendShared(new SharedMessage("text", { binary: false }), (error) => is<Error | undefined>(error)));
// @ts-expect-error a message that was encoded before
client.sendShared("text");
client.addEventListener("close", (event) => is<boolean>(event.wasClean), { once: true });
client.addEventListener("error", { handleEvent: ({ error }) => is<string>(error.code) });
is<0 | 1 | 2 | 3>(client.readyState);
is<"" | "permessage-deflate">(client.extensions);
const again = new WebSocket("ws://localhost", { reconnect: { baseDelay: 100, offlineLimit: 1024 } });
again.on("reconnecting", (attempt, delay, cause) => is<[number, number, number]>([attempt, delay, cause.code]));
again.once("giveup", ({ kind, closeCode }) => is<[boolean, number | null]>([kind === "finished", closeCode]));
again.reconnect(4000, "elsewhere");
// @ts-expect-error not a number
new WebSocket("ws://localhost", { reconnect: { maxAttempts: "3" } });
is<1>(WebSocket.OPEN);
is<Default>(client);
// @ts-expect-error read only
client.protocol = "a";
// @ts-expect-error nothing that could be sent
client.send({});
