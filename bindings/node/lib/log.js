'use strict';
// The engine's log, published by diagnostics_channel to those who subscribe. Levels and topics are numbered as in `src/log.rs`.

const { channel } = require('node:diagnostics_channel');

const LEVELS = ['off', 'error', 'warning', 'information', 'debug'];
const TOPICS = ['other', 'listener', 'request', 'tls', 'connection', 'backlog', 'callback'];
const WARNING = 2, DEBUG = 4;

const errors = channel('wsx:error'), connections = channel('wsx:connection');

let isTelling = false;

/** How much is wanted: nothing is made that nobody hears, nor what a subscriber causes itself, or a log would never end. */
function wantedLevel() {
  if (isTelling) return 0;
  return connections.hasSubscribers ? DEBUG : errors.hasSubscribers ? WARNING : 0;
}

/** Tells those who want to hear. */
function publish(level, topic, message, server) {
  isTelling = true;
  (level <= WARNING ? errors : connections).publish({ level: LEVELS[level], topic: TOPICS[topic], message, server });
  isTelling = false;                 // what a subscriber throws is uncaught, but not thrown here
}

module.exports = { publish, wantedLevel };
