'use strict';
// Arguments of the calls that send, publish and close.

const { coded } = require('./errors.js');

const EMPTY = Buffer.alloc(0);

/** Data as a string or Uint8Array. */
function sendable(data) {
  if (typeof data === 'string' || data instanceof Uint8Array) return data;
  if (data === undefined || data === null) return EMPTY;
  if (typeof data === 'number') return data.toString();
  if (data instanceof ArrayBuffer || data instanceof SharedArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (Array.isArray(data)) return Buffer.from(data);
  throw coded(TypeError, 'ERR_INVALID_ARG_TYPE',
    'The data must be a string, a number, an array of bytes, an ArrayBuffer or a view of one (Blob: await blob.arrayBuffer())');
}

/** Whether data goes out as text: what `binary` says, else strings do. */
function textual(data, options) {
  return options?.binary === undefined ? typeof data === 'string' : !options.binary;
}

/** The same for a message to many, which is whole. */
function wholeTextual(data, options) {
  if (options?.fin === false) throw coded(TypeError, 'WSX_ERR_UNSUPPORTED', 'A message to many is sent whole: the option "fin" cannot be false');
  return textual(data, options);
}

function isCloseCode(code) {
  return (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code <= 4999);
}

/** A topic is a string. */
function topicOf(topic) {
  if (typeof topic === 'string') return topic;
  throw coded(TypeError, 'ERR_INVALID_ARG_TYPE', `A topic must be a string. Received ${typeof topic}`);
}

module.exports = { isCloseCode, sendable, textual, topicOf, wholeTextual };
