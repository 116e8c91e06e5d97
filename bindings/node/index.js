'use strict';
// The door for require(): the class WebSocket, with everything else on it, as the package ws has it.

const { WebSocket } = require('./lib/websocket.js');
const { WebSocketServer } = require('./lib/server.js');
const { METRICS_TYPE, metrics, stats } = require('./lib/statistics.js');
const { SharedMessage } = require('./lib/shared.js');

WebSocket.WebSocket = WebSocket;
WebSocket.WebSocketServer = WebSocketServer;
WebSocket.Server = WebSocketServer;
WebSocket.stats = stats;
WebSocket.metrics = metrics;
WebSocket.METRICS_TYPE = METRICS_TYPE;
WebSocket.SharedMessage = SharedMessage;

module.exports = WebSocket;
