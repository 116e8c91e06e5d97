'use strict';
// A listener and its connections.

const { EventEmitter } = require('node:events');
const { STATUS_CODES } = require('node:http');
const { sendable, wholeTextual, topicOf } = require('./arguments.js');
const { NOBODY, attempt, border, broadcast, bytesOf, hold, publish, release, servers, sockets } = require('./border.js');
const { coded, listenerError } = require('./errors.js');
const { engineOptions, headerList, highWater } = require('./options.js');
const { Request } = require('./request.js');
const { statsOf } = require('./statistics.js');
const { isSecure, serverTls } = require('./tls.js');
const { OPEN, WebSocket } = require('./websocket.js');

const GOING_AWAY = 1001;
const NO_BODY = Buffer.alloc(0);
const HANDLERS = ['open', 'message', 'fragment', 'ping', 'pong', 'drain', 'error', 'close'];

/** An answer that opens the WebSocket. */
function accept(subprotocol, headers) {
  return { status: 101, subprotocol: subprotocol || undefined, headers, contentType: '', body: NO_BODY };
}

/** An answer of plain HTTP. */
function answer(status, headers, body) {
  let contentType = typeof body === 'string' || body === undefined ? 'text/plain; charset=utf-8' : 'application/octet-stream';
  const list = headerList(headers), rest = [];
  for (let i = 0; i < list.length; i += 2) {
    if (list[i].toLowerCase() === 'content-type') contentType = list[i + 1];
    else rest.push(list[i], list[i + 1]);
  }
  return { status, subprotocol: undefined, headers: rest, contentType, body: bytesOf(sendable(body ?? `${STATUS_CODES[status] ?? status}\n`)) };
}

/** What answers a request later. */
const LATER = { status: 0, subprotocol: undefined, headers: [], contentType: '', body: NO_BODY };

/** Goes on with what a hook has answered: at once, or when its promise is kept. */
function when(value, next) {
  return typeof value?.then === 'function' ? value.then(next) : next(value);
}

/** `listening`, `connection`, `headers`, `error` and `close` are its events. */
class WebSocketServer extends EventEmitter {
  /** With `within` it is a route: a path of another server. */
  constructor(options, callback, within = null) {
    super();
    const given = { ...options };
    if (!within && given.port === undefined && given.socketPath === undefined && !given.server && !given.noServer) {
      throw coded(TypeError, 'ERR_INVALID_ARG_VALUE', 'One of the options "port" and "socketPath" must be given');
    }
    const native = engineOptions(given);
    if (given.path !== undefined && given.path !== null) native.path = String(given.path);
    if (isSecure(given)) native.tls = serverTls(given);
    for (const name of ['verifyClient', 'handleProtocols', 'handleRequest']) {
      if (given[name] && typeof given[name] !== 'function') throw coded(TypeError, 'ERR_INVALID_ARG_TYPE', `The option "${name}" must be a function`);
    }
    this.options = given;
    this.path = within ? within.path : given.path;
    this._within = within;
    this._routes = new Set();
    this._secured = given;             // the options that TLS was begun with last
    this.clients = given.clientTracking === false ? undefined : new Set();
    this._all = this.clients ?? new Set();
    this._handlers = handlersOf(given.handlers);
    this._policy = native.backlogPolicy;
    this._high = highWater(native);
    this._listener = NOBODY;
    this._state = 'listening';
    this._keeps = false;
    this._asked = null;                // the request that was shown to the program last
    this._deferred = new Map();        // by the numbers of their connections: those that wait for an answer
    if (callback !== undefined) this.once('listening', callback);
    this._listen(given, native);
  }

  _listen(given, native) {
    try {
      this._listener = this._bind(given, native);
    } catch (error) {
      if (this._within || error instanceof TypeError || error instanceof RangeError) throw error;
      this._state = 'failed';
      if (error.syscall === 'listen') Object.assign(error, { address: given.host ?? given.socketPath ?? '::', port: given.port });
      process.nextTick(() => this.emit('error', error));
      return;
    }
    servers[this._listener] = this;
    if (!this._within) this.ref();     // a route's server does so
    if (given.verifyClient || given.handleProtocols || given.handleRequest) border().hook(this._listener, true);
    this.on('newListener', (name) => {
      if (name === 'headers' && this._listener !== NOBODY) border().hook(this._listener, true);
    });
    process.nextTick(() => {
      if (this._state === 'listening') this.emit('listening');
    });
  }

