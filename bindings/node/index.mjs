// The door for import.

import WebSocket from './index.js';

export const { WebSocketServer, Server } = WebSocket;
export { WebSocket };
export default WebSocket;
