'use strict';
// One connection, as a program sees it: of a server, or a client of its own.

const { EventEmitter } = require('node:events');
const { subprotocolsOf, targetOf, urlOf } = require('./address.js');
const { isCloseCode, sendable, textual } = require('./arguments.js');
const { EVENT, NOBODY, attempt, border, bytesOf, hold, payload, release, send, sockets } = require('./border.js');
const { closeInfo, closeInfoOf, coded } = require('./errors.js');
const { mixIn } = require('./events.js');
const { clientOptions, headerList, highWater, reconnect } = require('./options.js');
const { pausing } = require('./pausing.js');
const { reconnecting } = require('./reconnecting.js');
const { headersOf, peerOf } = require('./request.js');
const { SharedMessage } = require('./shared.js');
const { clientTls } = require('./tls.js');
const { topics } = require('./topics.js');

const CONNECTING = 0, OPEN = 1, CLOSING = 2, CLOSED = 3;
const NAMES = ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'];
const BINARY_TYPES = ['nodebuffer', 'arraybuffer', 'blob'];
const NO_STATUS = 1005;
const MAX_CONTROL = 125, MAX_REASON = 123;
const EMPTY = Buffer.alloc(0);

/** A connection. `open`, `message`, `ping`, `pong`, `drain`, `fragment`, `error` and `close` are its events. */
class WebSocket extends EventEmitter {
  constructor(address, protocols, options) {
    super();
    this._index = NOBODY;
    this._state = CONNECTING;
    this._binaryType = 'nodebuffer';
    this._protocol = '';
    this._extensions = '';
    this._url = '';
    this._server = null;
    this._handlers = null;
    this._policy = undefined;
    this._high = Infinity;
    // Bytes sent, in all; those that may wait; what callbacks wait for; whether send() has answered false.
    this._total = 0;
    this._pending = 0;
    this._sent = null;
    this._needsDrain = false;
    this._fragments = null;            // of a message that is being sent: whether it is text
    this._paused = false;
    this._held = null;                 // events that came while paused
    this._keeps = false;               // keeps the process alive
    this._aborted = false;
    this._ends = false;                // the program has closed
    this._reconnects = false;          // a client that connects again
    this._lastClose = null;            // how its last connection ended
    this._isCareful = false;           // asks the engine at once whether it takes a message
    this._isFailing = false;           // the engine closes, not the program
    this._peer = null;                 // asked for
    /** How the connection ended; null before. */
    this.closeInfo = null;
    if (address !== null) this._connect(address, protocols, options);
  }

  // --- What it is

  get readyState() { return this._state; }
  get protocol() { return this._protocol; }
  get url() { return this._url; }
  get extensions() { return this._extensions; }
  get isPaused() { return this._paused; }
  get binaryType() { return this._binaryType; }

  /** `nodebuffer`, `arraybuffer` or `blob`. */
  set binaryType(type) {
    if (type === 'fragments') throw coded(TypeError, 'WSX_ERR_UNSUPPORTED', 'binaryType "fragments" is not supported: use the option deliverFragments');
    if (BINARY_TYPES.includes(type)) this._binaryType = type;
  }

  /** Bytes that were sent and have not reached the kernel. */
  get bufferedAmount() {
    return this._index === NOBODY ? 0 : border().buffered(this._index);
  }

  /** Milliseconds from the newest ping that was answered to its pong; undefined before the first, and after the end. */
  get latency() {
    return this._index === NOBODY ? undefined : border().latency(this._index) ?? undefined;
  }

  /** Where the peer is, as of a net.Socket: undefined while connecting, for a Unix socket, and after the end. */
  get remoteAddress() { return this._where()?.remoteAddress; }
  get remotePort() { return this._where()?.remotePort; }
  get remoteFamily() { return this._where()?.remoteFamily; }

