// The same door by require(): the class, with everything else on it.

import WebSocket = require("libwsx");

const server: WebSocket.Server = new WebSocket.WebSocketServer({ port: 0 }, () => {});
const client: WebSocket.WebSocket = new WebSocket("ws://localhost", "chat");
const info: WebSocket.CloseInfo | null = client.closeInfo;
const renewed: WebSocket.SecureContextOptions = { cert: "", key: "" };
const compression: WebSocket.PerMessageDeflateOptions = { serverNoContextTakeover: false };
const limits: WebSocket.ServerOptions = { maxMessage: info?.lostMessages, perMessageDeflate: compression };
server.setSecureContext(renewed);
client.on("drain", () => server.publish("news", "text", { except: client, ...(limits as object) }));
