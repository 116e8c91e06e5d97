// An echo server: text comes back as text, binary as binary. With --broadcast a message goes to everybody else instead.
//
//     node echo.mjs [--host HOST] [--port PORT] [--broadcast] [--max-message BYTES] [--max-fragments N] [--origin any]
//
// It pauses a peer that does not read its echoes, and ends in order on SIGINT and SIGTERM.

import { parseArgs } from "node:util";
import { WebSocketServer } from "libwsx";

const text = (value) => ({ type: "string", default: value });
const { values } = parseArgs({ options: {
  host: text("127.0.0.1"), port: text("9001"), broadcast: { type: "boolean" },
  "max-message": text("1048576"), "max-fragments": text("1024"), origin: text("same-host"),
} });

const server = new WebSocketServer({
  host: values.host, port: Number(values.port), backlogPolicy: "pause", origins: values.origin,
  maxMessage: Number(values["max-message"]), maxFragments: Number(values["max-fragments"]), subprotocols: [],
  handlers: {
    message(socket, data, isBinary) {
      if (values.broadcast) socket.broadcast(data, { binary: isBinary });
      else socket.send(data, { binary: isBinary });
    },
  },
});
server.on("listening", () => {
  const { address, family, port } = server.address();
  console.log(`listening on ws://${family === "IPv6" ? `[${address}]` : address}:${port}`);
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => server.close({ code: 1001, timeout: 1000 }));