  _where() {
    if (this._index === NOBODY || this._state === CONNECTING) return null;
    if (this._peer === null) {
      const text = border().peer(this._index);
      if (text) this._peer = peerOf(text);
    }
    return this._peer;
  }

  // --- Sending

  /**
   * Sends a message. Answers false where so much waits that the program had better wait for `drain`.
   * @param {*} data a string is sent as text, everything else as binary, unless `options.binary` says otherwise; with
   * `options.fin` of false it is a fragment, which what is sent next goes on with, up to one without
   */
  send(data, options, callback) {
    if (typeof options === 'function') [options, callback] = [undefined, options];
    if (this._state === CONNECTING && !this._reconnects) throw this._notOpen();
    data = sendable(data);
    const isText = textual(data, options);
    if (this._state === CONNECTING) {
      if (options?.fin === false || this._fragments !== null) return this._refusePart(options?.fin !== false, callback);
      const bytes = bytesOf(data);
      return this._sendOffline(bytes.byteLength, callback, 'send', isText, bytes);
    }
    if (this._state !== OPEN || this._index === NOBODY) {
      if (callback !== undefined) process.nextTick(callback, this._notOpen());
      return false;
    }
    if (options?.fin === false || this._fragments !== null) return this._sendFragment(data, isText, options?.fin !== false, callback);
    if (callback !== undefined || this._isCareful) return this._sendCarefully(data, isText, callback);
    try {
      return this._took(send(this._index, data, isText));
    } catch (error) {
      return this._refused(error, undefined);
    }
  }

  /** One whose outcome is asked for: the engine is asked at once. */
  _sendCarefully(data, isText, callback) {
    const bytes = bytesOf(data);
    try {
      attempt('send', this._index, isText, bytes);
    } catch (error) {
      return this._refused(error, callback);
    }
    return this._tookCarefully(bytes.byteLength, callback);
  }

  /** A part of a message; of what kind it is says the first one. */
  _sendFragment(data, isText, isLast, callback) {
    const bytes = bytesOf(data);
    isText = this._fragments ?? isText;
    try {
      attempt('sendFragment', this._index, isText, bytes, isLast);
    } catch (error) {
      // One that was left out without a word would make another message of it.
      if (callback === undefined && error.code !== 'WSX_ERR_CLOSED') throw error;
      return this._refused(error, callback);
    }
    this._fragments = isLast ? null : isText;
    return this._tookCarefully(bytes.byteLength, callback);
  }

  /**
   * Sends a message that was encoded before; all else is as of `send`.
   * @param {SharedMessage} shared
   */
  sendShared(shared, callback) {
    if (!(shared instanceof SharedMessage)) throw coded(TypeError, 'ERR_INVALID_ARG_TYPE', 'The message must be a SharedMessage');
    if (this._state === CONNECTING && !this._reconnects) throw this._notOpen();
    const encoded = SharedMessage.encodedOf(shared);
    if (this._state === CONNECTING) return this._sendOffline(encoded.length, callback, 'sendShared', encoded);
    if (this._state !== OPEN || this._index === NOBODY) {
      if (callback !== undefined) process.nextTick(callback, this._notOpen());
      return false;
    }
    try {
      attempt('sendShared', this._index, encoded);
    } catch (error) {
      return this._refused(error, callback);
    }
    return this._tookCarefully(encoded.length, callback);
  }

  _tookCarefully(length, callback) {
    const took = this._took(length);
    if (callback !== undefined) {
      (this._sent ??= []).push({ at: this._total, callback });
      border().watch(this._index);
    }
    return took;
  }

  /** So many bytes were taken: is there room for more? */
  _took(length) {
    this._total += length;
    this._pending += length;
    if (this._pending <= this._high) return true;
    if (this._needsDrain) return false;
    this._pending = border().pressure(this._index);
    if (this._pending <= this._high) return true;
    this._needsDrain = true;
    border().watch(this._index);
    return false;
  }

