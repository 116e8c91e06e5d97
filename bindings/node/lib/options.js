'use strict';
// Options of servers and clients: checked, and in the words of the engine. Each has the engine's default; what a limit
// does when it is exceeded is told in index.d.ts.

const { constants: { Z_DEFAULT_COMPRESSION } } = require('node:zlib');
const { coded } = require('./errors.js');

const LARGEST = { 32: 0xffffffff, 53: Number.MAX_SAFE_INTEGER };

// Name, largest value. Timeouts are milliseconds; 0 means none where index.d.ts says so.
const NUMBERS = {
  maxMessage: LARGEST[53], maxFragments: LARGEST[32], maxHead: LARGEST[53], maxHeaders: 256, handshakeTimeout: LARGEST[53],
  pingInterval: LARGEST[53], pongTimeout: LARGEST[53], closeTimeout: LARGEST[53], progressTimeout: LARGEST[53],
  backlogLimit: LARGEST[53], maxTopics: LARGEST[53], maxTopicName: 255, maxConnections: LARGEST[53],
  maxConnectionsPerAddress: LARGEST[53], listenBacklog: LARGEST[32], keepAliveIdle: 32_767_000, keepAliveInterval: 32_767_000,
  keepAliveCount: 127, connectTimeout: LARGEST[53],
};
const SWITCHES = ['deliverFragments', 'noDelay', 'reusePort', 'proxyFromEnvironment'];
const POLICIES = ['close', 'drop', 'refuse', 'pause'];
// ws's names for options of ours.
const ALIASES = { maxPayload: 'maxMessage', backlog: 'listenBacklog', timeout: 'handshakeTimeout' };
const CIPHERS = 'TLS 1.2 and 1.3 are spoken, with the ciphers that are good today';
// Options of ws and of Node's tls that would change what a program can rely on, and are not there yet: what to do instead.
const MISSING = {
  server: 'give "port", for TLS with "cert" and "key"; "handleRequest" answers other requests',
  noServer: null, WebSocket: null, createConnection: null, generateMask: null, finishRequest: null,
  agent: 'what it would say are options here: "proxy", and of TLS "ca", "cert", "key", "servername", "rejectUnauthorized"',
  passphrase: 'decrypt the key first, by "openssl pkey"',
  pfx: 'give "cert" and "key", which "openssl pkcs12" makes of it',
  SNICallback: 'give arrays of "cert" and "key": the first that is valid for the name is shown, and "setSecureContext" replaces them',
  ALPNCallback: 'give "ALPNProtocols"',
  secureContext: 'give "cert", "key" and "ca"',
  checkServerIdentity: 'give "servername", the name that the certificate must have',
  crl: 'take who is revoked out of "ca"',
  minVersion: CIPHERS, maxVersion: CIPHERS, secureProtocol: CIPHERS, ciphers: CIPHERS, pskCallback: CIPHERS,
};

// ws's default where redirects are followed.
const MAX_REDIRECTS = 10;

// ws's names in perMessageDeflate: smallest and largest value.
const WINDOW = [9, 15];
const DEFLATE_NUMBERS = { threshold: [0, LARGEST[53]], serverMaxWindowBits: WINDOW, clientMaxWindowBits: WINDOW };
const DEFLATE_SWITCHES = ['serverNoContextTakeover', 'clientNoContextTakeover'];

const RECONNECT = {
  baseDelay: LARGEST[53], maxDelay: LARGEST[53], resetAfter: LARGEST[53], maxAttempts: LARGEST[32], offlineLimit: LARGEST[53],
};

function number(name, value, largest, smallest = 0) {
  if (typeof value !== 'number') {
    throw coded(TypeError, 'ERR_INVALID_ARG_TYPE', `The option "${name}" must be a number. Received ${typeof value}`);
  }
  if (!Number.isInteger(value) || value < smallest || value > largest) {
    throw coded(RangeError, 'ERR_OUT_OF_RANGE', `The option "${name}" must be an integer from ${smallest} to ${largest}. Received ${value}`);
  }
  return value;
}

function strings(name, value) {
  const list = typeof value === 'string' ? [value] : Array.isArray(value) ? value : null;
  if (!list || list.some((item) => typeof item !== 'string')) {
    throw coded(TypeError, 'ERR_INVALID_ARG_TYPE', `The option "${name}" must be a string or an array of strings`);
  }
  return list;
}

