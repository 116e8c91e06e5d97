// What was counted.

/**
 * What was counted, up to now. `connections`, `handshakes` and `bufferedBytes` tell what is; everything else counts from
 * the beginning, and never falls. Each accepted connection is in the end one of `opened`, `answered` and `refused`. What
 * did not come up is not in `refused`, `connectsFailed`, `failures` and `closes`.
 */
export interface Stats {
  /** Connections that are open or closing. */
  readonly connections: number;
  /** Connections on their way to that: in the opening handshake, or being refused or answered. */
  readonly handshakes: number;
  /** Bytes that wait because the kernel takes no more, over all connections, frame headers included. */
  readonly bufferedBytes: number;
  /** Server: connections that were accepted. */
  readonly accepted: number;
  /** Client: connections that were begun. */
  readonly connects: number;
  /** Opening handshakes that succeeded. */
  readonly opened: number;
  /** HTTP streams that were begun: none, for this door has none. */
  readonly streams: number;
  /** Server: plain HTTP requests that `handleRequest` answered. */
  readonly answered: number;
  /**
   * Server: connections that came to nothing, by cause: `full` (503), `address` (503: too many of one), `bad_request` (400),
   * `method` (405), `upgrade` (426), `head_too_big` (431), `path` (404), `origin` (403), `hook` (`verifyClient` or `handleRequest` rejected it),
   * `hook_failed` (500: it threw), `tls` (the handshake failed), `timeout`, `left` (the client did) and `shutdown`.
   */
  readonly refused: Readonly<Partial<Record<RefusalCause, number>>>;
  /** Client: connections that did not open, by the `stage` of their error. What the program gave up itself is not here. */
  readonly connectsFailed: Readonly<Partial<Record<string, number>>>;
  /** Messages told; one that is told in fragments counts with its last one. */
  readonly messagesReceived: number;
  /** Messages taken by `send`, and by `broadcast` and `publish` once for each receiver. Some may be lost later. */
  readonly messagesSent: number;
  /**
   * Bytes received, everything included: HTTP heads, frame headers, control frames. Over TLS after decryption; as they came
   * where they are compressed.
   */
  readonly bytesReceived: number;
  /** Bytes that the kernel took, counted in the same way. */
  readonly bytesSent: number;
  /** Messages that were taken and then lost: `lostMessages` of all connections. */
  readonly messagesLost: number;
  /** Connections that failed, by `stage` and `kind` of their error: `failures.websocket?.protocol`. */
  readonly failures: Readonly<Partial<Record<string, Readonly<Partial<Record<string, number>>>>>>;
  /** Connections that ended, by code. 3000 stands for 3000 to 3999 and 4000 for 4000 to 4999. */
  readonly closes: Readonly<Partial<Record<number, number>>>;
  /** Errors of servers, as in accepting. */
  readonly listenerErrors: number;
  /** Turns of the engine; 0 for a server. */
  readonly turns: number;
}

export type RefusalCause =
  | "full" | "address" | "bad_request" | "method" | "upgrade" | "head_too_big" | "path" | "origin" | "hook" | "hook_failed" | "tls"
  | "timeout" | "left" | "shutdown";
