// How a connection ended, and why.

/** How a connection ended. */
export interface CloseInfo {
  /** The code: the peer's where it began, ours where we did; 1005 without a code, 1006 without a Close. */
  code: number;
  reason: string;
  /** The closing handshake was completed, and nothing failed. */
  wasClean: boolean;
  /** Who began. */
  by: "us" | "peer";
  /** What failed; null where a side closed in order, or the program called `terminate`. */
  error: ConnectionError | null;
  /**
   * Messages that the program sent and that did not wholly reach the kernel: those that waited when the connection ended,
   * one that was under way in part, and the lost ones. Over TLS up to 64 KiB of what was being written count as well, of
   * which the kernel may have taken a part. What reached the kernel may have been lost on its way, which only an answer
   * of the peer's program can tell. Of an HTTP stream only the writes that were lost are counted.
   */
  undeliveredMessages: number;
  /** Those that were taken and then lost before the end, dropped by `backlogPolicy`. */
  lostMessages: number;
  /** Bytes that were sent and did not reach the kernel. */
  unsentBytes: number;
  /** All of it in one sentence, for a log. */
  text: string;
}

/** A limit or a timeout that struck. */
export interface Limit {
  /** The option that sets it: `maxMessage`. `tlsHandshakeMessage` is none of them but fixed, 64 KiB. */
  option: string;
  /** The unit of `value` and `reached`. */
  unit: "bytes" | "count" | "milliseconds";
  /** What it is set to. */
  value: number;
  /** What was reached, where that is known: for `maxMessage` the bytes that the frames so far have announced, for `backlogLimit` those that waited. */
  reached: number | null;
}

/** What failed. `code` is `ws`'s (`WS_ERR_…`), Node's (`CERT_HAS_EXPIRED`), the system's (`ECONNREFUSED`) or ours (`WSX_ERR_…`). */
export interface ConnectionError extends Error {
  code: string;
  /** How far the connection had come. */
  stage?: "resolve" | "connect" | "proxy" | "tls" | "http" | "websocket";
  kind?: "protocol" | "refused" | "limit" | "timeout" | "transport" | "shutdown" | "callback";
  /** The limit or timeout that struck: there exactly if `kind` is `limit` or `timeout`. */
  limit?: Limit;
  /** What a server answered instead of opening the WebSocket, or a proxy instead of opening a tunnel. */
  statusCode?: number;
  errno?: number;
  syscall?: string;
}
