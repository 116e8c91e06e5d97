// An echo server: text comes back as text, binary as binary. With --broadcast a message goes to everybody else instead.
//
//     node echo.mjs [--host HOST] [--port PORT] [--broadcast] [--compression [--context-takeover]] [--max-message BYTES]
//                   [--max-fragments N] [--origin any] [--tls-cert FILE --tls-key FILE [--tls-ca FILE]]
//
// With a certificate and its key, in PEM, it speaks TLS; with --tls-ca clients must show a certificate of these issuers.
// It pauses a peer that does not read its echoes, and ends in order on SIGINT and SIGTERM.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { WebSocketServer } from "libwsx";

const text = (value) => ({ type: "string", default: value });
const { values } = parseArgs({ options: {
  host: text("127.0.0.1"), port: text("9001"),
  broadcast: { type: "boolean" }, compression: { type: "boolean" }, "context-takeover": { type: "boolean" },
  "max-message": text("1048576"), "max-fragments": text("1024"), origin: text("same-host"),
  "tls-cert": text(), "tls-key": text(), "tls-ca": text(),
} });
const [cert, key, ca] = ["tls-cert", "tls-key", "tls-ca"].map((name) => values[name] && readFileSync(values[name]));

const without = !values["context-takeover"];
const perMessageDeflate = values.compression && { serverNoContextTakeover: without, clientNoContextTakeover: without };

const server = new WebSocketServer({
  host: values.host, port: Number(values.port), backlogPolicy: "pause", origins: values.origin,
  maxMessage: Number(values["max-message"]), maxFragments: Number(values["max-fragments"]), subprotocols: [],
  perMessageDeflate, cert, key, ca, requestCert: ca !== undefined,
  handlers: {
    message(socket, data, isBinary) {
      if (values.broadcast) socket.broadcast(data, { binary: isBinary });
      else socket.send(data, { binary: isBinary });
    },
  },
});
server.on("listening", () => {
  const { address, family, port } = server.address();
  console.log(`listening on ${cert ? "wss" : "ws"}://${family === "IPv6" ? `[${address}]` : address}:${port}`);
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => server.close({ code: 1001, timeout: 1000 }));
