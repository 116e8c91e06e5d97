// The actor of the Node door: does what the lines on standard input say, and tells every event as a line on standard
// output. The protocol is in README.md.
//
// The door is in the manner of ws, where a program hears of some things in other ways than elsewhere: each translation
// says so. WSX_NODE names another package to test than the one beside this.

import diagnostics from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';

const { SharedMessage, WebSocket, WebSocketServer, stats, metrics, METRICS_TYPE } = await import(process.env.WSX_NODE ?? new URL('../../bindings/node/index.mjs', import.meta.url));

// --- Values on lines: a payload or text is hex, `.` where it is empty, `-` where there is none

const say = (...words) => process.stdout.write(`${words.join(' ')}\n`);
const hexed = (value) => (value === undefined || value === null ? '-' : Buffer.from(value).toString('hex') || '.');
const bytesOf = (word) => Buffer.from(word === '.' || word === '-' ? '' : word, 'hex');
const textOf = (word) => bytesOf(word).toString();
const messageOf = (kind, word) => (kind === 'text' ? textOf(word) : bytesOf(word));
const pairOf = (word) => word.split(':').map(textOf);
const yes = (is) => (is ? 'yes' : 'no');
const tick = () => new Promise((resolve) => process.nextTick(resolve));

const CODES = {
  WSX_ERR_CLOSED: 'closed', WSX_ERR_WRONG_KIND: 'wrong_kind', WSX_ERR_BACKLOG_FULL: 'backlog_full',
  WSX_ERR_UNSUPPORTED: 'unsupported', ERR_SERVER_NOT_RUNNING: 'closed', ERR_INVALID_ARG_VALUE: 'invalid',
  ERR_INVALID_URL: 'invalid', ERR_OUT_OF_RANGE: 'invalid', ERR_SOCKET_BAD_PORT: 'invalid', ERR_INVALID_ARG_TYPE: 'invalid',
};

/** The word for an error of a call. ws has one error for what is not open yet and not open any more. */
function codeOf(error) {
  if (error.code === 'WSX_ERR_NOT_OPEN') return error.message.includes('readyState 0') ? 'not_open' : 'closed';
  return CODES[error.code] ?? (error.errno === undefined ? `unknown:${error.code ?? error.name}` : 'system');
}

const refusal = (error) => ['error', codeOf(error), `os=${-(error.errno ?? 0)}`, `text=${hexed(error.message)}`];

function failureFields(error, key) {
  if (!error) return `stage=none kind=none os_error=0 http_status=0 limit=- ${key}=-`;
  // Options have the names of JavaScript here.
  const { option, unit, value, reached } = error.limit ?? {};
  const name = option?.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const limit = option ? `${name}:${unit === 'milliseconds' ? 'ms' : unit}:${value}:${reached ?? 0}` : '-';
  return `stage=${error.stage} kind=${error.kind} os_error=${-(error.errno ?? 0)} http_status=${error.statusCode ?? 0} limit=${limit} ${key}=${hexed(error.message)}`;
}

// --- Numbers as the lines spell them, 1, 2, … in the order the program hears of them

const sockets = [], peers = [], servers = [], clients = [], shared = {};

function number(socket) {
  // A client that connects again is one object for all its connections: its number is the last one.
  const at = sockets.lastIndexOf(socket);
  return at === -1 ? sockets.push(socket) : at + 1;
}

const socketAt = (word) => sockets[Number(word) - 1];
const openOf = (list) => list.flatMap((server) => [...server.clients]).filter((socket) => socket.readyState === WebSocket.OPEN);
const everybody = (word) => (word === '0' ? servers : [servers[Number(word) - 1]]);
const exceptOf = (word) => (word === '0' ? undefined : { except: socketAt(word) });

/** Once asked to shut down, tells when all is over. */
let stopping = false;
function maybeStopped() {
  if (!stopping || sockets.some((socket) => !socket.request && socket.readyState !== WebSocket.CLOSED) || servers.some((server) => !server.hasClosed)) return;
  stopping = false;
  say('stopped', 0);
}

