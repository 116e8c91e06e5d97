import WebSocket = require("./index.js");

declare const WebSocketServer: typeof WebSocket.WebSocketServer;
type WebSocketServer = WebSocket.WebSocketServer;
declare const Server: typeof WebSocket.WebSocketServer;
type Server = WebSocket.WebSocketServer;
declare const SharedMessage: typeof WebSocket.SharedMessage;
type SharedMessage = WebSocket.SharedMessage;

declare const stats: typeof WebSocket.stats;
declare const metrics: typeof WebSocket.metrics;
declare const METRICS_TYPE: typeof WebSocket.METRICS_TYPE;

export default WebSocket;
export { METRICS_TYPE, Server, SharedMessage, WebSocket, WebSocketServer, metrics, stats };
