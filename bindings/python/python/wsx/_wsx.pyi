from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Generator
from logging import Logger, LoggerAdapter
from typing import Any, Literal, Self, TypeAlias, Unpack, final, overload

from _typeshed import FileDescriptor, ReadableBuffer

from .handler import Handler
from .options import TLS, HeadersLike, LoopOptions, Options, Reconnect
from .protocol import Headers, State
from .statistics import Statistics

_LoggerLike: TypeAlias = Logger | LoggerAdapter[Any]

__all__ = [
    "VERSION",
    "Arrival",
    "Client",
    "Close",
    "Connection",
    "EventLoop",
    "Failure",
    "Fragment",
    "GiveUp",
    "Inbox",
    "Limit",
    "Listener",
    "Opening",
    "Reconnecting",
    "Request",
    "Response",
    "SharedMessage",
    "Timer",
]

VERSION: str

@final
class EventLoop:
    """An event loop: listeners, connections and timers, all turned by one thread.

    It belongs to the thread of its first turn. Lines that say [any thread] name what others may call; the rest is for
    the loop's thread, and for any before the first turn. A loop lives until `close`, or the end of its `with`: every
    connection then hears its `on_close`. One that is only forgotten ends its connections without a word.
    """

    def __new__(cls, *, logger: _LoggerLike | None = None, **options: Unpack[LoopOptions]) -> Self: ...
    def set_logger(self, logger: _LoggerLike | None, /) -> None:
        """Has a logger told what happens, up to the level that it lets through now; None ends that. [any thread]

        Records have the attribute `topic`: "listener", "request", "tls", "connection", "backlog" or "callback".
        """
    def listen(
        self,
        address: str,
        handler: Handler | object | None = None,
        *,
        on_request: Callable[[Request], Response | None] | None = None,
        after_deferral: Callable[[Connection, bool], object] | None = None,
        on_open: Callable[[Connection, Opening], object] | None = None,
        on_message: Callable[[Connection, Any], object] | None = None,
        on_fragment: Callable[[Connection, Fragment], object] | None = None,
        on_ping: Callable[[Connection, bytes], object] | None = None,
        on_pong: Callable[[Connection, bytes], object] | None = None,
        on_drain: Callable[[Connection], object] | None = None,
        on_error: Callable[[Connection, Failure], object] | None = None,
        on_close: Callable[[Connection, Close], object] | None = None,
        on_listener_error: Callable[[Listener, Failure], object] | None = None,
        **options: Unpack[Options],
    ) -> Listener:
        """Listens on `HOST:PORT` (`127.0.0.1:9001`, `[::1]:0`, a name) or `unix:PATH`.

        Callbacks are methods of `handler`, or functions; a function goes before the method. Port 0 lets the system
        choose; `local_address` tells.
        """
    def adopt(
        self,
        descriptor: int,
        handler: Handler | object | None = None,
        *,
        on_request: Callable[[Request], Response | None] | None = None,
        after_deferral: Callable[[Connection, bool], object] | None = None,
        on_open: Callable[[Connection, Opening], object] | None = None,
        on_message: Callable[[Connection, Any], object] | None = None,
        on_fragment: Callable[[Connection, Fragment], object] | None = None,
        on_ping: Callable[[Connection, bytes], object] | None = None,
        on_pong: Callable[[Connection, bytes], object] | None = None,
        on_drain: Callable[[Connection], object] | None = None,
        on_error: Callable[[Connection, Failure], object] | None = None,
        on_close: Callable[[Connection, Close], object] | None = None,
        on_listener_error: Callable[[Listener, Failure], object] | None = None,
        **options: Unpack[Options],
    ) -> Listener:
        """Listens on a socket that is bound and listening: `loop.adopt(socket.detach(), ...)`. The loop owns it."""
    @overload
    def connect(
        self,
        url: str,
        handler: Handler | object | None = None,
        *,
        on_open: Callable[[Connection, Opening], object] | None = None,
        on_message: Callable[[Connection, Any], object] | None = None,
        on_fragment: Callable[[Connection, Fragment], object] | None = None,
        on_ping: Callable[[Connection, bytes], object] | None = None,
        on_pong: Callable[[Connection, bytes], object] | None = None,
        on_drain: Callable[[Connection], object] | None = None,
        on_error: Callable[[Connection, Failure], object] | None = None,
        on_close: Callable[[Connection, Close], object] | None = None,
        on_reconnecting: Callable[[Client, Reconnecting], object] | None = None,
        on_give_up: Callable[[Client, GiveUp], object] | None = None,
        reconnect: Literal[False] | None = None,
        **options: Unpack[Options],
    ) -> Connection:
        """Connects to `ws://HOST[:PORT]/PATH`, `wss://HOST[:PORT]/PATH` or `ws+unix:PATH:/TARGET`.

        `on_open` tells when it may be sent to.

        Names are looked up off the loop's thread. What fails is told by `on_error`, then `on_close`.

        With `reconnect` it connects again whenever the connection ends, until there is a reason to give up (see
        `wsx.Reconnect`), and what is returned is a `Client`. Each attempt is a connection of its own, which hears
        `on_open` where it succeeds, and its `on_error` and `on_close`; then either `on_reconnecting` tells when the next
        attempt will be made, or `on_give_up`, the last event, that there will be none.
        """
    @overload
    def connect(
        self,
        url: str,
        handler: Handler | object | None = None,
        *,
        on_open: Callable[[Connection, Opening], object] | None = None,
        on_message: Callable[[Connection, Any], object] | None = None,
        on_fragment: Callable[[Connection, Fragment], object] | None = None,
        on_ping: Callable[[Connection, bytes], object] | None = None,
        on_pong: Callable[[Connection, bytes], object] | None = None,
        on_drain: Callable[[Connection], object] | None = None,
        on_error: Callable[[Connection, Failure], object] | None = None,
        on_close: Callable[[Connection, Close], object] | None = None,
        on_reconnecting: Callable[[Client, Reconnecting], object] | None = None,
        on_give_up: Callable[[Client, GiveUp], object] | None = None,
        reconnect: Literal[True] | Reconnect,
        **options: Unpack[Options],
    ) -> Client: ...
    def run(self) -> None:
        """Turns until `stop` is called or a `shutdown` is done; other threads run while it waits.

        Signals are handled at once; on the main thread Ctrl-C ends it with KeyboardInterrupt.
        """
    def turn(self, timeout: float | None = None) -> bool:
        """One turn: waits at most `timeout` seconds (None: until something happens), then does what there is to do.

        False after `stop`, and when a `shutdown` is done.
        """
    def flush(self) -> None:
        """Writes what was sent since the last turn. A host that turns the loop calls this once per tick of its own."""
    def next_deadline(self) -> float | None:
        """Seconds until the next turn is due: 0 where work waits, None where only the descriptor can tell."""
    def fileno(self) -> FileDescriptor:
        """The descriptor that is readable when a turn is due."""
    def on_output(self, schedule: Callable[[], object] | None) -> None:
        """Has `schedule()` called when something was done between turns that a flush must follow.

        It is called on the loop's thread, and once until the next turn or flush. None ends it.
        """
    def broadcast(self, message: str | ReadableBuffer, /, exclude: Connection | None = None) -> None:
        """Sends a message to every open server connection of this loop but `exclude`, encoded once. [any thread]"""
    def publish(self, topic: str, message: str | ReadableBuffer, /, exclude: Connection | None = None) -> None:
        """Sends a message to every subscriber of a topic but `exclude`, encoded once. [any thread]"""
    def statistics(self) -> Statistics:
        """What was counted of all connections of this loop: of its listeners, those that are gone among them, and of its
        clients. [any thread]"""
    def metrics(self) -> str:
        """Everything that was counted, in the text format of Prometheus: for each listener with its address as the label
        `listener`, for the clients and the loop itself without. [any thread]

        A request hook can answer it as it is: `wsx.Response.page(loop.metrics(), wsx.METRICS_TYPE)`.
        """
    @property
    def connection_count(self) -> int:
        """How many server connections are open."""
    @property
    def connections(self) -> list[Connection]:
        """The open server connections."""
    def subscriber_count(self, topic: str, /) -> int:
        """How many connections subscribe to a topic."""
    def call_later(self, delay: float, function: Callable[..., object], /, *arguments: object) -> Timer:
        """Calls `function(*arguments)` once, in `delay` seconds, unless it is cancelled before."""
    def post(self, function: Callable[..., object], /, *arguments: object) -> None:
        """Calls `function(*arguments)` on the loop's thread, in its next turn. [any thread]"""
    def wake(self) -> None:
        """Makes the turn in progress, or the next one, return without waiting. [any thread]"""
    def stop(self) -> None:
        """Makes `run` return after its turn; connections stay as they are. [any thread]"""
    def shutdown(self, grace: float = 1.0) -> None:
        """Ends in order: stops accepting, closes every connection with 1001, waits up to `grace` seconds, cuts what is
        left, and makes `run` return. [any thread]"""
    def close(self) -> None:
        """Ends the loop: every connection hears its `on_close`. Closing again does nothing."""
    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class Connection:
    """A connection: the same object in every callback, usable at any time and from any thread.

    Once the connection is gone, calls raise `ConnectionClosed`; inside `on_close` its properties are still known. Calls
    marked [any thread] made from another thread are accepted here and done on the loop's; what is lost there is counted
    in `Close.lost_messages`. Properties are for the loop's thread.
    """

    data: Any
    """Whatever the program wants to keep with the connection; None at first."""
    def send(self, message: str | ReadableBuffer | SharedMessage, /) -> None:
        """Sends a message: str as text, bytes-like as binary. It leaves at the end of the turn. [any thread]"""
    def send_fragment(self, payload: str | ReadableBuffer, /, *, is_last: bool, text: bool | None = None) -> None:
        """Sends a fragment of a message: the first call begins one, that with `is_last` ends it. [any thread]

        str is text, bytes-like is binary, unless `text` says otherwise: bytes of text may be cut inside a character. Until
        the last one other messages raise `ConcurrencyError`; pings, pongs and a Close may come between, and a Close leaves
        the message unfinished. What is broadcast or published meanwhile follows behind it, as far as `backlog_limit` goes;
        beyond that, and where the connection ends first, it counts in `Close.lost_messages`. A fragment that is refused was
        not sent, and another may be: ValueError for text that is not UTF-8 or another kind, `BacklogFull` also under the
        policy "drop". From another thread, where a call cannot tell, each of these ends the connection.
        """
    def ping(self, payload: ReadableBuffer | None = None) -> None:
        """Sends a ping of at most 125 bytes; the answer is told by `on_pong`, and `latency` then tells how long it took.

        A pong answers the first ping with its payload that is out, and every one before that. Of more than 64 that are out
        the oldest are forgotten. [any thread]
        """
    def pong(self, payload: ReadableBuffer | None = None) -> None:
        """Sends an unsolicited pong of at most 125 bytes. [any thread]"""
    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begins the closing handshake; what was sent before leaves first. [any thread]

        `code` is 1000 to 1003, 1007 to 1014 or 3000 to 4999, or 1005 for a Close without a code; `reason` is at most
        123 bytes. Closing twice raises `ConnectionClosed`.
        """
    def terminate(self) -> None:
        """Ends the transport at once, without a Close; what waits is lost. [any thread]"""
    def respond(self, response: Response | None = None, /) -> None:
        """Answers the request that was deferred by `wsx.LATER` under this number; None accepts it. [any thread]

        Once it returns, this is the answer, and no other can be: it takes effect in this turn of the loop or its next one,
        unless the client leaves or a shutdown begins before. Too late, for the client has left or the timeout has run out,
        raises `ConnectionClosed`; a request that was answered, or not deferred, `InvalidState`, and from another thread
        `ConnectionClosed` as well. After `QueueFull` the request still waits.
        """
    def write(self, body: str | ReadableBuffer, /) -> None:
        """Writes to the body of an HTTP stream (`Response.stream`), a str as UTF-8. [any thread]"""
    def subscribe(self, topic: str, /) -> None:
        """Subscribes an open server connection to a topic; twice is once. [any thread]"""
    def unsubscribe(self, topic: str, /) -> None:
        """Ends a subscription; one that does not exist is no error. [any thread]"""
    def pause(self) -> None:
        """Stops reading from the peer, who will feel it through TCP. [any thread]"""
    def resume(self) -> None:
        """Reads again after `pause`. [any thread]"""
    @property
    def buffered_amount(self) -> int:
        """Bytes queued here that the kernel has not taken yet."""
    @property
    def ready_state(self) -> State:
        """CONNECTING, OPEN, CLOSING or CLOSED."""
    @property
    def latency(self) -> float | None:
        """Seconds from the newest ping that was answered to its pong, the heartbeat's as well; None before the first."""
    @property
    def subprotocol(self) -> str | None:
        """The subprotocol agreed on."""
    @property
    def extensions(self) -> str:
        """The extensions agreed on, as the header of the answer says it: `permessage-deflate; ...`; empty for none."""
    @property
    def remote_address(self) -> Any:
        """Where the peer is, as Python's sockets tell it: `(host, port)` for IPv4, four items for IPv6, a path."""
    @property
    def id(self) -> int:
        """The number of the connection: loop, generation and slot in 64 bits."""

