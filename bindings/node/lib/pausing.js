'use strict';
// Pausing: what came meanwhile is held, and told when the program goes on.

const { NOBODY } = require('./border.js');

const CONNECTING = 0, CLOSED = 3;

/** Methods of a WebSocket. */
const pausing = {
  /** Tells nothing and reads nothing until `resume`. */
  pause() {
    if (this._state === CONNECTING || this._state === CLOSED || this._paused) return;
    this._paused = true;
    this._held ??= [];
    if (this._index !== NOBODY) this._try('pause');
  },

  /** Goes on after `pause`. */
  resume() {
    if (!this._paused) return;
    this._let();
    if (this._index !== NOBODY) this._try('resume');
  },

  /** Lets go of what was held, in the order it came, as an event of its own. */
  _let() {
    this._paused = false;
    if (this._held?.length === 0) this._held = null;
    else if (this._held !== null) process.nextTick(() => this._replay());
  },

  _replay() {
    try {
      while (!this._paused && this._held !== null && this._held.length !== 0) this._tell(...this._held.shift());
    } finally {
      if (!this._paused && this._held !== null) this._let();
    }
  },
};

module.exports = { pausing };