/** Ends in order: a server closes its connections with the code and cuts them in time, a client closes by itself. */
function shutdown(grace) {
  stopping = true;
  for (const server of servers) server.close({ code: 1001, reason: 'shutting down', timeout: grace });
  const clients = sockets.filter((socket) => socket.url);
  for (const socket of clients) socket.close(1001, 'shutting down');
  if (clients.length !== 0) setTimeout(() => clients.forEach((socket) => socket.terminate()), grace).unref();
  maybeStopped();
}

// --- What the program does in its callbacks

/** As most programs send: without a callback, while the connection is open. */
const reply = (socket, data, options, tell) => socket.send(data, options, ...(socket.readyState === WebSocket.OPEN ? [] : [tell]));

const ACTS = {
  echo: (socket, { data, isText, tell }) => reply(socket, data, { binary: !isText }, tell),
  broadcast: (socket, { data, isText }) => servers.forEach((server) => server.broadcast(data, { binary: !isText, except: socket })),
  publish: (socket, { data, isText }) => socket.publish('room', data, { binary: !isText }),
  greet: (socket, { tell }) => reply(socket, 'welcome', {}, tell),
  subscribe: (socket) => socket.subscribe('room'),
  close: (socket) => socket.close(4000, 'done'),
  terminate: (socket) => socket.terminate(),
  pause: (socket) => socket.pause(),
  shutdown: () => shutdown(5000),
};

/** Does what the options say for this event, verb by verb, and tells what was refused: by callback, as in ws. */
function act(verbs, socket, message) {
  for (const verb of (verbs ?? '').split(',').filter(Boolean)) {
    const tell = (error) => {
      if (error) say('refused', number(socket), `verb=${verb}`, `code=${codeOf(error)}`, `text=${hexed(error.message)}`);
    };
    try {
      ACTS[verb](socket, { ...message, tell });
    } catch (error) {
      tell(error);
    }
  }
}

/** Tells the events of a connection. */
function listen(socket, words) {
  const about = (word, ...fields) => say(word, number(socket), ...fields);
  socket.on('message', (data, isBinary) => {
    about('message', `kind=${isBinary ? 'binary' : 'text'}`, `payload=${hexed(data)}`);
    act(words.on_message, socket, { data, isText: !isBinary });
  });
  socket.on('fragment', (data, { isBinary, isFirst, isLast }) => {
    about('fragment', `kind=${isBinary ? 'binary' : 'text'}`, `first=${yes(isFirst)}`, `last=${yes(isLast)}`, `payload=${hexed(data)}`);
  });
  socket.on('ping', (data) => about('ping', `payload=${hexed(data)}`));
  socket.on('pong', (data) => about('pong', `payload=${hexed(data)}`));
  socket.on('drain', () => about('drain'));
  socket.on('error', (error) => {
    if (error.stage) about('error', failureFields(error, 'text'));
    else socket.refusal = error;        // of the call that connects, or of close() before there was a connection
  });
  socket.on('close', (code, reason, info) => {
    if (!info.error?.stage && socket.refusal && !socket.wasAnswered) return;
    if (!socket.gaveUp || socket.gaveUp.closeCode !== null) tellClose(socket, info);
    if (socket.gaveUp) tellGiveUp(socket);
    maybeStopped();
  });
}

function tellClose(socket, info) {
  say('close', number(socket), `code=${info.code}`, `clean=${yes(info.wasClean)}`, `by=${info.by}`, `lost=${info.lostMessages}`,
    `unsent=${info.unsentBytes}`, `undelivered=${info.undeliveredMessages}`, `reason=${hexed(info.reason)}`,
    failureFields(info.error?.stage && info.error, 'cause'), `text=${hexed(info.text)}`);
}

