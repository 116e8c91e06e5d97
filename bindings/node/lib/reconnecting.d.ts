// A WebSocket that connects again.

import WebSocket = require("../index.js");

/** What a client may be asked for beyond its connection. */
export interface ReconnectOption {
  /**
   * Connect again whenever the connection ends, until there is a reason to give up; `true` is `{}`. One object is all the
   * connections: `open` is told for each; `reconnecting` instead of `error` and `close` where one has ended or could not be
   * opened, and `readyState` is CONNECTING then; at the end `giveup`, `error` if the last one failed, and `close`. While it
   * is CONNECTING `send` goes by `offlineLimit`; what waits leaves in order as soon as a connection opens. What was on its
   * way when a connection was lost is not sent again. `pause` ends with its connection. `close` and `terminate` end the
   * client, also while it waits; `reconnect` closes the connection alone. Default false.
   */
  reconnect?: boolean | ReconnectOptions;
}

/** The events of a client with the option `reconnect`, beside those of its connections. */
export interface ReconnectListeners {
  /**
   * With the option `reconnect`: a connection has ended, or could not be opened, and the next attempt is made in `delay`
   * milliseconds. `attempt` counts those in a row, from 1.
   */
  reconnecting: [attempt: number, delay: number, cause: WebSocket.CloseInfo];
  /** With the option `reconnect`: there is no further attempt. `close` follows. */
  giveup: [info: GiveUpInfo];
}

/** How a client connects again. Times are milliseconds. */
export interface ReconnectOptions {
  /**
   * The longest delay before the first attempt in a row; it doubles with each further one. Each delay is chosen at random
   * between zero and the longest. A server that answers with `Retry-After` is left alone for that much longer, at most an
   * hour. Default 250; 0 is the default.
   */
  baseDelay?: number;
  /** The longest delay of all, at least `baseDelay`. Default 30,000; 0 is the default. */
  maxDelay?: number;
  /** A connection that was open for so long begins the count of attempts, and with it the delay, anew. Default 5,000. */
  resetAfter?: number;
  /** Most attempts in a row to connect again. Beyond it the client gives up. Default 0: no limit. */
  maxAttempts?: number;
  /**
   * Most bytes of messages that wait for the next connection while there is none, at most `backlogLimit`; each counts 32
   * bytes more than its payload. Beyond it `send` throws (or calls back) with code `WSX_ERR_BACKLOG_FULL`. Default 0:
   * nothing waits, and `send` throws (or calls back) with code `WSX_ERR_NOT_OPEN`; so it does in any case with a part of a
   * message (`fin`), up to the last one of a message that was lost with its connection.
   */
  offlineLimit?: number;
}

/** Why a client connects no more. */
export interface GiveUpInfo {
  /**
   * `finished`: a side closed in order with 1000. `closeCode`: 1002, 1003, 1007, 1008, 1010, 3500 to 3999 or 4500 to 4999
   * say that another attempt is of no use. `httpStatus`: so do 400, 401, 403, 404, 407, 410 and 426, of the server or of
   * an HTTP proxy. `socksRefusal`: a SOCKS5 proxy refuses the user name and password, or all ways to authenticate
   * that it was offered, or its rules do not allow the connection. `attempts`: `maxAttempts` have failed.
   * `closed`: the program called `close` or `terminate`. `shutdown`: the thread ends.
   */
  kind: "finished" | "closeCode" | "httpStatus" | "socksRefusal" | "attempts" | "closed" | "shutdown";
  /** The code of the last connection; null where the client was waiting. */
  closeCode: number | null;
  /** The HTTP status that the last attempt was answered with; null where it was not. */
  statusCode: number | null;
  /** Attempts in a row to connect again, up to now. */
  attempts: number;
  /** Messages that waited in the queue of `offlineLimit`, and reached no connection. */
  lostMessages: number;
  /** One sentence for people. */
  message: string;
}
