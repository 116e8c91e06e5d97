'use strict';
// Errors: the engine's, with the codes that Node and ws have for them, and those of arguments.

const { getSystemErrorName } = require('node:util');

/** An error with a code. */
function coded(Kind, code, message, more) {
  return Object.assign(new Kind(message), { code }, more);
}

/** An error that a call of the engine threw, as Node would have it. */
function translate(error) {
  const system = /^SYSTEM (\d+)$/.exec(error.code);
  if (!system) return error.code === 'ERR_INVALID_ARG_VALUE' ? coded(TypeError, error.code, error.message) : coded(Error, error.code, error.message);
  return withNumber(new Error(error.message), Number(system[1]));
}

function withNumber(error, number) {
  if (number === 0) return error;
  error.errno = -number;
  error.code = getSystemErrorName(-number);
  const tried = /cannot (listen|bind|connect|accept)/.exec(error.message);
  if (tried) error.syscall = tried[1] === 'bind' ? 'listen' : tried[1];
  return error;
}

// What ws calls the ways to break the protocol, and Node what is wrong with certificates, by what the engine says of them.
const VIOLATIONS = [
  [/^reserved bits 0x40/, 'WS_ERR_UNEXPECTED_RSV_1'],
  [/^reserved bits/, 'WS_ERR_UNEXPECTED_RSV_2_3'],
  [/reserved opcode|continues no message|begins inside a fragmented one/, 'WS_ERR_INVALID_OPCODE'],
  [/control frame is fragmented/, 'WS_ERR_EXPECTED_FIN'],
  [/is not masked/, 'WS_ERR_EXPECTED_MASK'],
  [/from a server is masked/, 'WS_ERR_UNEXPECTED_MASK'],
  [/control frame has more than|payload of one byte/, 'WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH'],
  [/Close has the code/, 'WS_ERR_INVALID_CLOSE_CODE'],
  [/not UTF-8/, 'WS_ERR_INVALID_UTF8'],
  [/64-bit length/, 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH'],
  [/(exceeds|more than) max_message/, 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH'],
  [/DEFLATE data/, 'Z_DATA_ERROR'],
  [/max_fragments/, 'WS_ERR_TOO_MANY_BUFFERED_PARTS'],
  [/backlog_limit/, 'WSX_ERR_BACKLOG_FULL'],
  [/^TLS: the server's certificate is from an unknown issuer/, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
  [/^TLS: the server's certificate not valid for name/, 'ERR_TLS_CERT_ALTNAME_INVALID'],
  [/^TLS: the server's certificate expired/, 'CERT_HAS_EXPIRED'],
  [/^TLS: the server's certificate not valid yet/, 'CERT_NOT_YET_VALID'],
];

const STAGES = ['resolve', 'connect', 'tls', 'http', 'websocket', 'proxy'];
const KINDS = [null, 'protocol', 'refused', 'limit', 'timeout', 'transport', 'shutdown', 'callback'];
const CODES = { protocol: 'WSX_ERR_PROTOCOL', refused: 'WSX_ERR_UNEXPECTED_RESPONSE', limit: 'WSX_ERR_LIMIT', timeout: 'ETIMEDOUT',
  transport: 'WSX_ERR_TRANSPORT', shutdown: 'WSX_ERR_SHUTDOWN', callback: 'WSX_ERR_CALLBACK' };
// Of stages that have other peers than a server.
const CODES_OF = {
  tls: { ...CODES, protocol: 'WSX_ERR_TLS', refused: 'WSX_ERR_TLS' },
  proxy: { ...CODES, protocol: 'WSX_ERR_PROXY', refused: 'WSX_ERR_PROXY' },
};

/** The Error of a failed connection. */
function failureOf(text, kind, stage, httpStatus, systemNumber, limit) {
  const error = new Error(text);
  error.code = VIOLATIONS.find(([words]) => words.test(text))?.[1] ?? (CODES_OF[stage] ?? CODES)[kind] ?? 'WSX_ERR_ENGINE';
  if (stage === 'resolve' && kind === 'transport') error.code = 'ENOTFOUND';
  error.kind = kind;
  error.stage = stage;
  if (limit !== null) error.limit = limit;
  if (httpStatus !== 0) error.statusCode = httpStatus;
  if (stage === 'connect') error.syscall = 'connect';
  return systemNumber === 0 ? error : Object.assign(withNumber(error, systemNumber));
}

const FAILURE = 30;                 // bytes before the name of a failure's limit and its text
const UNITS = [null, 'bytes', 'count', 'milliseconds'];

/** A failure at this place: how many bytes it has, and its Error or null. See src/handler.rs for the layout. */
function failureAt(bytes, at) {
  const kind = KINDS[bytes[at + 1]], text = at + FAILURE + bytes[at + 13], end = text + bytes.readUInt32LE(at + 8);
  const error = kind
    ? failureOf(bytes.utf8Slice(text, end), kind, STAGES[bytes[at]], bytes.readUInt16LE(at + 2), bytes.readInt32LE(at + 4), limitAt(bytes, at + 12))
    : null;
  return { length: end - at, error };
}

/** The limit that struck, or null. */
function limitAt(bytes, at) {
  const unit = UNITS[bytes[at]];
  if (!unit) return null;
  const reached = bytes.readDoubleLE(at + 10);
  // An option has its name of JavaScript here.
  const option = bytes.latin1Slice(at + 18, at + 18 + bytes[at + 1]).replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
  return { option, unit, value: bytes.readDoubleLE(at + 2), reached: Number.isNaN(reached) ? null : reached };
}

/** What belongs to a listener. */
function listenerError(bytes) {
  const { error } = failureAt(bytes, 0);
  if (error.errno === undefined) error.code = 'WSX_ERR_LISTENER';
  return error;
}

/** What a Close told: `flags` and payload of the event. See `end` in src/handler.rs for the layout. */
function closeInfo(flags, bytes) {
  const { length, error } = failureAt(bytes, 21);
  const text = 21 + length + bytes[20];
  const reason = bytes.subarray(21 + length, text);
  const info = {
    code: flags >>> 16, reason: reason.toString(), wasClean: (flags & 0x200) !== 0, by: flags & 0x100 ? 'peer' : 'us', error,
    undeliveredMessages: bytes.readDoubleLE(4), lostMessages: bytes.readUInt32LE(0), unsentBytes: bytes.readDoubleLE(12),
    text: bytes.utf8Slice(text),
  };
  return { info, reason };
}

const GIVE_UPS = ['finished', 'closeCode', 'httpStatus', 'socksRefusal', 'attempts', 'closed', 'shutdown'];

/** Why a client connects no more. See `gave_up` in src/handler.rs for the layout. */
function giveUpInfo(bytes) {
  return {
    kind: GIVE_UPS[bytes[0]], closeCode: bytes.readUInt16LE(1) || null, statusCode: bytes.readUInt16LE(3) || null,
    attempts: bytes.readUInt32LE(5), lostMessages: bytes.readUInt32LE(9), message: bytes.utf8Slice(13),
  };
}

/** The same of a connection that the engine never knew. */
function closeInfoOf(error) {
  const text = `closed by us with 1006 (no Close), not clean; ${error.message}`;
  return { code: 1006, reason: '', wasClean: false, by: 'us', error, undeliveredMessages: 0, lostMessages: 0, unsentBytes: 0, text };
}

module.exports = { closeInfo, closeInfoOf, coded, giveUpInfo, listenerError, translate };
