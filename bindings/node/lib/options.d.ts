/** permessage-deflate (RFC 7692), in the words of `ws`; `{}` is the same as `true`. */
export interface PerMessageDeflateOptions {
  /**
   * The server keeps no context from one message to the next. A server answers it, asked or not; a client asks for it, and
   * fails where the server does not grant it. A context makes small messages that resemble each other much smaller, and
   * costs each connection up to 300 KiB for compressing and 45 KiB for inflating. Default true, other than in `ws`.
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