/** How each connection of a client that connects again has ended is told here with what comes next, as of the object. */
function listenAgain(socket) {
  socket.on('reconnecting', (attempt, delay, cause) => {
    if (cause.error) say('error', number(socket), failureFields(cause.error, 'text'));
    tellClose(socket, cause);
    say('reconnecting', clients.indexOf(socket) + 1, `attempt=${attempt}`, `delay=${Math.round(delay)}`, `code=${cause.code}`,
      failureFields(cause.error, 'cause'));
    sockets.push(socket);
  });
  socket.on('giveup', (info) => (socket.gaveUp = info));
}

function tellGiveUp(socket) {
  const { kind, closeCode, statusCode, attempts, lostMessages, message } = socket.gaveUp;
  say('gave_up', clients.indexOf(socket) + 1, `kind=${kind.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`,
    `close_code=${closeCode ?? 0}`, `http_status=${statusCode ?? 0}`, `attempts=${attempts}`, `lost=${lostMessages}`,
    `text=${hexed(message)}`);
}

function announce(socket, role, request, headers, words) {
  const show = words.show && textOf(words.show).toLowerCase();
  const [path, query] = request ? request.url.split(/\?(.*)/s) : [];
  say('open', number(socket), `role=${role}`, `path=${hexed(path)}`, `query=${hexed(query)}`,
    `subprotocol=${hexed(socket.protocol || null)}`, ...(show ? [`header=${hexed(headers[show])}`] : []));
  act(words.on_open, socket, { data: '', isText: true });
}

// --- Options: KEY=VALUE

const NUMBERS = ['max_message', 'max_fragments', 'max_head', 'max_headers', 'handshake_timeout', 'ping_interval', 'pong_timeout',
  'close_timeout', 'progress_timeout', 'backlog_limit', 'max_topics', 'max_topic_name', 'max_redirects', 'connect_timeout', 'max_connections',
  'max_connections_per_address', 'listen_backlog', 'keep_alive_idle', 'keep_alive_interval', 'keep_alive_count'];
const DEFLATE_NUMBERS = ['threshold', 'server_max_window_bits', 'client_max_window_bits'];
const camel = (key) => key.replace(/_(.)/g, (_, letter) => letter.toUpperCase());

/** What the program does in its callbacks, and the door's options. */
function split(list) {
  const words = {}, options = {};
  for (const [key, value] of list.map((word) => word.split(/=(.*)/s))) {
    if (NUMBERS.includes(key)) options[camel(key)] = Number(value);
    else if (['deliver_fragments', 'no_delay', 'reuse_port', 'proxy_from_environment'].includes(key)) options[camel(key)] = value === '1';
    else if (key === 'backlog_policy') options.backlogPolicy = value;
    else if (key === 'origins') options.origins = value === 'any' ? 'any' : 'same-host';
    else if (key === 'origin') (options.origins ??= []).push(textOf(value));
    else if (key === 'path' || key === 'proxy') options[key] = textOf(value);
    else if (key === 'subprotocol') (options.subprotocols ??= []).push(textOf(value));
    else if (key === 'header') (options.headers ??= []).push(pairOf(value));
    else if (key === 'reconnect') options.reconnect = {};
    else if (key.startsWith('reconnect_')) options.reconnect[camel(key.slice(10))] = Number(value);
    else if (key === 'compression') options.perMessageDeflate = {};
    else if (key.startsWith('compression_')) setCompression(options.perMessageDeflate, key.slice(12), value);
    else if (key.startsWith('tls_')) setTls(options, key.slice(4), value);
    else words[key] = value;
  }
  return [words, options];
}

function setCompression(options, key, value) {
  if (key === 'level') options.zlibDeflateOptions = { level: Number(value) };
  else options[camel(key)] = DEFLATE_NUMBERS.includes(key) ? Number(value) : value === '1';
}

/** Node is given texts, where elsewhere the engine reads files; and asks for certificates in the words of https. */
function setTls(options, key, value) {
  if (key === 'certificate') {
    const [chain, key] = pairOf(value);
    (options.cert ??= []).push(readFileSync(chain));
    (options.key ??= []).push(readFileSync(key));
  } else if (key === 'client_auth') {
    options.requestCert = value !== 'none';
    options.rejectUnauthorized = value === 'required';
  } else if (key === 'ca') options.ca = readFileSync(textOf(value));
  else if (key === 'server_name') options.servername = textOf(value);
  else if (key === 'alpn') (options.ALPNProtocols ??= []).push(textOf(value));
  else options.rejectUnauthorized = value !== '1';
}

