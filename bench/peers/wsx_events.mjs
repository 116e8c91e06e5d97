// libwsx for Node, used as one uses ws: a listener for each connection.

import { WebSocketServer } from "libwsx";

const broadcasting = process.argv.includes("--broadcast");
const server = new WebSocketServer({
  host: "127.0.0.1", port: 0, maxMessage: 16 << 20, backlogPolicy: broadcasting ? "close" : "pause",
});

server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => {
    if (broadcasting) server.broadcast(data, { binary: isBinary, except: socket });
    else socket.send(data, { binary: isBinary });
  });
});
server.on("listening", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
