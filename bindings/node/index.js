'use strict';
// The door for require(): the class WebSocket, with everything else on it, as the package ws has it.

const { WebSocket } = require('./lib/websocket.js');
const { WebSocketServer } = require('./lib/server.js');

WebSocket.WebSocket = WebSocket;
WebSocket.WebSocketServer = WebSocketServer;
WebSocket.Server = WebSocketServer;

module.exports = WebSocket;
