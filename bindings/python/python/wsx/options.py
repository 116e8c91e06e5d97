"""Every option, for type checkers and for reading. Names, defaults and meanings are those of the engine.

Sizes are bytes. Timeouts are seconds; None is off. A size or count of None or 0 means "no limit", unless its line says
otherwise.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Literal, TypeAlias, TypedDict

__all__ = ["PEM", "TLS", "CoroutineOptions", "Deflate", "HeadersLike", "LoopOptions", "MoreOptions", "Options", "Reconnect"]

HeadersLike: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers to send: a mapping, or pairs."""

PEM: TypeAlias = str | PathLike[str] | bytes
"""A text in PEM: a path is that of its file, bytes are the text itself."""


@dataclass(frozen=True, kw_only=True)
class Deflate:
    """Compression by permessage-deflate (RFC 7692): `compression=wsx.Deflate()`.

    A server agrees to the first offer of a client that it can keep, within what is said here; a client offers what is
    said here, and the server may decline, which opens the connection without compression. `extensions` of the connection
    tells what came of it. `max_message` counts what a message inflates to.

    A context is what one message leaves to the next one, to be referred to. It makes small messages that resemble each
    other much smaller, and costs each connection memory from the first of them on: 47 KiB to inflate, and 371 KiB to
    compress, less with a smaller window.
    """

    level: int = 6
    """How hard to try: 1 (fast) to 9 (small)."""
    threshold: int | None = 1024
    """Messages of fewer bytes are sent as they are. None or 0: all are compressed."""
    server_no_context_takeover: bool = True
    """The server keeps no context. A server answers it, asked or not; a client demands it."""
    client_no_context_takeover: bool = True
    """The client keeps no context. A server demands it; a client says so and does so."""
    server_max_window_bits: int = 15
    """The size of the window that the server compresses with, as a power of two: 9 (512 bytes) to 15 (32 KiB). A client
    with less than 15 demands it."""
    client_max_window_bits: int = 15
    """The same for what the client compresses. A server with less than 15 demands it from each client that lets itself be
    told; others use 15."""


@dataclass(frozen=True, kw_only=True)
class TLS:
    """The choices for TLS 1.2 and 1.3: `ssl=wsx.TLS(cert="cert.pem", key="key.pem")`.

    What is given as a file is read when a listener or a connection is made, or TLS is reloaded, and errors in it are
    raised there.
    """

    cert: PEM | None = None
    """The certificate, then those of its issuers, up to one that the peer knows. A server needs one; a client shows it
    when the server asks for one."""
    key: PEM | None = field(default=None, repr=False)
    """The private key of `cert`, not encrypted."""
    certificates: Sequence[tuple[PEM, PEM]] = field(default=(), repr=False)
    """Server: more certificates, each with its key. The first of all that is valid for the name the client asks for is
    shown; `cert` where none is."""
    ca: PEM | None = None
    """Client: certificates of the issuers to trust, instead of the system's. Server: those of the issuers of acceptable
    client certificates, for `client_auth`."""
    client_auth: Literal["none", "optional", "required"] = "none"
    """Server: whether clients are asked for a certificate. "optional" serves a client without one, and refuses one from
    another issuer than those in `ca`; "required" refuses both."""
    server_name: str | None = None
    """Client: the name to ask for, and to find in the server's certificate, instead of the host of the URL."""
    alpn: Sequence[str] = ()
    """The protocols to agree on (ALPN, RFC 7301), in order of preference; none is "http/1.1". A peer that offers only
    others is refused."""
    danger_accept_invalid_certificates: bool = False
    """Client: take any certificate, of anybody, for any name. Whoever is on the way can then read and change everything.
    For tests."""