/** `query` and `cookies` are parsed in the words of JavaScript. */
function parsed(words, { cookies, query }) {
  const joined = (pairs) => hexed([...pairs].map((pair) => pair.join('=')).join('|'));
  return [
    ...(words.show_cookie ? [`cookie=${hexed(cookies[textOf(words.show_cookie)])}`, `cookies=${joined(Object.entries(cookies))}`] : []),
    ...(words.show_parameter ? [`parameter=${hexed(query.get(textOf(words.show_parameter)))}`, `parameters=${joined(query)}`] : []),
  ];
}

function pageOf(words) {
  const headers = words.answer_header ? [pairOf(words.answer_header)] : [];
  if (words.content_type) headers.push(['Content-Type', textOf(words.content_type)]);
  return { status: Number(words.status), headers, body: textOf(words.body) };
}

/** A request that is answered later has its number before it has a WebSocket; the answer is a promise that is kept. */
function defer(request, words) {
  const waiting = { request };
  const at = number(waiting);
  if (words.tell_deferral) request.signal.addEventListener('abort', () => say('waited', at, 'answered=no'));
  return new Promise((resolve) => { waiting.respond = resolve; });
}

/** Of ws's hooks each has its part of an answer that accepts. */
function respond(waiting, kind, given) {
  if (waiting.respond === undefined) throw Object.assign(new Error('it was answered'), { code: 'WSX_ERR_WRONG_KIND' });
  waiting.given = given;
  waiting.respond(kind === 'accept' ? undefined : pageOf(given));
}

/** The hooks of ws, and handleRequest for what ws has none. */
function hooks(words, about) {
  const options = {};
  if (words.tell || words.request) {
    options.handleRequest = (request) => {
      if (words.tell) {
        const [path, query] = request.url.split(/\?(.*)/s);
        const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
        say('request', about, `method=${request.method}`, `upgrade=${yes(request.isUpgrade)}`, `path=${hexed(path)}`,
          `query=${hexed(query)}`, `offered=${offered}`, `secure=${yes(request.isSecure)}`, `server_name=${hexed(request.serverName)}`,
          `certificate=${hexed(request.peerCertificates[0])}`, ...parsed(words, request), ...(words.show ? [`header=${hexed(request.headers[textOf(words.show).toLowerCase()])}`] : []));
      }
      if (words.request === 'later') return defer(request, words);
      if (words.request === 'metrics') return request.isUpgrade ? undefined : { headers: { 'Content-Type': METRICS_TYPE }, body: metrics() };
      return words.request && pageOf(words);
    };
  }
  const accepted = (request) => (words.request === 'later' ? sockets.find((waiting) => waiting.request === request).given : words).accept;
  if (words.accept || words.request === 'later') options.handleProtocols = (_, request) => textOf(accepted(request) ?? '.') || false;
  return options;
}

// --- Commands

async function serve(address, ...list) {
  const [words, options] = split(list);
  const at = servers.length + 1, where = textOf(address);
  const [host, port] = where.split(':');
  const place = where.startsWith('unix:') ? { socketPath: port } : { host, port: /^\d+$/.test(port) ? Number(port) : port };
  const given = { ...options, ...hooks(words, at) };
  const server = words.within ? servers[Number(words.within) - 1].route(where, given) : new WebSocketServer({ ...place, ...given });
  const failed = await new Promise((resolve) => {
    server.once('listening', () => resolve(null));
    server.once('error', resolve);
  });
  if (failed) throw failed;
  servers.push(server);
  server.on('error', (error) => say('listener_error', at, failureFields(error, 'text')));
  server.on('close', () => {
    server.hasClosed = true;
    maybeStopped();
  });
  if (words.answer_header) server.on('headers', (lines) => lines.push(pairOf(words.answer_header).join(': ')));
  if (words.request === 'later') {
    server.on('headers', (lines, request) => {
      const { given } = sockets.find((waiting) => waiting.request === request);
      if (given.answer_header) lines.push(pairOf(given.answer_header).join(': '));
    });
  }
  server.on('connection', (socket, request) => {
    const waited = sockets.findIndex((waiting) => waiting.request === request);
    if (waited !== -1) sockets[waited] = socket;
    peers[number(socket) - 1] = request.socket;
    listen(socket, words);
    announce(socket, 'server', request, request.headers, words);
  });
  return [at, server.address().port ?? 0];
}

