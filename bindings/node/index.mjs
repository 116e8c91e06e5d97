// The door for import.

import WebSocket from './index.js';

export const { WebSocketServer, Server, SharedMessage, stats, metrics, METRICS_TYPE } = WebSocket;
export { WebSocket };
export default WebSocket;