@dataclass(frozen=True, kw_only=True)
class Reconnect:
    """How a client connects again: `loop.connect(url, reconnect=wsx.Reconnect())`.

    The n-th attempt in a row waits for a time that is chosen at random between zero and `base_delay` * 2**(n - 1), at
    most `max_delay`. A server that answers with Retry-After is left alone for that much longer, at most an hour.

    The client gives up after a close in order with 1000; after the codes 1002, 1003, 1007, 1008, 1010, 3500 to 3999 and
    4500 to 4999; after the HTTP statuses 400, 401, 403, 404, 407, 410 and 426, also where an HTTP proxy answers so; and
    where a SOCKS5 proxy refuses the user name and password, or all ways to authenticate that it is offered, or its rules do
    not allow the connection.
    """

    base_delay: float | None = 0.25
    """The longest delay before the first attempt in a row, in seconds. None is the default."""
    max_delay: float | None = 30
    """The longest delay of all, at least `base_delay`. None is the default."""
    reset_after: float | None = 5
    """A connection that was open for so long begins the count of attempts, and with it the delay, anew. None or 0: each
    one that opens does."""
    max_attempts: int | None = None
    """Most attempts in a row to connect again. Beyond it the client gives up. None or 0: no limit."""
    offline_limit: int | None = None
    """Most bytes of messages that wait for the next connection while there is none, at most `backlog_limit`; each counts 32
    bytes more than its payload. Beyond it `send` raises `BacklogFull`. None or 0: nothing waits, and `send` raises
    `InvalidState`."""


class MoreOptions(TypedDict, total=False):
    """The options that `wsx.connect` and `wsx.serve` take as they are; they name the others as `websockets` does."""

    max_message: int | None
    """Largest message a peer may send. Beyond it: Close 1009, before memory is taken. Default 1 MiB."""
    max_fragments: int | None
    """Most fragments of one message. Beyond it: Close 1008. Default 1,024."""
    deliver_fragments: bool
    """Hand over each frame of a fragmented message by `on_fragment`. Default False."""
    max_head: int | None
    """Largest HTTP head. Beyond it: 431. Default 16 KiB; None is the default."""
    max_headers: int | None
    """Most headers in an HTTP head, at most 256. Beyond it: 431. Default 100; None is the default."""
    handshake_timeout: float | None
    """From the TCP connection to `on_open`, a client's name lookup included. Beyond it: closed. Default 10."""
    pong_timeout: float | None
    """How long a peer may stay silent after our ping. Beyond it: closed as 1006, cause told. Default 20."""
    progress_timeout: float | None
    """How long output may wait without the peer taking a byte. Beyond it: closed as 1006, cause told. Default 10."""
    backlog_limit: int | None
    """Most output that may wait for one peer, counted after a turn's flush. Default 1 MiB."""
    backlog_policy: Literal["close", "drop", "refuse", "pause"]
    """What happens beyond `backlog_limit`. "close" (the default): Close 1013. "drop": the message is lost, and counted.
    "refuse": `send` raises `BacklogFull`. "pause": it is taken, and the peer is not read until its backlog is drained."""
    max_topics: int
    """Most topics one connection may subscribe to. Default 128."""
    max_topic_name: int | None
    """Longest name of a topic to subscribe to, in bytes, at most 255. Beyond it: ValueError. Default 255; None is the
    default."""
    compression: Literal["deflate"] | Deflate | None
    """Compress messages with peers that agree: "deflate" is `Deflate()`. Default None: neither answered nor offered."""
    no_delay: bool
    """Set TCP_NODELAY. Default True."""
    keep_alive_idle: float | None
    """TCP's own keep-alive: after so long without a byte either way the kernel asks whether the peer's machine is still
    there, also while the heartbeat is off or reading is paused. It counts in whole seconds, at most 32,767. Beyond it:
    closed as 1006, with the system's error. Default None: off, and 30 for HTTP streams."""
    keep_alive_interval: float | None
    """Between such questions, while none is answered. Default None: the system's, as a rule 75 (30 for HTTP streams)."""
    keep_alive_count: int | None
    """How many of them stay without an answer before the connection is given up, at most 127. Default None: the system's,
    as a rule 9."""
    ssl: TLS | Literal[True] | None
    """TLS. Server: every connection speaks it. Client: the choices for `wss://`, which speaks TLS in any case; without
    effect on `ws://`. Default None: a server is plain, a client trusts the issuers that the system trusts, as with True."""
    origins: Literal["same-host", "any"] | Sequence[str]
    """Server: which web pages may connect. Default "same-host": the page's host and port must equal those asked for.

    A list has origins as browsers send them: "https://example.org", "null". "https://*.example.org" stands for every
    subdomain, however deep, and not for "https://example.org" itself. What is no origin raises ValueError."""
    path: str | None
    """Server: the only path that is upgraded. Default None: any."""
    max_connections: int | None
    """Server: most connections of this listener. Each counts from its acceptance (of a route, from its request) to its end,
    also where it is refused. Beyond it: 503. Default None: the descriptor limit less a reserve."""
    max_connections_per_address: int | None
    """Server: most connections of this listener from one address: one of IPv4 (also where it is mapped to IPv6), or a
    network of IPv6 with 64 bits. They count from their acceptance to their end; those over a Unix socket do not. Beyond
    it: a few get 503, any more are closed at once, and all are over TLS. Behind a proxy leave it off. Default None."""
    listen_backlog: int
    """Server: the kernel's queue of connections not yet accepted. Default 1,024."""
    reuse_port: bool
    """Server: let several listeners share the address, one per loop. Default False."""
    headers: HeadersLike
    """Client: further headers of the request. Default none."""
    proxy: str | Literal[True] | None
    """Client: connect through this proxy, except to a Unix socket: "http://[user:password@]host[:port]" by CONNECT,
    "socks5://" and "socks5h://" by SOCKS5, where the host's name is looked up here, or by the proxy. True: the one that the
    environment names, as curl reads `https_proxy`, `http_proxy`, `all_proxy` and `no_proxy`, which is the default of
    `websockets`. "https://" proxies are refused. Default None."""
    max_redirects: int | None
    """Client: most redirects to follow. Beyond it, and from `wss://` to `ws://`, the connection fails. To another origin go
    neither the user of the URL nor headers whose names tell of credentials: Authorization, Cookie, and all with `token`,
    `key`, `secret`, `session` or `password` in them. None or 0: none is followed. Default 0."""
    connect_timeout: float | None
    """Client: how long it may take until the request can be sent: name, TCP, proxy, TLS; for each redirect anew. Beyond it:
    failed, under the stage it had come to. Of a name's addresses up to 32 are tried, the next one 0.25 after the last, or
    when that fails (RFC 8305). Default None: no limit but `handshake_timeout`, which counts as well."""


