'use strict';
// What a client connects to: its URL and subprotocols, checked in the words of ws.

const { coded } = require('./errors.js');

/** The URL of a client: a URL object, or the text of a Unix socket's. */
function urlOf(address) {
  if (typeof address === 'string' && address.startsWith('ws+unix:')) return address;
  let url;
  try {
    url = new URL(address);
  } catch {
    throw coded(SyntaxError, 'ERR_INVALID_URL', `Invalid URL: ${String(address).replace(/(:\/\/|^).*@/, '$1***@')}`);
  }
  if (url.protocol === 'http:') url.protocol = 'ws:';
  else if (url.protocol === 'https:') url.protocol = 'wss:';
  if (url.protocol === 'ws+unix:') return url.href;
  if (url.protocol !== 'ws:' && url.protocol !== 'wss:') {
    throw coded(SyntaxError, 'ERR_INVALID_URL', 'The URL\'s protocol must be one of "ws:", "wss:", "http:", "https:", or "ws+unix:"');
  }
  if (url.hash) throw coded(SyntaxError, 'ERR_INVALID_URL', 'The URL contains a fragment identifier');
  return url;
}

/** What the engine connects to. */
function targetOf(url) {
  return typeof url === 'string' ? url : url.href;
}

function subprotocolsOf(protocols) {
  const list = protocols === undefined || protocols === null ? [] : Array.isArray(protocols) ? protocols : [protocols];
  if (list.some((name) => typeof name !== 'string' || !/^[!#$%&'*+\-.^_`|~\dA-Za-z]+$/.test(name)) || new Set(list).size !== list.length) {
    throw coded(SyntaxError, 'ERR_INVALID_ARG_VALUE', 'An invalid or duplicated subprotocol was specified');
  }
  return list;
}

module.exports = { subprotocolsOf, targetOf, urlOf };
