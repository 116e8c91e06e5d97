/// <reference types="node" />

import { EventEmitter } from "node:events";
import { CloseInfo, ConnectionError, Limit } from "./lib/close.js";
import { ClientTlsOptions, PerMessageDeflateOptions, SecureContextOptions, ServerTlsOptions, WayOptions } from "./lib/options.js";
import { GiveUpInfo, ReconnectListeners, ReconnectOption, ReconnectOptions } from "./lib/reconnecting.js";
import { Later, Peer, Request, VerifyInfo } from "./lib/request.js";
import { RefusalCause, Stats } from "./lib/statistics.js";

/**
 * A WebSocket: a client of its own, or a connection of a {@link WebSocket.WebSocketServer}.
 *
 * It has the methods, properties and events of the package `ws`, and those of a browser's WebSocket.
 */
declare class WebSocket extends EventEmitter {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSING: 2;
  static readonly CLOSED: 3;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;

  /**
   * Connects to `ws://HOST[:PORT]/PATH`, `wss://HOST[:PORT]/PATH` or `ws+unix:SOCKET:/PATH`. Names are looked up, and TCP is opened, meanwhile:
   * `open` tells when it may be sent to; `error`, then `close`, that it could not be opened.
   *
   * @throws {SyntaxError} where the URL or a subprotocol is malformed
   */
  constructor(address: string | URL, options?: WebSocket.ClientOptions);
  constructor(address: string | URL, protocols?: string | string[], options?: WebSocket.ClientOptions);

  /** `CONNECTING`, `OPEN`, `CLOSING` or `CLOSED`, as far as events have told; `CLOSING` also once the peer has closed or failed. */
  readonly readyState: 0 | 1 | 2 | 3;
  /** The subprotocol agreed on; empty where there is none. */
  readonly protocol: string;
  /** A client's URL; empty for a connection of a server. */
  readonly url: string;
  /** The extensions agreed on, by name: see `perMessageDeflate`. */
  readonly extensions: "" | "permessage-deflate";
  /** Where the peer is, as of a `net.Socket`: undefined before `open`, for a Unix socket, and once the connection has ended. */
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  readonly remoteFamily: "IPv4" | "IPv6" | undefined;
  /** Bytes that were sent and have not reached the kernel, frame headers included. */
  readonly bufferedAmount: number;
  /**
   * Milliseconds, with a fraction, from the newest ping that was answered to its pong, the engine's own pings as well;
   * undefined before the first, and once the connection has ended. In `pong` it is that of this pong, where it answers a
   * `ping` of the program's.
   */
  readonly latency: number | undefined;
  /** Whether `pause` was called, and `resume` not yet. */
  readonly isPaused: boolean;
  /** How the connection ended, and why; null before. Set when `close` is told. */
  readonly closeInfo: WebSocket.CloseInfo | null;
  /** What binary messages are told as. Text is a Buffer for `message` and a string for `onmessage`, as in `ws`. */
  binaryType: "nodebuffer" | "arraybuffer" | "blob";

  onopen: ((event: WebSocket.Event) => void) | null;
  onmessage: ((event: WebSocket.MessageEvent) => void) | null;
  onerror: ((event: WebSocket.ErrorEvent) => void) | null;
  onclose: ((event: WebSocket.CloseEvent) => void) | null;

  /**
   * Sends a message: strings as text, everything else as binary, unless `binary` says otherwise.
   *
   * It is copied at once, and leaves with everything else of this tick. Answers false where more than half of
   * `backlogLimit` waits for the peer: `drain` tells when to go on. What is sent all the same is taken, up to
   * `backlogLimit`, and then handled by `backlogPolicy`.
   *
   * @param callback hears when the message has been handed to the kernel, or why it was not taken
   * @throws {Error} while CONNECTING; with code `WSX_ERR_BACKLOG_FULL` under the policy `refuse`, without callback
   */
  send(data: WebSocket.Data, callback?: (error?: Error) => void): boolean;
  send(data: WebSocket.Data, options?: WebSocket.SendOptions, callback?: (error?: Error) => void): boolean;