@final
class Client:
    """A client that connects again: one number over all its connections. Two objects of one client are equal.

    Once it has given up, or was closed, calls raise `ConnectionClosed`. What another thread sent and the loop could not
    pass on is counted in `Close.lost_messages` or `GiveUp.lost_messages`. Properties are for the loop's thread.
    """

    def send(self, message: str | ReadableBuffer, /) -> None:
        """Sends a message on the connection that is open. [any thread]

        Where there is none it waits for the next one, as far as `Reconnect.offline_limit` lets it; what waits leaves in
        order as soon as a connection opens, before its `on_open`. What was on its way when a connection was lost is told
        with its `Close`, and is not sent again.
        """
    def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes the connection, and connects no more: `on_give_up` comes after its `on_close`. [any thread]

        A client that waits for its next attempt ends at once. To close the connection alone is to connect again, unless
        the code says otherwise.
        """
    def terminate(self) -> None:
        """Ends the transport at once, without a Close, and connects no more; also where `close` was called
        before, and the server does not answer it. [any thread]"""
    @property
    def connection(self) -> Connection | None:
        """The connection, open or not; None while the client waits for its next attempt."""
    @property
    def buffered_amount(self) -> int:
        """Bytes that wait: those of the connection, and of the offline queue."""
    @property
    def id(self) -> int:
        """The number of the client: loop, generation and slot in 64 bits."""

@final
class Reconnecting:
    """A client is about to wait, and then to connect again."""

    @property
    def attempt(self) -> int:
        """Which attempt in a row this will be: 1 for the first one after a connection that lasted."""
    @property
    def delay(self) -> float:
        """How long it waits from now on, in seconds."""
    @property
    def cause(self) -> Close:
        """How the connection before ended."""

@final
class GiveUp:
    """A client has given up; `str` is its message."""

    @property
    def kind(self) -> Literal["finished", "close_code", "http_status", "socks_refusal", "attempts", "closed", "shutdown"]:
        """Why."""
    @property
    def close_code(self) -> int | None:
        """The code of the Close that has just been told; None where the client was waiting."""
    @property
    def http_status(self) -> int | None:
        """The HTTP status that the last attempt was answered with, where it was."""
    @property
    def attempts(self) -> int:
        """Attempts in a row to connect again, up to now."""
    @property
    def lost_messages(self) -> int:
        """Messages that were taken by `Client.send` and reached no connection."""
    @property
    def message(self) -> str:
        """One sentence for people."""

@final
class SharedMessage:
    """A message that is encoded once, to be sent many times: `connection.send(shared)`, from any thread.

    A server's peers get the very bytes, compressed at most once for all that keep no context; a client's are masked, and so
    copied. To send to all of a listener's connections, or to subscribers, use `broadcast` and `publish`, which do the same.
    """

    def __new__(cls, message: str | ReadableBuffer, /) -> Self: ...

@final
class Inbox:
    """What coroutines receive from; `wsx.asyncio` is made with it, and it is not for programs.

    The messages of a connection that nobody has received yet. When more than `high` wait, the peer is not read any
    further, until no more than `low` do. `await` receives one message, `async for` all until the connection ends in
    order. As `on_message`, the class itself stands for the inbox of each connection.
    """

    def __new__(cls, host: AbstractEventLoop, high: int | None, low: int) -> Self: ...
    def attach(self, connection: Connection) -> None: ...
    def end(self, exception: Callable[[], Exception]) -> None: ...
    def resume(self) -> None: ...
    def __len__(self) -> int: ...
    def __await__(self) -> Generator[Any, None, Any]: ...
    def __aiter__(self) -> Arrival: ...

@final
class Arrival:
    """What is awaited for a message: of one `await`, or of a whole `async for`. It is not for programs."""

    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Awaitable[Any]: ...
    def __await__(self) -> Generator[Any, None, Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any: ...
    def close(self) -> None: ...
    def aclose(self) -> Awaitable[None]:
        """Ends an iteration: nothing is received by it any more, and what has come stays to be received."""

@final
class Listener:
    """Something that listens; `str` tells where, as `127.0.0.1:9001`."""

    @property
    def local_address(self) -> Any:
        """Where it listens, as Python's sockets tell it, with the port that the system chose."""
    def route(
        self,
        path: str,
        /,
        handler: Handler | object | None = None,
        *,
        on_request: Callable[[Request], Response | None] | None = None,
        after_deferral: Callable[[Connection, bool], object] | None = None,
        on_open: Callable[[Connection, Opening], object] | None = None,
        on_message: Callable[[Connection, Any], object] | None = None,
        on_fragment: Callable[[Connection, Fragment], object] | None = None,
        on_ping: Callable[[Connection, bytes], object] | None = None,
        on_pong: Callable[[Connection, bytes], object] | None = None,
        on_drain: Callable[[Connection], object] | None = None,
        on_error: Callable[[Connection, Failure], object] | None = None,
        on_close: Callable[[Connection, Close], object] | None = None,
        on_listener_error: Callable[[Listener, Failure], object] | None = None,
        **options: Unpack[Options],
    ) -> Listener:
        """Serves a path with options and callbacks of its own: `/chat`, or `/rooms/*` for everything below `/rooms/`.

        The path is compared with that of the request as it came, without the query. A whole path goes before the others, the
        longest of those before the shorter; what no route leads to is the listener's. Plain requests come to the route as
        well. Broadcasts and counts are those of the route alone. Closing it gives the path back to the listener; closing the
        listener ends its routes.

        ValueError: the path cannot be one, or has a route already; or an option concerns the socket or the request's head,
        which are the listener's (`ssl`, `path`, `max_head`, `max_headers`, `max_connections_per_address`, `listen_backlog`,
        `reuse_port`, `no_delay`, `keep_alive_...`). `max_connections` is the route's own beside the listener's, which counts
        those of its routes. ConnectionClosed: the listener is closed.
        """
    def close(self) -> None:
        """Stops accepting and frees the address; open connections stay. [any thread]"""
    def reload_tls(self, tls: TLS, /) -> None:
        """Begins TLS anew with these choices: a renewed certificate, say. [any thread]

        Files are read here and now; where they are no good, that is raised and nothing has changed. Connections that are
        open, or in the handshake, go on with the choices they began with. A plain listener raises ValueError.
        """
    def broadcast(self, message: str | ReadableBuffer, /, exclude: Connection | None = None) -> None:
        """Sends a message to every open connection of this listener but `exclude`, encoded once. [any thread]"""
    def statistics(self) -> Statistics:
        """What was counted of this listener's connections; known until it is closed and its last connection gone.
        [any thread]"""
    @property
    def connection_count(self) -> int:
        """How many connections of this listener are open."""
    @property
    def connections(self) -> list[Connection]:
        """The open connections of this listener."""

