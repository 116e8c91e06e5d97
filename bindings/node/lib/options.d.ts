// The options for compression and TLS, with the names that they have in `ws`, and in Node's `https` and `tls`; and those for
// a client's way to its server.

/** permessage-deflate (RFC 7692), in the words of `ws`; `{}` is the same as `true`. */
export interface PerMessageDeflateOptions {
  /**
   * The server keeps no context from one message to the next. A server answers it, asked or not; a client asks for it, and
   * fails where the server does not grant it. A context makes small messages that resemble each other much smaller, and
   * costs each connection up to 400 KiB for compressing and 50 KiB for inflating. Default true, other than in `ws`.
   */
  serverNoContextTakeover?: boolean;
  /** The client keeps no context. A server demands it; a client says so and does so. Default true, other than in `ws`. */
  clientNoContextTakeover?: boolean;
  /**
   * The window that the server compresses with, as a power of two: 9 to 15. A server uses no more, whatever is asked for; a
   * client with less than 15 asks for it, and fails where the server does not grant it. Default 15.
   */
  serverMaxWindowBits?: number;
  /**
   * The same for what the client compresses. A server with less than 15 demands it from each client that lets itself be
   * told; a client uses no more, whatever is demanded. Default 15, as is `true`.
   */
  clientMaxWindowBits?: number | true;
  /** Messages of fewer bytes are sent as they are, with contexts as well. Default 1,024; 0: all are compressed. */
  threshold?: number;
  zlibDeflateOptions?: {
    /** How hard to try: 1 (fast) to 9 (small). Default 6, as is -1. */
    level?: number;
    /** Without effect, as is everything else of zlib's but a `dictionary`, which is refused. */
    memLevel?: number;
    chunkSize?: number;
  };
  /** Without effect: the engine inflates by itself, up to `maxMessage`. */
  zlibInflateOptions?: object;
  /** Without effect: the engine compresses at once, on its thread. */
  concurrencyLimit?: number;
}

/** A text in PEM: itself, not the name of its file. */
export type Pem = string | NodeJS.ArrayBufferView;

/** Certificates and keys, for TLS 1.2 and 1.3. */
export interface SecureContextOptions {
  /**
   * The certificate, then those of its issuers. Of several, as an array with a `key` for each, a server shows the first that
   * is valid for the name the client asks for (SNI), the first of all where none is; a client shows the first.
   */
  cert?: Pem | readonly Pem[];
  /** The private key in PKCS#8, PKCS#1 or SEC 1, not encrypted. */
  key?: Pem | readonly Pem[];
  /**
   * A client: the issuers to trust, instead of the system's. A server: the issuers of the certificates that clients may
   * show; only with `requestCert`.
   */
  ca?: Pem | readonly Pem[];
}

interface TlsOptions extends SecureContextOptions {
  /** The protocols to agree on, in order of preference; who offers only others is refused. Default `http/1.1`. */
  ALPNProtocols?: string | readonly string[];
}

/** With `cert` and `key` every connection of the server speaks TLS. */
export interface ServerTlsOptions extends TlsOptions {
  /** Ask clients for a certificate from an issuer in `ca`. Default false. */
  requestCert?: boolean;
  /**
   * Refuse who has no certificate. Default true. Whoever shows one that is not from an issuer in `ca`, or out of its time, is
   * refused in any case: `request.socket.authorized` says whether there was one.
   */
  rejectUnauthorized?: boolean;
}

/** For `wss:` and `https:` URLs, which need none of them. */
export interface ClientTlsOptions extends TlsOptions {
  /** The name to ask for, and to find in the server's certificate. Default: the URL's host. */
  servername?: string;
  /**
   * `false` takes any certificate, of anybody, for any name: the connection is encrypted then, but to whom is unknown, and
   * whoever is on the way can read and change everything. For tests. Default true.
   */
  rejectUnauthorized?: boolean;
}

/** A client's way to its server. */
export interface WayOptions {
  /**
   * Connect through this proxy, except to a Unix socket: `http://[user:password@]host[:port]` by CONNECT, `socks5://` and
   * `socks5h://` by SOCKS5, where the host's name is looked up here, or by the proxy. It stands in for an `agent` of `ws`.
   * What is malformed, and a proxy of `https://`, is told by `error`. Default: none.
   */
  proxy?: string | URL;
  /**
   * Without `proxy`, take the one that the environment names, as curl reads it: `https_proxy` or `HTTPS_PROXY` for `wss:`,
   * `http_proxy` for `ws:`, else `all_proxy` or `ALL_PROXY`, and `no_proxy` or `NO_PROXY` for the hosts that are reached
   * without. Default false.
   */
  proxyFromEnvironment?: boolean;
  /** `ws`'s switch: true is `maxRedirects: 10`, false is 0 in any case. */
  followRedirects?: boolean;
  /**
   * Most redirects to follow. Beyond it, and from `wss:` to `ws:`, the connection fails. To another origin go neither the
   * user of the URL nor headers whose names tell of credentials: Authorization, Cookie, and all with `token`, `key`,
   * `secret`, `session` or `password` in them. Default 0, with which none is followed; 10 with `followRedirects`.
   */
  maxRedirects?: number;
  /**
   * How long it may take until the request can be sent: name, TCP, proxy, TLS; for each redirect anew. Beyond it: failed,
   * under the stage it had come to. Of a name's addresses up to 32 are tried, the next one 250 ms after the last, or when
   * that fails (RFC 8305). Default 0: no limit but `handshakeTimeout`, which counts as well.
   */
  connectTimeout?: number;
}
