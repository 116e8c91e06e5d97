'use strict';
// An HTTP request, in the words of Node's http.IncomingMessage, read from the lines that src/request.rs writes.

const { X509Certificate } = require('node:crypto');
const { load } = require('./native.js');

const { parseCookies } = load();

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

/** Cookies by their names; of several of one name the first. */
function cookiesOf(header) {
  const cookies = Object.create(null);        // a cookie may be called __proto__
  const pairs = parseCookies(Buffer.from(header, 'latin1'));
  for (let i = 0; i < pairs.length; i += 2) cookies[pairs[i]] ??= pairs[i + 1];
  return cookies;
}

/** Address and port of `127.0.0.1:80`, `[::1]:80` or `unix:/path`. */
function peerOf(text) {
  const found = /^(?:\[(.*)\]|([^:]*)):(\d+)$/.exec(text);
  if (!found) return { remoteAddress: undefined, remotePort: undefined, remoteFamily: undefined };
  const remoteAddress = found[1] ?? found[2];
  return { remoteAddress, remotePort: Number(found[3]), remoteFamily: found[1] === undefined ? 'IPv4' : 'IPv6' };
}

/** The connection of a request, in the words of Node's tls.TLSSocket. */
function socketOf(request, peer) {
  const [raw] = request.peerCertificates;
  return {
    ...peerOf(peer), encrypted: request.isSecure, authorized: raw !== undefined, servername: request.serverName,
    getPeerCertificate: () => (raw === undefined ? {} : new X509Certificate(raw).toLegacyObject()),
  };
}

const NUMBER = 7, FIRST_HEADER = 8;

class Request {
  #lines; #headers; #socket; #cookies; #leaving; #hasLeft = false;

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
  /** The cookies by their names, as they came. */
  get cookies() { return this.#cookies ??= cookiesOf(this.headers.cookie ?? ''); }
  get socket() { return this.#socket ??= socketOf(this, this.#lines[5]); }
  get connection() { return this.socket; }

  /** Aborted where the client leaves, or its time is over, before it was answered. */
  get signal() {
    this.#leaving ??= new AbortController();
    if (this.#hasLeft) this.#leaving.abort();
    return this.#leaving.signal;
  }

  /** The number of the connection, as the engine spells it. */
  get _number() { return this.#lines[NUMBER]; }

  /** Nobody waits for an answer any more. */
  _leave() {
    this.#hasLeft = true;
    this.#leaving?.abort();
  }

  /** Whether it came over TLS that ends here, rather than at a proxy. */
  get isSecure() { return this.#tls.length !== 0; }
  /** The name that the client asked for (SNI). */
  get serverName() { return this.#tls[1] || undefined; }
  /** The client's certificate, which is verified, and those of its issuers that it sent, in DER. */
  get peerCertificates() { return this.#tls.slice(2).map((digits) => Buffer.from(digits, 'hex')); }
  get #tls() { return this.#lines[6] === '' ? [] : this.#lines[6].split(' '); }
}

module.exports = { Request, headersOf, peerOf };