@final
class Timer:
    """A timer of the loop."""

    def cancel(self) -> None:
        """Cancels the timer; one that has run is no error."""

@final
class Request:
    """An HTTP request that reached a listener: what the request hook sees."""

    @property
    def connection(self) -> Connection:
        """The connection this will be, if it is accepted or answered with a stream."""
    @property
    def remote_address(self) -> Any:
        """Where the peer is."""
    @property
    def method(self) -> str:
        """The method; always GET where `is_upgrade`."""
    @property
    def path(self) -> str:
        """The path as it came (percent signs are not decoded), without the query."""
    @property
    def query(self) -> str | None:
        """The query as it came, without the question mark."""
    @property
    def query_parameters(self) -> list[tuple[str, str]]:
        """The parameters of the query, as name and value, in the order they came, with percent signs and `+` decoded.

        `dict(request.query_parameters)` has the last of each name. What is no UTF-8 comes as U+FFFD. Parsed anew each time.
        """
    def query_parameter(self, name: str, /) -> str | None:
        """The value of the first parameter of this name in the query, decoded; empty where it has none."""
    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by their names; of several of one name the first, which is that of the longest path.

        Values are as they came, quotes too. What is no cookie or no UTF-8 is left out. Parsed anew each time.
        """
    def cookie(self, name: str, /) -> str | None:
        """The value of the first cookie of this name."""
    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols the client offers, in its order."""
    @property
    def is_upgrade(self) -> bool:
        """Whether this is a valid request for a WebSocket, rather than a plain HTTP request."""
    @property
    def is_secure(self) -> bool:
        """Whether it came over TLS that ends here, rather than at a proxy."""
    @property
    def peer_certificates(self) -> tuple[bytes, ...]:
        """The client's certificate and those of its issuers that it sent, in DER, its own first.

        It is verified: from an issuer in `TLS.ca`, valid now, and the client has its key. Empty where it showed none, or
        was not asked (`TLS.client_auth`).
        """
    @property
    def server_name(self) -> str | None:
        """The name that the client asked for in the TLS handshake, in lower case; None without TLS, and for an address."""
    @property
    def headers(self) -> Headers:
        """The headers."""