class Options(MoreOptions, total=False):
    """The options of a listener or of a client connection."""

    subprotocols: Sequence[str]
    """Server: those spoken, in order of preference. Client: those offered. Default none."""
    ping_interval: float | None
    """Ping after so long without a byte from the peer. Default 25; None: no heartbeat."""
    close_timeout: float | None
    """How long the closing handshake may take. Beyond it: TCP is closed. Default 5; None is the default."""


class CoroutineOptions(MoreOptions, total=False):
    """The options of `wsx.connect`, `wsx.serve` and its routes: the engine's, and beside them those that the `websockets`
    package names otherwise, or begins with otherwise. Where both names are given the engine's own counts."""

    subprotocols: Sequence[str] | None
    """Server: those spoken, in order of preference. Client: those offered. Default None: none."""
    open_timeout: float | None
    """`handshake_timeout`. Default 10."""
    ping_interval: float | None
    """Ping after so long without a byte from the peer. Default 20; None: no heartbeat."""
    ping_timeout: float | None
    """`pong_timeout`. Default 20."""
    close_timeout: float | None
    """How long the closing handshake may take. Beyond it: TCP is closed. Default 10; None is 5."""
    max_size: int | None
    """`max_message`. Default 1 MiB."""


class LoopOptions(TypedDict, total=False):
    """The options of an event loop itself."""

    max_commands: int
    """Most calls from other threads that may wait. Beyond it they raise `QueueFull`. Default 65,536."""
    max_command_bytes: int
    """Most payload bytes in those calls. Default 16 MiB."""
    receive_buffer: int
    """Size of the loop's one receive buffer; at least 4 KiB. Default 256 KiB."""
    measure_callbacks: bool
    """Measure how long callbacks take, for `Statistics.longest_callback`. Default False."""