  /**
   * Sends a message that was encoded before: to a peer of a server the very bytes that all get, compressed at most once for
   * all that keep no context. All else is as of `send`, but that between the fragments of another message it is refused:
   * thrown, or told the callback. For all connections of a server `broadcast` does the same.
   */
  sendShared(message: WebSocket.SharedMessage, callback?: (error?: Error) => void): boolean;

  /** Sends a ping of at most 125 bytes. The engine pings by itself as well: see `pingInterval`. */
  ping(data?: WebSocket.Data, mask?: boolean, callback?: (error?: Error) => void): void;
  /** Sends a pong of at most 125 bytes that nobody asked for. Pings are answered by the engine. */
  pong(data?: WebSocket.Data, mask?: boolean, callback?: (error?: Error) => void): void;

  /**
   * Begins the closing handshake; what was sent before leaves first. Messages that come after this are not told.
   *
   * @param code 1000 to 1003, 1007 to 1014 or 3000 to 4999; without it the Close has no code
   * @param reason at most 123 bytes of UTF-8; left out where there is no code
   */
  close(code?: number, reason?: string | Buffer): void;
  /**
   * With the option `reconnect`: closes the connection but not the client, which connects again, unless the code says
   * otherwise. Nothing happens while there is none.
   *
   * @param code as of `close`; default 1001
   * @throws {Error} without the option, or where code or reason cannot be sent
   */
  reconnect(code?: number, reason?: string | Buffer): void;
  /** Ends the transport at once, without a Close. `close` tells 1006. */
  terminate(): void;

  /** Tells no event and reads nothing until `resume`: the peer will feel it through TCP. */
  pause(): void;
  /** Goes on; what came meanwhile is told first. */
  resume(): void;

  /** Lets a connection of a server hear what is published under a topic. @throws {Error} beyond `maxTopics` */
  subscribe(topic: string): void;
  /** Ends a subscription; one that does not exist is no error. */
  unsubscribe(topic: string): void;
  /** Sends a message to all subscribers of a topic but this connection. */
  publish(topic: string, data: WebSocket.Data, options?: WebSocket.SendOptions): void;
  /** Sends a message to all other connections of the same server, encoded once. */
  broadcast(data: WebSocket.Data, options?: WebSocket.SendOptions): void;

  /** Keeps the process alive while the connection is open: the default. */
  ref(): this;
  /** Lets the process end although the connection is open. */
  unref(): this;

  addEventListener<K extends keyof WebSocket.EventMap>(
    type: K,
    listener: ((event: WebSocket.EventMap[K]) => void) | { handleEvent(event: WebSocket.EventMap[K]): void },
    options?: { once?: boolean },
  ): void;
  removeEventListener<K extends keyof WebSocket.EventMap>(
    type: K,
    listener: ((event: WebSocket.EventMap[K]) => void) | { handleEvent(event: WebSocket.EventMap[K]): void },
  ): void;

  on<K extends keyof WebSocket.Listeners>(event: K, listener: (this: WebSocket, ...args: WebSocket.Listeners[K]) => void): this;
  on(event: string | symbol, listener: (this: WebSocket, ...args: any[]) => void): this;
  once<K extends keyof WebSocket.Listeners>(event: K, listener: (this: WebSocket, ...args: WebSocket.Listeners[K]) => void): this;
  once(event: string | symbol, listener: (this: WebSocket, ...args: any[]) => void): this;
  off<K extends keyof WebSocket.Listeners>(event: K, listener: (this: WebSocket, ...args: WebSocket.Listeners[K]) => void): this;
  off(event: string | symbol, listener: (this: WebSocket, ...args: any[]) => void): this;
  addListener<K extends keyof WebSocket.Listeners>(event: K, listener: (this: WebSocket, ...args: WebSocket.Listeners[K]) => void): this;
  addListener(event: string | symbol, listener: (this: WebSocket, ...args: any[]) => void): this;
  removeListener<K extends keyof WebSocket.Listeners>(event: K, listener: (this: WebSocket, ...args: WebSocket.Listeners[K]) => void): this;
  removeListener(event: string | symbol, listener: (this: WebSocket, ...args: any[]) => void): this;
}