  /** The engine did not take a message. That the connection is closing is told by its close event. */
  _refused(error, callback) {
    const isOfProgram = error.code === 'WS_ERR_INVALID_UTF8' || error.code === 'WSX_ERR_MESSAGE_IN_PROGRESS';
    if (callback !== undefined) process.nextTick(callback, error);
    else if (isOfProgram || (error.code === 'WSX_ERR_BACKLOG_FULL' && this._policy === 'refuse')) throw error;
    if (error.code === 'WSX_ERR_BACKLOG_FULL' && this._index !== NOBODY) {
      this._needsDrain = true;
      border().watch(this._index);
    }
    return false;
  }

  _notOpen() {
    return coded(Error, 'WSX_ERR_NOT_OPEN', `WebSocket is not open: readyState ${this._state} (${NAMES[this._state]})`);
  }

  /** Sends a ping of at most 125 bytes; `pong` tells the answer. */
  ping(data, mask, callback) { this._control('ping', data, mask, callback); }

  /** Sends a pong that nobody asked for. */
  pong(data, mask, callback) { this._control('pong', data, mask, callback); }

  _control(name, data, mask, callback) {
    if (this._state === CONNECTING) throw this._notOpen();
    callback = [data, mask, callback].find((one) => typeof one === 'function');
    const bytes = bytesOf(sendable(typeof data === 'function' ? undefined : data));
    if (bytes.byteLength > MAX_CONTROL) throw coded(RangeError, 'ERR_OUT_OF_RANGE', 'The data size must not be greater than 125 bytes');
    let error;
    if (this._state !== OPEN || this._index === NOBODY) error = this._notOpen();
    else error = this._try(name, bytes);
    if (callback !== undefined) process.nextTick(callback, error);
  }

  /** Calls the engine for this connection; the error, if it has one. */
  _try(name, ...args) {
    try {
      attempt(name, this._index, ...args);
    } catch (error) {
      return error;
    }
    return undefined;
  }

  /** As `_try`, for what the program must hear of. */
  _do(name, ...args) {
    if (this._index === NOBODY) throw this._notOpen();
    attempt(name, this._index, ...args);
  }

  // --- Ending

  /** Begins the closing handshake. */
  close(code, reason) {
    if (this._state === CLOSED || this._ends) return;
    if (this._state === CLOSING && !this._reconnects) return;
    if (this._state === CONNECTING) return this._abort();
    if (code !== undefined && !(typeof code === 'number' && isCloseCode(code))) {
      throw coded(TypeError, 'ERR_INVALID_ARG_VALUE', 'First argument must be a valid error code number');
    }
    // Without a code there is no place for a reason: as ws does, it is left out.
    const text = code === undefined || reason === undefined ? '' : reason.toString();
    if (Buffer.byteLength(text) > MAX_REASON) throw coded(RangeError, 'ERR_OUT_OF_RANGE', 'The message must not be greater than 123 bytes');
    this._state = CLOSING;
    this._ends = true;
    this._let();
    // A connection that is gone tells so by itself.
    if (this._index !== NOBODY) this._try('close', code ?? NO_STATUS, text);
  }

  /** Cuts the connection, without a closing handshake. */
  terminate() {
    if (this._state === CLOSED) return;
    if (this._state === CONNECTING) return this._abort();
    this._state = CLOSING;
    this._isFailing = false;
    this._ends = true;
    this._let();
    if (this._index !== NOBODY) this._try('terminate');
  }

  _abort() {
    this._state = CLOSING;
    this._aborted = true;
    this._ends = true;
    if (this._index !== NOBODY) this._try('terminate');
  }

  // --- The process

  /** Keeps the process alive while it is open: the default. */
  ref() {
    if (!this._keeps && this._state !== CLOSED) {
      this._keeps = true;
      hold();
    }
    return this;
  }

  /** Lets the process end although it is open. */
  unref() {
    if (this._keeps) {
      this._keeps = false;
      release();
    }
    return this;
  }