@final
class Opening:
    """The opening handshake that made a connection open."""

    @property
    def request(self) -> Request | None:
        """Server: the client's request. Client: None."""
    @property
    def subprotocol(self) -> str | None:
        """The subprotocol agreed on."""
    @property
    def headers(self) -> Headers:
        """Client: the headers of the server's answer. Server: those of the request."""

@final
class Response:
    """The answer of a request hook. One may be kept and answered again and again."""

    @staticmethod
    def accept(subprotocol: str | None = None, headers: HeadersLike | None = None) -> Response:
        """Open the WebSocket, with a subprotocol that the client has offered. A plain HTTP request gets 426."""
    @staticmethod
    def later() -> Response:
        """Answer later: this is `wsx.LATER`."""
    @staticmethod
    def reject(status: int, body: str | ReadableBuffer | None = None, headers: HeadersLike | None = None) -> Response:
        """Refuse, or answer, with this status (200 to 599) and a body of plain text."""
    @staticmethod
    def page(
        body: str | ReadableBuffer,
        content_type: str = "text/html; charset=utf-8",
        status: int = 200,
        headers: HeadersLike | None = None,
    ) -> Response:
        """Answer with a page, or anything else that is whole. TCP is closed after it."""
    @staticmethod
    def stream(content_type: str, headers: HeadersLike | None = None) -> Response:
        """Answer with a body that stays open: `write` to `request.connection`, end it with `close`, hear `on_close`."""