declare const WebSocketAlias: typeof WebSocket;
interface WebSocketAlias extends WebSocket {}

declare namespace WebSocket {
  /** What can be sent. A number is sent as text, an array as bytes. */
  export type Data = string | number | ArrayBuffer | SharedArrayBuffer | ArrayBufferView | readonly number[];
  /** What a message is told as; see `binaryType`. */
  export type RawData = Buffer | ArrayBuffer | Blob;

  export interface SendOptions {
    /** Whether it goes out as binary. Default: everything but strings and numbers does. Bytes sent as text must be UTF-8. */
    binary?: boolean;
    /**
     * Whether it is the last of its message. Default true. With `false` it is a fragment, and what `send` is given next goes
     * on with the same message, of the kind of its first one, up to one that is the last; text may be cut inside a character.
     * What is broadcast or published meanwhile follows behind it, as far as `backlogLimit` goes, and else counts in
     * `closeInfo.lostMessages`. A fragment that is not taken is thrown (or told the callback), also under the policy `drop`,
     * and may be sent again. Only for `send`.
     */
    fin?: boolean;
  }

  /** A message that is encoded once, to be sent many times by `sendShared`. What it is made of is copied. */
  export class SharedMessage {
    constructor(data: Data, options?: { binary?: boolean });
    // Made by the constructor only.
    private readonly encoded;
  }

  export interface BroadcastOptions extends SendOptions {
    /** The one connection that does not get it. */
    except?: WebSocket;
  }

  /** The limits and timeouts that servers and clients have. A size or count of 0 means "no limit", a timeout of 0 "off",
   * unless told otherwise. Sizes are bytes, timeouts milliseconds. */
  export interface Options {
    /** Largest message a peer may send. Beyond it: close 1009. Default 1 MiB. */
    maxMessage?: number;
    /** `ws`'s name for `maxMessage`. */
    maxPayload?: number;
    /** Most fragments of a message. Beyond it: close 1008. Default 1,024. */
    maxFragments?: number;
    /** Tell each frame of a fragmented message by `fragment`, instead of the message. Default false. */
    deliverFragments?: boolean;
    /** Largest HTTP head. Beyond it: 431. Default 16 KiB; 0 is the default. */
    maxHead?: number;
    /** Most headers of an HTTP head, at most 256. Beyond it: 431. Default 100; 0 is the default. */
    maxHeaders?: number;
    /** From TCP to `open`, a client's look-up of the name included. Beyond it: closed. Default 10,000. */
    handshakeTimeout?: number;
    /** Ping after so long without a byte from the peer. Default 25,000. */
    pingInterval?: number;
    /** How long a peer may be silent after that ping. Beyond it: closed as 1006. Default 20,000. */
    pongTimeout?: number;
    /** How long the closing handshake may take. Beyond it: TCP is closed. Default 5,000; 0 is the default. */
    closeTimeout?: number;
    /** How long output may wait without the peer taking a byte. Beyond it: closed as 1006. Default 10,000. */
    progressTimeout?: number;
    /** Most output that may wait for one peer. A message that finds nothing waiting is always taken. Default 1 MiB. */
    backlogLimit?: number;
    /**
     * What happens beyond `backlogLimit`: `close` ends the connection with 1013, `drop` drops the message and counts it
     * in `closeInfo.lostMessages`, `refuse` makes `send` throw (or call back) with code `WSX_ERR_BACKLOG_FULL`, `pause`
     * takes the message and stops reading from that peer until it has read: what an echo server wants. Default `close`.
     */
    backlogPolicy?: "close" | "drop" | "refuse" | "pause";
    /** Most topics of one connection. Beyond it: `subscribe` throws. Default 128. */
    maxTopics?: number;
    /** Longest name of a topic to subscribe to, in bytes, at most 255. Beyond it: `subscribe` throws. Default 255, as is 0. */
    maxTopicName?: number;
    /** Set TCP_NODELAY. Default true. */
    noDelay?: boolean;
    /**
     * TCP's own keep-alive: after so long without a byte either way the kernel asks whether the peer's machine is still
     * there, also while the heartbeat is off or reading is paused. It counts in seconds, at most 32,767. Beyond it: closed
     * as 1006, with the system's error. Default 0: off.
     */
    keepAliveIdle?: number;
    /** Between such questions, while none is answered. Default 0: the system's, as a rule 75,000. */
    keepAliveInterval?: number;
    /** How many of them stay without an answer before the connection is given up, at most 127. Default 0: the system's, as a rule 9. */
    keepAliveCount?: number;
    /**
     * Compress messages with peers that agree: see `extensions` for whether one did. `maxMessage` counts what a message
     * inflates to. Default false, for clients as well, which in `ws` offer it; `true` keeps no context, other than in `ws`.
     */
    perMessageDeflate?: boolean | PerMessageDeflateOptions;
  }