  // --- What the engine tells

  _connect(address, protocols, options) {
    if (protocols !== null && typeof protocols === 'object' && !Array.isArray(protocols)) [protocols, options] = [undefined, protocols];
    const given = options ?? {};
    const url = urlOf(address);
    const native = clientOptions(given);
    native.subprotocols = subprotocolsOf(protocols);
    native.tls = clientTls(given);
    native.headers = headerList(given.headers);
    if (given.origin !== undefined) native.headers.push('Origin', String(given.origin));
    if (given.auth && !native.headers.some((name, at) => at % 2 === 0 && name.toLowerCase() === 'authorization')) {
      native.headers.push('Authorization', `Basic ${Buffer.from(given.auth).toString('base64')}`);
    }
    this._url = typeof url === 'string' ? url : url.href;
    this._policy = native.backlogPolicy;
    this._high = highWater(native);
    const again = reconnect(given.reconnect);
    this._reconnects = again !== undefined;
    this._isCareful = this._reconnects || this._policy === 'refuse';
    this.ref();
    try {
      if (this._reconnects) this._index = attempt('connectPersistently', targetOf(url), native, again);
      else this._index = attempt('connect', targetOf(url), native);
      sockets[this._index] = this;
    } catch (error) {
      process.nextTick(() => this._ended({ info: closeInfoOf(error), reason: EMPTY }));
    }
  }

  /** A message is at this place of the batch. */
  _receive(isBinary, at) {
    if (this._held !== null) this._held.push([isBinary ? EVENT.BINARY : EVENT.TEXT, 0, payload(at)]);
    else if (this._state === OPEN && (this._handlers?.message !== undefined || this.listenerCount('message') !== 0)) {
      this._message(payload(at), isBinary);
    }
  }

  _message(bytes, isBinary) {
    const data = isBinary && this._binaryType !== 'nodebuffer' ? this._converted(bytes) : bytes;
    try {
      this._handlers?.message?.(this, data, isBinary);
    } finally {
      if (this.listenerCount('message') !== 0) this.emit('message', data, isBinary);
    }
  }

  _converted(bytes) {
    if (this._binaryType === 'blob') return new Blob([bytes]);
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  }

  /** Any other event. */
  _event(kind, flags, data) {
    if (kind === EVENT.CLOSING) return this._closing();
    if (kind === EVENT.CLOSE || kind === EVENT.GAVE_UP) {
      this._index = NOBODY;
      if (this._state === OPEN) this._state = CLOSING;
    } else if (kind === EVENT.LOST && this._paused) {
      // The next connection is not paused.
      this._let();
    }
    if (this._held !== null && kind !== EVENT.DRAIN && kind !== EVENT.NOT_UTF8) this._hold(kind, flags, data);
    else this._tell(kind, flags, data);
  }

  /** The engine has begun to close. What was held before is still told. */
  _closing() {
    if (this._state !== OPEN) return;
    this._state = CLOSING;
    this._isFailing = true;
  }

  _hold(kind, flags, data) {
    this._held.push([kind, flags, data]);
    // Only what came before it keeps a Close from being told.
    if (kind === EVENT.CLOSE && this._held.length === 1) this._let();
  }

  _tell(kind, flags, data) {
    switch (kind) {
      case EVENT.CLOSE: return this._ended(closeInfo(flags, data));
      case EVENT.LOST: return this._lost(closeInfo(flags, data));
      case EVENT.RECONNECTING: return this._again(data);
      case EVENT.GAVE_UP: return this._gaveUp(data);
      case EVENT.CONNECTED: return this._connected(data);
      case EVENT.DRAIN: return this._drained();
      case EVENT.NOT_UTF8: return this._emitError(coded(TypeError, 'WS_ERR_INVALID_UTF8', 'Bytes that were sent as text are not UTF-8; they were not sent'));
    }
    // What comes after our close() is of no interest, except for what was held before it.
    if (this._state !== OPEN && this._index !== NOBODY && !this._isFailing) return;
    switch (kind) {
      case EVENT.TEXT: return this._message(data, false);
      case EVENT.BINARY: return this._message(data, true);
      case EVENT.PING: return this._both('ping', data);
      case EVENT.PONG: return this._both('pong', data);
      case EVENT.FRAGMENT: return this._both('fragment', data,
        { isBinary: (flags & 0x100) === 0, isFirst: (flags & 0x200) !== 0, isLast: (flags & 0x400) !== 0 });
    }
  }

