// libwsx for Node in its cheapest form: functions for all connections, none for each.

import { WebSocketServer } from "libwsx";

const broadcasting = process.argv.includes("--broadcast");
const server = new WebSocketServer({
  host: "127.0.0.1", port: 0, maxMessage: 16 << 20, clientTracking: false,
  backlogPolicy: broadcasting ? "close" : "pause",
  handlers: {
    message(socket, data, isBinary) {
      if (broadcasting) socket.broadcast(data, { binary: isBinary });
      else socket.send(data, { binary: isBinary });
    },
  },
});
server.on("listening", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
