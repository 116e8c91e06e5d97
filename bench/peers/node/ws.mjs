// ws, with bufferutil as its documentation recommends for speed, and without compression.

import { WebSocket, WebSocketServer } from "ws";

const broadcasting = process.argv.includes("--broadcast");
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });

server.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (data, isBinary) => {
    if (!broadcasting) return socket.send(data, { binary: isBinary });
    for (const other of server.clients) {
      if (other !== socket && other.readyState === WebSocket.OPEN) other.send(data, { binary: isBinary });
    }
  });
});
server.on("listening", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