/** One object is the client, and its connections. */
async function persist(...words) {
  const [at] = await connect(...words);
  return [clients.length, at];
}

async function connect(url, ...list) {
  const [words, { subprotocols, ...options }] = split(list);
  const socket = new WebSocket(textOf(url), subprotocols ?? [], options);
  if (options.reconnect) {
    clients.push(socket);
    listenAgain(socket);
  }
  let headers = {};
  socket.on('upgrade', (response) => ({ headers } = response));
  socket.on('open', () => announce(socket, 'client', null, headers, words));
  listen(socket, words);
  await tick();                         // what the engine refuses at once is an error event here
  if (socket.refusal) throw socket.refusal;
  socket.wasAnswered = true;
  return [number(socket)];
}

/** What the callback of a call tells at once, if it tells an error. */
async function outcome(call) {
  let told = null;
  call((error) => (told = error));
  await tick();
  if (told) throw told;
}

/** Numbered messages of a size, until one is refused. */
async function flood(socket, size, total) {
  let refused = null;
  const hear = (error) => (refused ??= error ?? null);
  for (let taken = 0; taken < total; taken++) {
    const payload = Buffer.alloc(size);
    payload.writeUInt32BE(taken);
    try {
      // False says that much waits, or that it was refused: then the callback has more.
      if (!socket.send(payload, hear)) await tick();
    } catch (error) {
      refused = error;
    }
    if (refused) return [`taken=${taken}`, `refused=${codeOf(refused)}`, `text=${hexed(refused.message)}`];
  }
  return [`taken=${total}`, 'refused=none', 'text=-'];
}

const tellRecord = ({ level, topic, message }) => say('log', 0, `level=${level}`, `topic=${topic}`, `text=${hexed(message)}`);

/** Node's channels are two: failures, and everything else. */
function hear(level) {
  for (const name of ['wsx:error', 'wsx:connection']) diagnostics.unsubscribe(name, tellRecord);
  if (level !== 'off') diagnostics.subscribe('wsx:error', tellRecord);
  if (level === 'debug') diagnostics.subscribe('wsx:connection', tellRecord);
  stats();                              // subscribers are looked for with any call
}

/** Every figure that is not 0, by the names that it has elsewhere. */
function figuresOf(figures, prefix = '') {
  return Object.entries(figures).flatMap(([key, value]) => {
    const name = prefix ? `${prefix}_${key}` : key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    return typeof value === 'object' ? figuresOf(value, name) : value === 0 ? [] : [`${name}=${value}`];
  });
}

