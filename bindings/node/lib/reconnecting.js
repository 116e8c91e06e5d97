'use strict';
// What a WebSocket with the option `reconnect` is beyond others: one object for many connections.

const { NOBODY, attempt } = require('./border.js');
const { closeInfoOf, coded, giveUpInfo } = require('./errors.js');

const CONNECTING = 0, OPEN = 1;
const GOING_AWAY = 1001;
const EMPTY = Buffer.alloc(0);

/** Methods of a WebSocket. */
const reconnecting = {
  /** Closes the connection, but not the client: it connects again, unless the code says otherwise. */
  reconnect(code = GOING_AWAY, reason = '') {
    if (!this._reconnects) throw coded(Error, 'WSX_ERR_WRONG_KIND', 'Only a client with the option "reconnect" connects again');
    if (this._state === OPEN && this._index !== NOBODY) attempt('closeConnection', this._index, code, reason.toString());
  },

  /** There is no connection: the engine keeps the message for the next one, or refuses it. */
  _sendOffline(length, callback, ...send) {
    const error = this._index === NOBODY || this._ends ? this._notOpen() : this._try(...send);
    if (error !== undefined) {
      const told = error.code === 'WSX_ERR_NOT_OPEN' ? this._notOpen() : error;
      if (callback === undefined) throw told;
      process.nextTick(callback, told);
      return false;
    }
    this._total += length;
    if (callback !== undefined) (this._sent ??= []).push({ at: this._total, callback });
    return true;
  },

  /** A part of a message that has lost its connection, or never had one: the next one would take it for a whole message. */
  _refusePart(isLast, callback) {
    if (isLast) this._fragments = null;
    if (callback === undefined) throw this._notOpen();
    process.nextTick(callback, this._notOpen());
    return false;
  },

  /** A connection has ended; what comes of that is told next. */
  _lost(ending) {
    this._lastClose = ending;
    this._isFailing = false;
    this._pending = 0;
    while (this._sent !== null && this._sent.length !== 0) this._report(ending.info.error ?? this._notOpen());
  },

  /** The client waits, and then connects again. */
  _again(data) {
    if (this._ends) return;
    this._state = CONNECTING;
    this._agreed('', '');
    this._peer = null;
    this.emit('reconnecting', data.readUInt32LE(0), data.readDoubleLE(4), this._lastClose.info);
    // What it would have waited for is gone.
    if (this._needsDrain) this._drained();
  },

  /** The client connects no more. */
  _gaveUp(data) {
    const info = giveUpInfo(data);
    try {
      this.emit('giveup', info);
    } finally {
      const wasWaiting = info.closeCode === null;
      this._ended(wasWaiting ? { info: { ...closeInfoOf(info), error: null }, reason: EMPTY } : this._lastClose);
    }
  },
};

module.exports = { reconnecting };