/** What `perMessageDeflate` asks for; undefined for no compression. */
function compression(given) {
  if (given === undefined || given === null || given === false) return undefined;
  if (given === true) return {};
  if (typeof given !== 'object') throw coded(TypeError, 'ERR_INVALID_ARG_TYPE', 'The option "perMessageDeflate" must be a boolean or an object');
  const options = {};
  for (const [name, [smallest, largest]] of Object.entries(DEFLATE_NUMBERS)) {
    // That of ws for "the client may be told": it may in any case.
    if (given[name] === undefined || (name === 'clientMaxWindowBits' && given[name] === true)) continue;
    options[name] = number(`perMessageDeflate.${name}`, given[name], largest, smallest);
  }
  for (const name of DEFLATE_SWITCHES) {
    if (given[name] !== undefined) options[name] = Boolean(given[name]);
  }
  const { zlibDeflateOptions, zlibInflateOptions } = given;
  const level = zlibDeflateOptions?.level;
  if (level !== undefined && level !== Z_DEFAULT_COMPRESSION) options.level = number('perMessageDeflate.zlibDeflateOptions.level', level, 9, 1);
  if (zlibDeflateOptions?.dictionary || zlibInflateOptions?.dictionary) {
    throw coded(TypeError, 'WSX_ERR_UNSUPPORTED', 'The option "perMessageDeflate" takes no dictionary: RFC 7692 has no way to agree on one');
  }
  return options;
}

/** What `reconnect` asks for; undefined for a connection that is made once. */
function reconnect(given) {
  if (given === undefined || given === null || given === false) return undefined;
  if (given === true) return {};
  if (typeof given !== 'object') throw coded(TypeError, 'ERR_INVALID_ARG_TYPE', 'The option "reconnect" must be a boolean or an object');
  const options = {};
  for (const [name, largest] of Object.entries(RECONNECT)) {
    if (given[name] !== undefined) options[name] = number(`reconnect.${name}`, given[name], largest);
  }
  return options;
}

/** Refuses what is not there. */
function refuse(given) {
  for (const [name, advice] of Object.entries(MISSING)) {
    if (given[name]) throw coded(TypeError, 'WSX_ERR_UNSUPPORTED', `The option "${name}" is not supported by libwsx yet${advice ? `: ${advice}` : ''}`);
  }
}

/** The engine's options of what a program gave. */
function engineOptions(given) {
  refuse(given);
  if (given.autoPong === false) throw coded(TypeError, 'WSX_ERR_UNSUPPORTED', 'The option "autoPong" cannot be switched off: the engine answers pings');
  const options = {};
  for (const [name, largest] of Object.entries(NUMBERS)) {
    if (given[name] !== undefined) options[name] = number(name, given[name], largest);
  }
  for (const [alias, name] of Object.entries(ALIASES)) {
    if (given[alias] !== undefined && options[name] === undefined) options[name] = number(alias, given[alias], NUMBERS[name]);
  }
  for (const name of SWITCHES) {
    if (given[name] !== undefined) options[name] = Boolean(given[name]);
  }
  if (given.backlogPolicy !== undefined) {
    if (!POLICIES.includes(given.backlogPolicy)) {
      throw coded(TypeError, 'ERR_INVALID_ARG_VALUE', `The option "backlogPolicy" must be one of ${POLICIES.join(', ')}. Received ${given.backlogPolicy}`);
    }
    options.backlogPolicy = given.backlogPolicy;
  }
  options.compression = compression(given.perMessageDeflate);
  if (given.subprotocols !== undefined) options.subprotocols = strings('subprotocols', given.subprotocols);
  if (given.origins !== undefined && given.origins !== 'same-host') options.origins = strings('origins', given.origins);
  return options;
}

/** What only a client has: its proxy, and how many redirects it follows, in the words of ws or in ours. */
function clientOptions(given) {
  const options = engineOptions(given);
  if (given.proxy !== undefined && given.proxy !== null) {
    if (typeof given.proxy !== 'string' && !(given.proxy instanceof URL)) {
      throw coded(TypeError, 'ERR_INVALID_ARG_TYPE', `The option "proxy" must be a string or a URL. Received ${typeof given.proxy}`);
    }
    options.proxy = String(given.proxy);
  }
  if (given.followRedirects === false) return options;
  if (given.maxRedirects !== undefined) options.maxRedirects = number('maxRedirects', given.maxRedirects, LARGEST[32]);
  else if (given.followRedirects) options.maxRedirects = MAX_REDIRECTS;
  return options;
}

/** Headers as name, value, name, value. */
function headerList(headers) {
  if (headers === undefined || headers === null) return [];
  const pairs = typeof headers[Symbol.iterator] === 'function' ? [...headers] : Object.entries(headers);
  return pairs.flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).flatMap((one) => [String(name), String(one)]));
}

/** The size of the backlog above which a program is told to wait. */
function highWater(options) {
  return (options.backlogLimit || 1024 * 1024) / 2;
}

module.exports = { clientOptions, engineOptions, headerList, highWater, reconnect, refuse, strings };