  export interface ClientOptions extends Options, ClientTlsOptions, WayOptions, ReconnectOption {
    /** Further headers of the request. */
    headers?: Record<string, string | number | readonly string[]> | Iterable<[string, string]>;
    /** The header `Origin`. */
    origin?: string;
    /** `USER:PASSWORD` for the header `Authorization`, unless `headers` has one. Default: those of the URL. */
    auth?: string;
  }

  export interface ServerOptions extends Options, ServerTlsOptions {
    /** The address to listen on. Default: all of the machine's. */
    host?: string;
    /** The port to listen on; 0 lets the system choose one. */
    port?: number;
    /** A Unix socket to listen on, instead of a port. */
    socketPath?: string;
    /** The only path that is upgraded; others get 404 unless `handleRequest` answers. Default: any. */
    path?: string;
    /** Length of the kernel's queue of connections that are not accepted yet. Default 1,024. */
    listenBacklog?: number;
    /** `ws`'s name for `listenBacklog`. */
    backlog?: number;
    /**
     * Most connections. Each counts from its acceptance (of a route, from its request) to its end, also where it is refused.
     * Beyond it: 503. Default 0: as many as the process may have descriptors, less a reserve of 32.
     */
    maxConnections?: number;
    /**
     * Most connections from one address: one of IPv4 (also where it is mapped to IPv6), or a network of IPv6 with 64 bits.
     * They count from their acceptance to their end; those over a Unix socket do not. Beyond it: a few get 503, any more are
     * closed at once, and all are over TLS. Behind a proxy everybody has the proxy's address: leave it off. Default 0: no limit.
     */
    maxConnectionsPerAddress?: number;
    /** Let several listeners share the port, one for each thread. Default false. */
    reusePort?: boolean;
    /**
     * Which web pages may connect: `same-host` (the origin's host and port equal the header `Host`), `any`, or a list of
     * origins as browsers send them, where `https://*.example.org` stands for every subdomain, and not for
     * `https://example.org` itself. Others get 403; what is no origin makes listening fail. Only requests with the header
     * `Origin`, which browsers send, are checked. Default `same-host`.
     */
    origins?: "same-host" | "any" | (string & {}) | readonly string[];
    /** Subprotocols spoken, in order of preference. Default: without this and `handleProtocols`, the first one offered. */
    subprotocols?: string | readonly string[];
    /** Whether the server keeps `clients`. Default true. */
    clientTracking?: boolean;
    /** Functions for all connections, called with the connection first, before listeners: cheaper than a listener for each. */
    handlers?: Handlers;
    /**
     * Chooses a subprotocol among those offered; false for none. Each of these hooks may answer with a promise as well: the
     * client is not read until it is kept, and gets 503 where that takes longer than `handshakeTimeout`; `request.signal`
     * tells the hook where the client left before. A promise that is not kept is answered with 500.
     */
    handleProtocols?: (protocols: Set<string>, request: Request) => Later<string | false | undefined>;
    /** Says whether an opening handshake is accepted; false is answered with 401. With two parameters it calls back. */
    verifyClient?: (
      info: VerifyInfo,
      callback: (verified: boolean, status?: number, message?: string, headers?: Record<string, string>) => void,
    ) => Later<boolean> | void;
    /**
     * Sees every HTTP request, and answers it: a status, a page, or nothing (or true) for the engine to go on with. It is
     * called after the checks of `path` and `origins`.
     */
    handleRequest?: (this: WebSocketServer, request: Request) => Later<number | true | Page | null | undefined>;
  }