  _bind({ host, port, socketPath }, native) {
    if (this._within) return attempt('route', this._within.server._listener, this._within.path, native);
    if (socketPath !== undefined) return attempt('listen', `unix:${socketPath}`, native);
    if (!Number.isInteger(port) || port < 0 || port > 65535) {
      throw coded(RangeError, 'ERR_SOCKET_BAD_PORT', `The option "port" must be an integer from 0 to 65535. Received ${port}`);
    }
    if (host !== undefined && host !== null) return attempt('listen', host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`, native);
    try {
      return attempt('listen', `[::]:${port}`, native);
    } catch (error) {
      // A machine without IPv6.
      if (error.code !== 'EAFNOSUPPORT' && error.code !== 'EADDRNOTAVAIL') throw error;
      return attempt('listen', `0.0.0.0:${port}`, native);
    }
  }

  /**
   * Serves a path with options, handlers and events of its own: `/chat`, or `/rooms/*` for everything below. What no route
   * leads to is this server's.
   */
  route(path, options) {
    if (this._state !== 'listening') throw coded(Error, 'ERR_SERVER_NOT_RUNNING', 'The server is not running');
    const route = new WebSocketServer(options, undefined, { server: this, path: String(path) });
    this._routes.add(route);
    return route;
  }

  /** Where it listens: address, family and port, or a path; null where it does not. */
  address() {
    if (this._listener === NOBODY || this._state !== 'listening') return null;
    const [address, port] = attempt('address', this._listener);
    if (port === undefined) return address;
    return { address, family: address.includes(':') ? 'IPv6' : 'IPv4', port: Number(port) };
  }

  /**
   * Begins TLS anew for connections to come: with a renewed certificate, say. As in Node, of `cert`, `key` and `ca` what is
   * not given is gone; the other options stay as they were.
   */
  setSecureContext(options) {
    const given = { ...this._secured, cert: undefined, key: undefined, ca: undefined, ...options };
    attempt('reloadTls', this._listener, serverTls(given));
    this._secured = given;
  }

  // --- Sending to many

  /** Sends a message to every open connection, encoded once. */
  broadcast(data, options) {
    if (this._listener === NOBODY) return;
    data = sendable(data);
    const except = options?.except;
    broadcast(this._listener, data, wholeTextual(data, options), except ? except._index : NOBODY);
  }

  /** Sends a message to every subscriber of a topic, encoded once. Topics belong to the thread, not to a server. */
  publish(topic, data, options) {
    data = sendable(data);
    const except = options?.except;
    publish(topicOf(topic), data, wholeTextual(data, options), except ? except._index : NOBODY);
  }

  /** How many connections subscribe to a topic. */
  subscriberCount(topic) {
    return attempt('subscriberCount', topicOf(topic));
  }

  /** What was counted of this server's connections, until it is closed. */
  stats() {
    if (this._listener === NOBODY) throw coded(Error, 'WSX_ERR_CLOSED', 'The server is closed');
    return statsOf(this._listener);
  }

  // --- Ending

  /**
   * Accepts nobody any more; `close` comes when the last connection has ended. With options the connections are closed
   * as well, and cut after `timeout` milliseconds.
   */
  close(options, callback) {
    if (typeof options === 'function') [options, callback] = [undefined, options];
    if (callback !== undefined) {
      if (this._state === 'closed') process.nextTick(callback, coded(Error, 'ERR_SERVER_NOT_RUNNING', 'The server is not running'));
      else this.once('close', () => callback());
    }
    for (const route of this._routes) route.close(options);
    if (options) this._closeAll(options);
    if (this._state !== 'listening' && this._state !== 'failed') return;
    this._state = 'closing';
    for (const request of this._deferred.values()) {
      request._leave();
      this._respond(request, null);
    }
    // The listener's number goes on meaning its connections, so a broadcast still reaches them.
    if (this._listener !== NOBODY) attempt('closeListener', this._listener);
    this._letGo();
    process.nextTick(() => this._maybeClosed());
  }

  _closeAll({ code = GOING_AWAY, reason = '', timeout }) {
    for (const socket of this._all) socket.close(code, reason);
    if (timeout === undefined) return;
    const cut = setTimeout(() => {
      for (const socket of this._all) socket.terminate();
    }, timeout);
    this.once('close', () => clearTimeout(cut));
  }

  _maybeClosed() {
    if (this._state !== 'closing' || this._all.size !== 0 || this._routes.size !== 0) return;
    this._state = 'closed';
    if (this._listener !== NOBODY) {
      servers[this._listener] = undefined;
      border().forgetListener(this._listener);
    }
    this._listener = NOBODY;
    this.emit('close');
    this._within?.server._routeClosed(this);
  }

  _routeClosed(route) {
    this._routes.delete(route);
    this._maybeClosed();
  }

  // --- The process

  /** Keeps the process alive while it listens: the default. */
  ref() {
    if (!this._keeps && this._state === 'listening') {
      this._keeps = true;
      hold();
    }
    return this;
  }

  /** Lets the process end although it listens. */
  unref() {
    this._letGo();
    return this;
  }

  _letGo() {
    if (this._keeps) {
      this._keeps = false;
      release();
    }
  }

  // --- What the engine tells

  /** A request that the program wants to see: what to answer. */
  _request(lines) {
    const request = this._asked = new Request(lines);
    const decided = this._decide(request);
    if (typeof decided?.then !== 'function') return decided;
    this._deferred.set(request._number, request);
    Promise.resolve(decided).then((decision) => this._respond(request, decision), (error) => {
      this._respond(request, answer(500, undefined, 'internal server error\n'));
      throw error;                     // unhandled, as what a listener throws is uncaught
    });
    return LATER;
  }

  /** Asks the hooks: the answer, or a promise of it. */
  _decide(request) {
    const { handleRequest, verifyClient } = this.options;
    return when(handleRequest && handleRequest.call(this, request), (page) => {
      if (typeof page === 'number') return answer(page);
      if (page) return page === true ? this._accept(request) : answer(page.status ?? 200, page.headers, page.body);
      if (!request.isUpgrade) return accept(undefined, []);        // the engine says what it serves
      return when(verifyClient && this._verify(request, verifyClient), (refusal) => refusal || this._accept(request));
    });
  }

  /** Asks verifyClient: the answer where it refuses, or a promise. */
  _verify(request, verifyClient) {
    const info = { origin: request.headers.origin, secure: request.isSecure, req: request };
    if (verifyClient.length < 2) return when(verifyClient.call(this, info), (verified) => (verified ? null : answer(401)));
    let settled = false, refusal = null, tell = null;
    verifyClient.call(this, info, (verified, status = 401, message = undefined, headers = undefined) => {
      if (settled) return;
      settled = true;
      refusal = verified ? null : answer(status, headers, message);
      tell?.(refusal);
    });
    return settled ? refusal : new Promise((resolve) => { tell = resolve; });
  }

  _accept(request) {
    const { handleProtocols, subprotocols } = this.options;
    const offered = new Set((request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim()).filter(Boolean));
    const chooses = handleProtocols && offered.size !== 0;
    return when(chooses ? handleProtocols.call(this, offered, request) : undefined, (chosen) => {
      if (!handleProtocols && subprotocols === undefined) [chosen] = offered;
      const lines = [];
      if (this.listenerCount('headers') !== 0) this.emit('headers', lines, request);
      const headers = lines.flatMap((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
      });
      return accept(chosen, headers);
    });
  }

  /** Answers a request that was deferred, if anybody still waits for it. */
  _respond(request, decision) {
    if (!this._deferred.has(request._number)) return;
    if (this._state !== 'listening') decision = answer(503, undefined, 'the server is closed\n');
    try {
      attempt('respond', request._number, decision);
    } catch (error) {
      if (error.code === 'WSX_ERR_CLOSED' || error.code === 'WSX_ERR_WRONG_KIND') return;
      if (this.listenerCount('error') !== 0) this.emit('error', error);
      attempt('respond', request._number, answer(500, undefined, 'internal server error\n'));
    }
  }

  /** A request that was deferred is answered now, or never. */
  _deferralEnded(number, isAnswered) {
    const request = this._deferred.get(number);
    this._deferred.delete(number);
    if (isAnswered) this._asked = request;
    else request?._leave();
  }

  /** A connection is open. */
  _open(index, lines, wasAsked) {
    const request = wasAsked && this._asked ? this._asked : new Request(lines);
    this._asked = null;
    const socket = sockets[index] = new WebSocket(null);
    socket._index = index;
    socket._state = OPEN;
    socket._agreed(...lines.split('\n', 2));
    socket._server = this;
    socket._handlers = this._handlers;
    socket._policy = this._policy;
    socket._isCareful = this._policy === 'refuse';
    socket._high = this._high;
    socket.ref();
    this._all.add(socket);
    try {
      this._handlers?.open?.(socket, request);
    } finally {
      this.emit('connection', socket, request);
    }
  }

  _left(socket) {
    this._all.delete(socket);
  }

  /** Something failed that belongs to no connection: accepting, or an answer that cannot be sent. */
  _failed(failure) {
    if (this.listenerCount('error') !== 0) this.emit('error', listenerError(failure));
  }
}

/** Handlers given once per server: the functions of an object, each called with the WebSocket first. */
function handlersOf(given) {
  if (given === undefined || given === null) return null;
  const handlers = {};
  for (const name of HANDLERS) {
    if (given[name] === undefined) continue;
    if (typeof given[name] !== 'function') throw coded(TypeError, 'ERR_INVALID_ARG_TYPE', `The handler "${name}" must be a function`);
    handlers[name] = given[name].bind(given);
  }
  return handlers;
}

module.exports = { WebSocketServer };