  /** Tells the server's handlers, then the listeners. */
  _both(name, ...args) {
    try {
      this._handlers?.[name]?.(this, ...args);
    } finally {
      this.emit(name, ...args);
    }
  }

  _connected(lines) {
    const [protocol, extensions, ...raw] = lines.split('\n');
    this._agreed(protocol, extensions);
    if (this._ends) return;
    this._state = OPEN;
    this._fragments = null;
    if (this._sent !== null && this._sent.length !== 0) border().watch(this._index);
    if (this.listenerCount('upgrade') !== 0) this.emit('upgrade', { statusCode: 101, headers: headersOf(raw), rawHeaders: raw });
    this.emit('open');
  }

  /** What both sides agreed on. Extensions are told by their names, without parameters: there is one at most. */
  _agreed(protocol, extensions) {
    this._protocol = protocol;
    this._extensions = extensions.split(';', 1)[0];
  }

  _drained() {
    this._needsDrain = false;
    if (this._index !== NOBODY) this._pending = this.bufferedAmount;
    this._both('drain');
  }

  /** So many bytes wait. */
  _told(amount) {
    this._pending = amount;
    while (this._sent !== null && this._sent.length !== 0 && amount <= this._total - this._sent[0].at) this._report(undefined);
    if (this._needsDrain && amount <= this._high / 2) this._drained();
  }

  /** The outcome of the first message whose outcome is asked for. */
  _report(error) {
    const { callback } = this._sent.shift();
    process.nextTick(callback, error);
  }

  _ended({ info, reason }) {
    const wasConnecting = this._state === CONNECTING || this._aborted;
    this._state = CLOSED;
    this._index = NOBODY;
    this._held = null;
    this.closeInfo = info;
    this.unref();
    this._server?._left(this);
    while (this._sent !== null && this._sent.length !== 0) this._report(info.error ?? this._notOpen());
    if (this._aborted && !this._reconnects) info.error ??= coded(Error, 'WSX_ERR_ABORTED', 'WebSocket was closed before the connection was established');
    try {
      if (info.error !== null) this._failed(info.error, wasConnecting);
    } finally {
      try {
        this._both('close', info.code, reason, info);
      } finally {
        this._server?._maybeClosed();
      }
    }
  }

  /**
   * A client that could not connect throws where nobody listens, as Node does. What an established connection's peer or
   * network does wrong never ends a program: who does not listen to `error` finds it in `closeInfo`.
   */
  _failed(error, wasConnecting) {
    if (wasConnecting && this._server === null) return void this.emit('error', error);
    this._emitError(error);
  }

  _emitError(error) {
    try {
      this._handlers?.error?.(this, error);
    } finally {
      if (this.listenerCount('error') !== 0) this.emit('error', error);
    }
  }
}

mixIn(WebSocket.prototype);
for (const [name, value] of Object.entries({ ...pausing, ...reconnecting, ...topics })) {
  Object.defineProperty(WebSocket.prototype, name, { value, writable: true, configurable: true });
}
for (const [value, name] of NAMES.entries()) {
  Object.defineProperty(WebSocket, name, { value, enumerable: true });
  Object.defineProperty(WebSocket.prototype, name, { value, enumerable: true });
}

module.exports = { OPEN, WebSocket };