const COMMANDS = {
  send: (at, kind, word) => outcome((callback) => socketAt(at).send(messageOf(kind, word), callback)),
  shared(at, kind, word) {
    const key = `${kind} ${word}`;      // made once, and sent again and again
    shared[key] ??= new SharedMessage(messageOf(kind, word));
    return outcome((callback) => socketAt(at).sendShared(shared[key], callback));
  },
  fragment: (at, kind, word, end) => outcome((callback) => socketAt(at).send(bytesOf(word), { binary: kind === 'binary', fin: end === 'last' }, callback)),
  ping: (at, word) => outcome((callback) => socketAt(at).ping(bytesOf(word), undefined, callback)),
  pong: (at, word) => outcome((callback) => socketAt(at).pong(bytesOf(word), undefined, callback)),
  // A close without a code is one with undefined here; close() of a client that connects again ends the client.
  close(at, code, reason) {
    if (clients.includes(socketAt(at))) return void socketAt(at).reconnect(Number(code), textOf(reason));
    return void socketAt(at).close(code === '1005' ? undefined : Number(code), textOf(reason));
  },
  respond: (at, kind, ...list) => void respond(socketAt(at), kind, split(list)[0]),
  terminate: (at) => void socketAt(at).terminate(),
  flood: (at, size, total) => flood(socketAt(at), Number(size), Number(total)),
  broadcast: (at, kind, word, except) => void everybody(at).forEach((server) => server.broadcast(messageOf(kind, word), exceptOf(except))),
  publish: (topic, kind, word, except) => void servers[0].publish(textOf(topic), messageOf(kind, word), exceptOf(except)),
  subscribe: (at, topic) => void socketAt(at).subscribe(textOf(topic)),
  unsubscribe: (at, topic) => void socketAt(at).unsubscribe(textOf(topic)),
  subscribers: (topic) => [servers[0].subscriberCount(textOf(topic))],
  log: (level) => hear(level),
  statistics: (at) => figuresOf(at === '0' ? stats() : servers[Number(at) - 1].stats()),
  // `clients` has those that are closing as well, as in ws.
  count: (at) => [openOf(everybody(at)).length],
  connections: (at) => openOf(everybody(at)).map(number).sort((one, other) => one - other),
  pause: (at) => void socketAt(at).pause(),
  resume: (at) => void socketAt(at).resume(),
  state: (at) => [at === '0' ? 'closed' : ['connecting', 'open', 'closing', 'closed'][socketAt(at).readyState]],
  buffered: (at) => [socketAt(at).bufferedAmount],
  latency: (at) => [socketAt(at).latency === undefined ? 'none' : Math.round(socketAt(at).latency * 1000)],
  subprotocol: (at) => [hexed(socketAt(at).protocol || null)],
  extensions: (at) => [hexed(socketAt(at).extensions || null)],
  reload: (at, ...list) => void servers[Number(at) - 1].setSecureContext(split(list)[1]),
  peer(at) {
    const peer = peers[Number(at) - 1] ?? socketAt(at);
    return [hexed(peer.remoteAddress === undefined ? 'unix:' : `${peer.remoteAddress}:${peer.remotePort}`)];
  },
  listen: serve,
  route: serve,
  connect,
  persist,
  client_send: (at, kind, word) => outcome((callback) => clients[at - 1].send(messageOf(kind, word), callback)),
  client_close: (at, code, reason) => void clients[at - 1].close(Number(code), textOf(reason)),
  client_terminate: (at) => void clients[at - 1].terminate(),
  client_buffered: (at) => [clients[at - 1].bufferedAmount],
  client_connection: (at) => [clients[at - 1].readyState === WebSocket.OPEN ? number(clients[at - 1]) : 0],
  close_listener: (at) => outcome((callback) => servers[Number(at) - 1].close(callback)),
  shutdown: (grace) => void shutdown(Number(grace)),
};

async function perform(line) {
  const [command, ...words] = line.split(' ');
  try {
    say('ok', ...((await COMMANDS[command](...words)) ?? []));
  } catch (error) {
    say(...refusal(error));
  }
}

/** Nothing holds the process then: it ends by itself. */
function end() {
  for (const server of servers) server.close();
  for (const socket of sockets) socket.terminate?.();
}

if (process.argv[2] === 'hello') {
  const probe = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  probe.on('listening', () => probe.close());
  const { createRequire } = await import('node:module');
  const home = process.env.WSX_NODE ?? new URL('../../bindings/node/index.mjs', import.meta.url);
  say('node', createRequire(home)('./package.json').version);
} else {
  let rest = '', turn = Promise.resolve();
  process.stdin.setEncoding('latin1');
  process.stdin.on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    for (const line of lines) turn = turn.then(() => perform(line));
  });
  process.stdin.on('end', () => turn.then(end));
}
