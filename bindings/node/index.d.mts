import WebSocket = require("./index.js");

declare const WebSocketServer: typeof WebSocket.WebSocketServer;
type WebSocketServer = WebSocket.WebSocketServer;
declare const Server: typeof WebSocket.WebSocketServer;
type Server = WebSocket.WebSocketServer;

export default WebSocket;
export { Server, WebSocket, WebSocketServer };
