// ws, with bufferutil as its documentation recommends for speed, and without compression and TLS unless they are asked
// for: --compression, with --context-takeover too, and --tls-cert FILE --tls-key FILE.

import { readFileSync } from "node:fs";
import { createServer as createPlain } from "node:http";
import { createServer as createSecure } from "node:https";
import { parseArgs } from "node:util";
import { WebSocket, WebSocketServer } from "ws";

const { values: given } = parseArgs({
  options: {
    broadcast: { type: "boolean" },
    compression: { type: "boolean" },
    "context-takeover": { type: "boolean" },
    "tls-cert": { type: "string" },
    "tls-key": { type: "string" },
  },
});
const forgets = !given["context-takeover"];
const perMessageDeflate = given.compression && {
  serverNoContextTakeover: forgets,
  clientNoContextTakeover: forgets,
  threshold: 1024,
  zlibDeflateOptions: { level: 6 },
};
const http = given["tls-cert"]
  ? createSecure({ cert: readFileSync(given["tls-cert"]), key: readFileSync(given["tls-key"]) })
  : createPlain();
const server = new WebSocketServer({ server: http, perMessageDeflate });

server.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (data, isBinary) => {
    if (!given.broadcast) return socket.send(data, { binary: isBinary });
    for (const other of server.clients) {
      if (other !== socket && other.readyState === WebSocket.OPEN) other.send(data, { binary: isBinary });
    }
  });
});
http.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${http.address().port}`));
