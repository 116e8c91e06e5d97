'use strict';
// What a WebSocket of a server hears of its topics, and sends to many: methods of the class.

const { sendable, topicOf, wholeTextual } = require('./arguments.js');
const { publish } = require('./border.js');
const { coded } = require('./errors.js');

const topics = {
  /** Hears what is published under a topic from now on. Only connections of a server can. */
  subscribe(topic) { this._do('subscribe', topicOf(topic)); },

  /** Hears it no more. */
  unsubscribe(topic) { this._do('unsubscribe', topicOf(topic)); },

  /** Sends a message to all subscribers of a topic but this connection. */
  publish(topic, data, options) {
    data = sendable(data);
    publish(topicOf(topic), data, wholeTextual(data, options), this._index);
  },

  /** Sends a message to all other connections of the same server. */
  broadcast(data, options) {
    if (!this._server) throw coded(Error, 'WSX_ERR_WRONG_KIND', 'Only a connection of a server has others to broadcast to');
    this._server.broadcast(data, { ...options, except: this });
  },
};

module.exports = { topics };
