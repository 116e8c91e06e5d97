'use strict';
// An HTTP request, in the words of Node's http.IncomingMessage, read from the lines that src/request.rs writes.

const SINGLE = new Set(['age', 'authorization', 'content-length', 'content-type', 'etag', 'expires', 'from', 'host',
  'if-modified-since', 'if-unmodified-since', 'last-modified', 'location', 'max-forwards', 'proxy-authorization', 'referer',
  'retry-after', 'server', 'user-agent']);

/** Headers by their names in lower case, joined as Node joins them. */
function headersOf(raw) {
  const headers = {};
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i].toLowerCase(), value = raw[i + 1];
    if (name === 'set-cookie') (headers[name] ??= []).push(value);
    else if (!Object.hasOwn(headers, name)) headers[name] = value;
    else if (!SINGLE.has(name)) headers[name] += (name === 'cookie' ? '; ' : ', ') + value;
  }
  return headers;
}

/** Address and port of `127.0.0.1:80`, `[::1]:80` or `unix:/path`. */
function peerOf(text) {
  const found = /^(?:\[(.*)\]|([^:]*)):(\d+)$/.exec(text);
  if (!found) return { remoteAddress: undefined, remotePort: undefined, remoteFamily: undefined, encrypted: false };
  const remoteAddress = found[1] ?? found[2];
  return { remoteAddress, remotePort: Number(found[3]), remoteFamily: found[1] === undefined ? 'IPv4' : 'IPv6', encrypted: false };
}

const FIRST_HEADER = 6;

class Request {
  #lines; #headers; #socket;

  constructor(text) {
    this.#lines = text.split('\n');
    this.httpVersion = '1.1';
  }

  /** Whether this is an opening handshake, rather than a plain request. */
  get isUpgrade() { return this.#lines[2] === '1'; }
  get method() { return this.#lines[3]; }
  get url() { return this.#lines[4]; }
  get path() { return this.url.split('?', 1)[0]; }
  get query() { return new URLSearchParams(this.url.slice(this.path.length)); }
  get rawHeaders() { return this.#lines.slice(FIRST_HEADER); }
  get headers() { return this.#headers ??= headersOf(this.rawHeaders); }
  get socket() { return this.#socket ??= peerOf(this.#lines[5]); }
  get connection() { return this.socket; }
}

module.exports = { Request, headersOf, peerOf };