  /** What does not concern the socket, or the head of a request: those are the server's. */
  export type RouteOptions = Omit<ServerOptions, keyof ServerTlsOptions | "host" | "port" | "socketPath" | "path" | "listenBacklog" |
    "backlog" | "reusePort" | "noDelay" | "maxHead" | "maxHeaders" | "maxConnectionsPerAddress" | "keepAliveIdle" | "keepAliveInterval" |
    "keepAliveCount">;

  export interface Page {
    /** 200 to 599. Default 200. */
    status?: number;
    headers?: Record<string, string | readonly string[]>;
    /** Default: the status in words. */
    body?: Data;
  }

  /** What a server does for each connection. `this` is the object that has the functions. */
  export interface Handlers {
    open?(socket: WebSocket, request: Request): void;
    message?(socket: WebSocket, data: RawData, isBinary: boolean): void;
    fragment?(socket: WebSocket, payload: Buffer, fragment: Fragment): void;
    ping?(socket: WebSocket, payload: Buffer): void;
    pong?(socket: WebSocket, payload: Buffer): void;
    drain?(socket: WebSocket): void;
    error?(socket: WebSocket, error: ConnectionError): void;
    close?(socket: WebSocket, code: number, reason: Buffer, info: CloseInfo): void;
  }

  export interface Fragment {
    isBinary: boolean;
    isFirst: boolean;
    isLast: boolean;
  }

  export interface Event {
    readonly type: string;
    readonly target: WebSocket;
  }
  export interface MessageEvent extends Event {
    /** Text as a string, binary as `binaryType` says. */
    readonly data: string | RawData;
  }
  export interface ErrorEvent extends Event {
    readonly error: ConnectionError;
    readonly message: string;
  }
  export interface CloseEvent extends Event {
    readonly code: number;
    readonly reason: string;
    readonly wasClean: boolean;
    readonly closeInfo: CloseInfo;
  }
  export interface EventMap {
    open: Event;
    message: MessageEvent;
    error: ErrorEvent;
    close: CloseEvent;
  }

  /** The events of a WebSocket, and what their listeners get. */
  export interface Listeners extends ReconnectListeners {
    open: [];
    /** A client's answer of the server. */
    upgrade: [response: { statusCode: 101; headers: Request["headers"]; rawHeaders: string[] }];
    message: [data: RawData, isBinary: boolean];
    fragment: [payload: Buffer, fragment: Fragment];
    /** The pong is on its way. */
    ping: [payload: Buffer];
    pong: [payload: Buffer];
    /** Little enough waits to go on sending. */
    drain: [];
    /** The next event is `close`. Told where somebody listens; a client that cannot connect tells it in any case. */
    error: [error: ConnectionError];
    /** Always the last. */
    close: [code: number, reason: Buffer, info: CloseInfo];
  }

  export interface ServerListeners {
    listening: [];
    connection: [socket: WebSocket, request: Request];
    /** The answer to an opening handshake is about to leave: lines `Name: value` may be added. */
    headers: [headers: string[], request: Request];
    /** Listening failed, or something that belongs to no connection: accepting, or an answer that cannot be sent. */
    error: [error: ConnectionError];
    close: [];
  }

  export interface CloseOptions {
    /** Default 1001: going away. */
    code?: number;
    reason?: string;
    /** Cut what is left after so many milliseconds. Default: the closing timeout of each connection ends it. */
    timeout?: number;
  }

  /** A listener and its connections. */
  /** What was counted of all servers and clients of this thread: servers that are closed among them. */
  export function stats(): Stats;
  /**
   * The same in the text format of Prometheus: for each server with its address as the label `listener`, for the clients and
   * the engine itself without. `handleRequest` can answer it as it is, with {@link METRICS_TYPE}.
   */
  export function metrics(): string;
  /** The Content-Type of {@link metrics}. */
  export const METRICS_TYPE: string;