@final
class Close:
    """How a connection ended; `str` tells it in a sentence."""

    @property
    def code(self) -> int:
        """The code of who began; 1005 where the peer's Close had none, 1006 where there was no Close."""
    @property
    def reason(self) -> str:
        """The reason that came with the code."""
    @property
    def was_clean(self) -> bool:
        """The closing handshake was completed and nothing failed."""
    @property
    def by(self) -> Literal["us", "peer"]:
        """Who began."""
    @property
    def failure(self) -> Failure | None:
        """What failed, where something did."""
    @property
    def undelivered_messages(self) -> int:
        """Messages that the program sent and that did not wholly reach the kernel.

        Those are what waited when the connection ended, one that was under way in part, and the `lost_messages`. Over TLS
        up to 64 KiB of what was being written count as well, of which the kernel may have taken a part. What reached the
        kernel may have been lost on its way, which only an answer of the peer's program can tell. Of an HTTP stream only
        the writes that were lost are counted: what waited is told by `unsent_bytes`.
        """
    @property
    def lost_messages(self) -> int:
        """Those that were taken and then lost before the end: dropped by policy, or taken from another thread and refused
        on the loop."""
    @property
    def unsent_bytes(self) -> int:
        """Bytes that the program had sent and that did not reach the kernel."""
    @property
    def text(self) -> str:
        """All of it in one sentence, as `str` tells it."""