  export class WebSocketServer extends EventEmitter {
    /**
     * Listens at once; `listening` tells it, or `error` why not.
     *
     * @throws {TypeError | RangeError} where an option is not what it must be
     */
    constructor(options: ServerOptions, callback?: () => void);

    readonly options: ServerOptions;
    readonly path: string | undefined;
    /** The open connections; undefined with `clientTracking: false`. */
    readonly clients: Set<WebSocket>;

    /**
     * Serves a path with options, handlers and events of its own, on this server's port. `/chat` is that path, `/rooms/*` all
     * below `/rooms/`; paths are compared as they come, without the query. A whole path goes before the others, the longest of
     * those before the shorter, and what no route leads to is this server's. `broadcast` and `clients` are those of the route
     * alone. Closing it gives the path back; closing this server closes its routes, and `close` comes after theirs.
     *
     * @throws {TypeError} where the path cannot be one or has a route already, or an option is the server's
     * @throws {Error} `ERR_SERVER_NOT_RUNNING`
     */
    route(path: string, options?: RouteOptions): WebSocketServer;

    /** Address, family and port, or the path of a Unix socket; null where it does not listen. */
    address(): { address: string; family: "IPv4" | "IPv6"; port: number } | string | null;

    /**
     * Begins TLS anew, with a renewed certificate, say: for handshakes from now on. As in Node, what is not given of these
     * three is gone; the other options of TLS stay.
     *
     * @throws {TypeError} where one of them cannot be used, or the server began without TLS; then nothing has changed
     */
    setSecureContext(options: SecureContextOptions): void;

    /** Sends a message to every open connection but one, encoded once. */
    broadcast(data: Data, options?: BroadcastOptions): void;
    /**
     * Sends a message to every subscriber of a topic but one, encoded once. Topics belong to the thread: two servers share them.
     *
     * @throws {TypeError} where the topic has not 1 to 255 bytes of UTF-8
     */
    publish(topic: string, data: Data, options?: BroadcastOptions): void;
    /** How many connections subscribe to a topic. */
    subscriberCount(topic: string): number;

    /**
     * What was counted of this server's connections, up to now.
     *
     * @throws {Error} `WSX_ERR_CLOSED` once `close` was told
     */
    stats(): Stats;

    /** Accepts nobody any more. `close` comes when the last connection has ended. */
    close(callback?: (error?: Error) => void): void;
    /** The same, and closes the connections. */
    close(options: CloseOptions, callback?: (error?: Error) => void): void;

    /** Keeps the process alive while it listens: the default. */
    ref(): this;
    /** Lets the process end although it listens. */
    unref(): this;

    on<K extends keyof ServerListeners>(event: K, listener: (this: WebSocketServer, ...args: ServerListeners[K]) => void): this;
    on(event: string | symbol, listener: (this: WebSocketServer, ...args: any[]) => void): this;
    once<K extends keyof ServerListeners>(event: K, listener: (this: WebSocketServer, ...args: ServerListeners[K]) => void): this;
    once(event: string | symbol, listener: (this: WebSocketServer, ...args: any[]) => void): this;
    off<K extends keyof ServerListeners>(event: K, listener: (this: WebSocketServer, ...args: ServerListeners[K]) => void): this;
    off(event: string | symbol, listener: (this: WebSocketServer, ...args: any[]) => void): this;
    addListener<K extends keyof ServerListeners>(event: K, listener: (this: WebSocketServer, ...args: ServerListeners[K]) => void): this;
    addListener(event: string | symbol, listener: (this: WebSocketServer, ...args: any[]) => void): this;
    removeListener<K extends keyof ServerListeners>(event: K, listener: (this: WebSocketServer, ...args: ServerListeners[K]) => void): this;
    removeListener(event: string | symbol, listener: (this: WebSocketServer, ...args: any[]) => void): this;
  }

  export { ClientTlsOptions, CloseInfo, ConnectionError, GiveUpInfo, Limit, Peer, PerMessageDeflateOptions, ReconnectOptions, RefusalCause, Request, SecureContextOptions, ServerTlsOptions, Stats };
  export { VerifyInfo, WayOptions, WebSocketAlias as WebSocket };
  export { WebSocketServer as Server };
}

export = WebSocket;