@final
class Failure:
    """What went wrong with a connection; `str` is its message."""

    @property
    def stage(self) -> Literal["resolve", "connect", "proxy", "tls", "http", "websocket"]:
        """How far the connection had come."""
    @property
    def kind(self) -> Literal["protocol", "refused", "limit", "timeout", "transport", "shutdown", "callback"]:
        """What kind of thing went wrong."""
    @property
    def limit(self) -> Limit | None:
        """The limit or timeout that struck: there exactly if `kind` is "limit" or "timeout"."""
    @property
    def os_error(self) -> int | None:
        """The system's error number, where it reported one."""
    @property
    def http_status(self) -> int | None:
        """The HTTP status the peer answered, where it did."""
    @property
    def message(self) -> str:
        """One sentence for people: what happened and what to do about it."""

@final
class Limit:
    """A limit or timeout that struck."""

    @property
    def option(self) -> str:
        """The option that sets it, by its name in `wsx.options`; "tls_handshake_message" is none of them but fixed."""
    @property
    def unit(self) -> Literal["bytes", "count", "seconds"]:
        """The unit of `value` and `reached`."""
    @property
    def value(self) -> float:
        """What it is set to: an int, but for seconds."""
    @property
    def reached(self) -> int | None:
        """What was reached, where that is known: for `max_message` the bytes that the frames so far have announced, for
        `backlog_limit` those that waited."""

@final
class Fragment:
    """One frame of a message, where `deliver_fragments` asks for them. Text may be cut inside a character."""

    @property
    def payload(self) -> bytes:
        """The payload of this frame."""
    @property
    def is_text(self) -> bool:
        """Whether the message is text."""
    @property
    def is_first(self) -> bool:
        """First frame of its message."""
    @property
    def is_last(self) -> bool:
        """Last frame of its message."""
