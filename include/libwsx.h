/*
 * libwsx - one WebSocket engine for every program: server and client on one event loop.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * This file is generated from ffi/ by build.rs.
 *
 * An echo server:
 *
 *     #include <libwsx.h>
 *
 *     static void echo(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user)
 *     {
 *         (void)user;
 *         wsx_send(connection, kind, payload, length);
 *     }
 *
 *     int main(void)
 *     {
 *         wsx_callbacks callbacks = {.size = sizeof callbacks, .on_message = echo};
 *         wsx_loop *loop;
 *         if (wsx_loop_new(NULL, &loop) || wsx_listen(loop, "127.0.0.1:9001", NULL, &callbacks, NULL, NULL)) return 1;
 *         return wsx_loop_run(loop) ? 1 : 0;
 *     }
 *
 * Names. A loop and options are opaque objects with a _new and a _free. Connections, listeners and timers are
 * numbers: nothing to free, safe to keep, and once what they name is gone every call says so.
 *
 * Status. Functions that answer with int32_t return 0 (WSX_OK) or more where they succeed, and a negative WSX_ERR_
 * code where they do not; wsx_strerror() has a sentence for each code, wsx_last_error() one with names and figures.
 * Outputs are written only on success. A pointer that is NULL where one is needed is WSX_ERR_INVALID. What happens
 * later, to a connection, is told by on_error and on_close.
 *
 * Threads. A loop belongs to the thread that first drives it, and all its callbacks run there. [any thread] may be
 * called everywhere, also inside callbacks. [loop thread] may be called on that thread, and on any thread before the
 * loop's first turn; elsewhere the answer is WSX_ERR_WRONG_THREAD. wsx_loop_post() takes work to the loop's thread.
 * After wsx_options_set_threads() a loop has several, and [loop thread] is one of them: for a connection or a timer the
 * one that has it; to listen, to drive and to free the first; else any.
 *
 * Memory. Payloads are a pointer and a length, and need no NUL. Texts that a program passes (const char *) are UTF-8
 * with a NUL at their end. What is passed to a function is copied before it returns; what is passed to a callback is
 * borrowed until it returns.
 *
 * The library prints nothing, never exits, installs no signal handler, raises no SIGPIPE, and opens every descriptor
 * close-on-exec.
 */


#ifndef LIBWSX_H
#define LIBWSX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The version of this header; wsx_version() and wsx_version_string() tell the library's. */
#define WSX_VERSION "0.1.0"
#define WSX_VERSION_MAJOR 0
#define WSX_VERSION_MINOR 1
#define WSX_VERSION_PATCH 0
/** MAJOR * 1000000 + MINOR * 1000 + PATCH */
#define WSX_VERSION_NUMBER 1000

/** Success. */
#define WSX_OK 0

/** An argument is NULL, out of range or malformed. wsx_last_error() says which and why. */
#define WSX_ERR_INVALID (-1)

/** The number is stale, or what it names is closing or closed. Nothing to do but forget the number. */
#define WSX_ERR_CLOSED (-2)

/** The connection is not open yet: send from on_open. */
#define WSX_ERR_NOT_OPEN (-3)

/** The call does not fit this kind of connection: a topic for a client, a message on an HTTP stream. */
#define WSX_ERR_WRONG_KIND (-4)

/**
 * Too much output waits for this peer (policy WSX_BACKLOG_REFUSE): wait for on_drain. Or for a client that is offline:
 * wait for on_open.
 */
#define WSX_ERR_BACKLOG_FULL (-5)

/** Too many calls from other threads wait for the loop. Try again later. */
#define WSX_ERR_FULL (-6)

/** The call belongs to the loop's thread: get there with wsx_loop_post(). */
#define WSX_ERR_WRONG_THREAD (-7)

/**
 * The loop is busy in an outer call on this thread: wsx_loop_run, _turn, _flush, _next_timeout and _free cannot be
 * called from inside a callback.
 */
#define WSX_ERR_REENTRANT (-8)

/** The loop is gone. */
#define WSX_ERR_LOOP_GONE (-9)

/** This build was made without what was asked for, as TLS for wss. */
#define WSX_ERR_UNSUPPORTED (-10)

/** The system refused. wsx_last_error() says what was tried, wsx_last_os_error() is its errno. */
#define WSX_ERR_SYSTEM (-11)

/** A message is being sent in fragments, and no other may come between: send its last one first. */
#define WSX_ERR_MESSAGE_IN_PROGRESS (-13)

/** A defect in libwsx was caught at its border. The library stays usable; please report it with wsx_last_error(). */
#define WSX_ERR_PANIC (-12)

/** A message is text, valid UTF-8. */
#define WSX_TEXT 1

/** A message is any bytes. */
#define WSX_BINARY 2

/** Most bytes in the payload of a ping or pong. */
#define WSX_MAX_CONTROL_PAYLOAD 125

/** Most bytes in the reason of a close. */
#define WSX_MAX_CLOSE_REASON 123

/** Most bytes in the name of a topic. */
#define WSX_MAX_TOPIC_NAME 255

/** Beyond the backlog limit: the connection is closed with 1013 (the default). */
#define WSX_BACKLOG_CLOSE 0

/** Beyond the backlog limit: the message is dropped, and counted in lost_messages of wsx_close_info. */
#define WSX_BACKLOG_DROP 1

/** Beyond the backlog limit: sending answers WSX_ERR_BACKLOG_FULL. */
#define WSX_BACKLOG_REFUSE 2

/**
 * Beyond the backlog limit: the message is taken, and nothing is read from this peer until its backlog is drained:
 * what an echo server wants.
 */
#define WSX_BACKLOG_PAUSE 3

/** An Origin header must name the same host and port as the Host header (the default). */
#define WSX_ORIGINS_SAME_HOST 0

/** Any origin may connect; the request hook may still reject. */
#define WSX_ORIGINS_ANY 1

/** It failed while the host name was looked up. */
#define WSX_STAGE_RESOLVE 1

/** It failed while the transport was opened or accepted. */
#define WSX_STAGE_CONNECT 2

/** It failed in the TLS handshake, or TLS itself failed before the connection was open. */
#define WSX_STAGE_TLS 3

/** It failed in the HTTP part of the opening handshake, or in a plain HTTP answer. */
#define WSX_STAGE_HTTP 4

/** It failed while open or closing. */
#define WSX_STAGE_WEBSOCKET 5

/** It failed at a client's proxy, before its tunnel to the server was open; http_status is the proxy's. */
#define WSX_STAGE_PROXY 6

/** The peer broke the protocol. */
#define WSX_FAILURE_PROTOCOL 1

/** The peer answered, but not with what was asked for: http_status says more. */
#define WSX_FAILURE_REFUSED 2

/** A limit of the options was exceeded. */
#define WSX_FAILURE_LIMIT 3

/** A timeout of the options ran out. */
#define WSX_FAILURE_TIMEOUT 4

/** The system reported an error, or the peer's end vanished. */
#define WSX_FAILURE_TRANSPORT 5

/** The loop was shut down or freed. */
#define WSX_FAILURE_SHUTDOWN 6

/** A callback failed. */
#define WSX_FAILURE_CALLBACK 7

/** A limit counts bytes. */
#define WSX_UNIT_BYTES 1

/** A limit counts things, as fragments or headers. */
#define WSX_UNIT_COUNT 2

/** A timeout, in milliseconds. */
#define WSX_UNIT_MILLISECONDS 3

/** This end of a connection. */
#define WSX_SIDE_US 0

/** The other end of a connection. */
#define WSX_SIDE_PEER 1

/** Normal closure: the purpose is fulfilled. */
#define WSX_CLOSE_NORMAL 1000

/** A server shuts down, a page is left. */
#define WSX_CLOSE_GOING_AWAY 1001

/** Protocol error. */
#define WSX_CLOSE_PROTOCOL_ERROR 1002

/** Unsupported kind of message. */
#define WSX_CLOSE_UNSUPPORTED 1003

/** Never sent: the peer's close had no code. Given to wsx_close(): a close without a code. */
#define WSX_CLOSE_NO_STATUS 1005

/** Never sent: the connection ended without a close. */
#define WSX_CLOSE_ABNORMAL 1006

/** A payload does not fit its kind, as text that is not UTF-8. */
#define WSX_CLOSE_INVALID_PAYLOAD 1007

/** Policy violation. */
#define WSX_CLOSE_POLICY 1008

/** Message too big. */
#define WSX_CLOSE_TOO_BIG 1009

/** A client misses an extension. */
#define WSX_CLOSE_MANDATORY_EXTENSION 1010

/** Internal error. */
#define WSX_CLOSE_INTERNAL_ERROR 1011

/** The service restarts. */
#define WSX_CLOSE_SERVICE_RESTART 1012

/** The peer does not read fast enough, or the service is overloaded. */
#define WSX_CLOSE_TRY_AGAIN_LATER 1013

/** A server asks no client for a certificate (the default). */
#define WSX_CLIENT_AUTH_NONE 0

/** A server asks for a certificate, and serves a client that has none; a wrong one is refused. */
#define WSX_CLIENT_AUTH_OPTIONAL 1

/** A server asks for a certificate, and refuses a client that has none. */
#define WSX_CLIENT_AUTH_REQUIRED 2

/** The opening handshake is under way. */
#define WSX_STATE_CONNECTING 0

/** Messages flow. HTTP streams are in this state as well. */
#define WSX_STATE_OPEN 1

/** A close was sent or received, or the transport is being ended. */
#define WSX_STATE_CLOSING 2

/** Gone; also the answer for a stale number. */
#define WSX_STATE_CLOSED 3

/** 503: max_connections. */
#define WSX_REFUSED_FULL 1

/** 400: malformed HTTP, or a malformed opening handshake; TLS where plain HTTP is spoken. */
#define WSX_REFUSED_BAD_REQUEST 2

/** 405: neither GET nor HEAD. */
#define WSX_REFUSED_METHOD 3

/** 426: no opening handshake where a WebSocket is served, or one of another version. */
#define WSX_REFUSED_UPGRADE 4

/** 431: max_head or max_headers. */
#define WSX_REFUSED_HEAD_TOO_BIG 5

/** 404: the option path. */
#define WSX_REFUSED_PATH 6

/** 403: the option origins. */
#define WSX_REFUSED_ORIGIN 7

/** on_request rejected an opening handshake. */
#define WSX_REFUSED_HOOK 8

/** 500: on_request answered what cannot be sent. */
#define WSX_REFUSED_HOOK_FAILED 9

/** The TLS handshake failed; or there was none but plain HTTP, which gets 400. */
#define WSX_REFUSED_TLS 10

/** handshake_timeout: 408 where a request was begun. */
#define WSX_REFUSED_TIMEOUT 11

/** The client left before its request was whole. */
#define WSX_REFUSED_LEFT 12

/** The loop shut down first. */
#define WSX_REFUSED_SHUTDOWN 13

/** 503, or closed at once: max_connections_per_address. */
#define WSX_REFUSED_ADDRESS 14

/** A side closed in order with 1000: the purpose is fulfilled. */
#define WSX_GIVE_UP_FINISHED 1

/** A close code says that another attempt is of no use: 1002, 1003, 1007, 1008, 1010, 3500 to 3999, 4500 to 4999. */
#define WSX_GIVE_UP_CLOSE_CODE 2

/** The answer of the server, or of an HTTP proxy, says so: 400, 401, 403, 404, 407, 410 or 426. */
#define WSX_GIVE_UP_HTTP_STATUS 3

/** All attempts that wsx_options_set_reconnect_max_attempts() allows have failed. */
#define WSX_GIVE_UP_ATTEMPTS 4

/** The program called wsx_client_close() or wsx_client_terminate(). */
#define WSX_GIVE_UP_CLOSED 5

/** The loop was shut down or freed. */
#define WSX_GIVE_UP_SHUTDOWN 6

/**
 * A SOCKS5 proxy refuses the user name and password, or all ways to authenticate that it was offered, or its rules do
 * not allow the connection: on_error says which.
 */
#define WSX_GIVE_UP_SOCKS_REFUSAL 7

/** Log nothing. */
#define WSX_LOG_OFF 0

/** The program, or its system, has something to repair: nothing can be accepted, say. */
#define WSX_LOG_ERROR 1

/** A connection failed. */
#define WSX_LOG_WARNING 2

/** A listener begins or ends; a request or a TLS handshake was refused. */
#define WSX_LOG_INFORMATION 3

/** What every connection does: accepted, begun, open, closed; its backlog above the mark, and below it. */
#define WSX_LOG_DEBUG 4

/** Listening and accepting. */
#define WSX_TOPIC_LISTENER 1

/** A request, up to the answer. */
#define WSX_TOPIC_REQUEST 2

/** The TLS handshake. */
#define WSX_TOPIC_TLS 3

/** A connection: begun, open, failed, closed. */
#define WSX_TOPIC_CONNECTION 4

/** Output that waits. */
#define WSX_TOPIC_BACKLOG 5

/** The program's own callbacks. */
#define WSX_TOPIC_CALLBACK 6

/**
 * An event loop: sockets, timers and callbacks of one thread, the first one to run, turn or flush it, or to ask for
 * its timeout; and of further ones that it starts itself (wsx_options_set_threads()). A program may have several
 * loops.
 */
typedef struct wsx_loop wsx_loop;

/**
 * The opening handshake that made a connection open, as on_open sees it; borrowed until the callback returns, and so
 * is every text it answers with.
 */
typedef struct wsx_opening wsx_opening;

/**
 * The options of loops, listeners and client connections: one object holds them all, each call reads its own, and
 * later changes have no effect on what was made. A size or count of 0 means "no limit" and a timeout of 0 means "off",
 * unless a setter says otherwise.
 */
typedef struct wsx_options wsx_options;

/**
 * An HTTP request, as on_request sees it; borrowed until the callback returns, and so is every text it answers with.
 * Texts have a NUL at their end. The functions that ask it answer NULL or 0 for what is not there.
 */
typedef struct wsx_request wsx_request;

/**
 * The answer to a request: "accept" until a function below makes it another. The one of on_request is borrowed until
 * that returns; one of the program's own, for wsx_respond(), comes from wsx_response_new().
 */
typedef struct wsx_response wsx_response;

/** A message that is encoded once, to be sent many times: opaque. */
typedef struct wsx_shared wsx_shared;

/** A function of the program with its own pointer. */
typedef void (*wsx_function)(void *user);

/** A timer's number. */
typedef uint64_t wsx_timer;

/** A listener's number, made like a connection's. */
typedef uint64_t wsx_listener;

/**
 * A connection's number. It is never reused for another connection and needs no freeing: once the connection is gone,
 * calls answer WSX_ERR_CLOSED. 0 is never a connection.
 */
typedef uint64_t wsx_connection;

/**
 * What went wrong: told by on_error and on_listener_error, and again with the close. Borrowed until the callback
 * returns.
 */
typedef struct wsx_failure {
    /** Size of this struct in the library that runs: what lies beyond it is not there. */
    size_t size;
    /** How far the connection had come: a WSX_STAGE_ constant. */
    int32_t stage;
    /** What kind of thing went wrong: a WSX_FAILURE_ constant. New kinds may come. */
    int32_t kind;
    /** The system's errno; 0 where it reported none. */
    int32_t os_error;
    /** The HTTP status the peer answered; 0 where it did not. */
    int32_t http_status;
    /**
     * One sentence for people, with a NUL at its end: what happened and, where there is something, what to do about
     * it.
     */
    const char *message;
    /** Bytes of the message, without the NUL. */
    size_t message_length;
    /**
     * The option whose limit or timeout struck, by the name that its setter has behind wsx_options_set_, with a NUL at its
     * end: "max_message". "tls_handshake_message" is none of them but fixed, 64 KiB. NULL where none struck: it is there
     * exactly if the kind is WSX_FAILURE_LIMIT or WSX_FAILURE_TIMEOUT.
     */
    const char *limit_option;
    /** What that option is set to. */
    uint64_t limit;
    /**
     * What was reached, in the same unit, where that is known: for max_message the bytes that the frames so far have
     * announced, for backlog_limit those that waited. Else 0, as for all timeouts.
     */
    uint64_t limit_reached;
    /** Their unit: a WSX_UNIT_ constant; 0 where no limit struck. New units may come. */
    int32_t limit_unit;
} wsx_failure;

/** How a connection ended: told by on_close. Borrowed until the callback returns. */
typedef struct wsx_close_info {
    /** Size of this struct in the library that runs: what lies beyond it is not there. */
    size_t size;
    /**
     * The code: the peer's where the peer began, ours where we did; 1005 where the peer's close had none, 1006 where
     * there was no close.
     */
    uint16_t code;
    /** The closing handshake was completed and nothing failed. */
    bool was_clean;
    /** Who began: WSX_SIDE_US or WSX_SIDE_PEER. */
    int32_t by;
    /**
     * The reason that came with the code: UTF-8, at most 123 bytes, empty where there was none, with a NUL at its end.
     */
    const char *reason;
    /** Bytes of the reason, without the NUL. */
    size_t reason_length;
    /** What failed; NULL exactly if a side closed in order, or the program called wsx_terminate(). */
    const wsx_failure *failure;
    /**
     * Messages that were accepted for sending and then lost: dropped by policy, or taken from another thread and
     * refused on the loop.
     */
    uint32_t lost_messages;
    /** Bytes sent by the program that did not reach the kernel. */
    uint64_t unsent_bytes;
    /** All of it as one sentence for a log, with a NUL at its end. */
    const char *text;
    /**
     * Messages that the program sent and that did not wholly reach the kernel: those that waited when the connection
     * ended, one that was under way in part, and the lost_messages. Over TLS up to 64 KiB of what was being written count
     * as well, of which the kernel may have taken a part. What reached the kernel may have been lost on its way, which
     * only an answer of the peer's program can tell. Of an HTTP stream only the writes that were lost are counted.
     */
    uint64_t undelivered_messages;
} wsx_close_info;

/**
 * The number of a client that connects again: it stays the same over all its connections, which have numbers of their
 * own. It is made like a connection's.
 */
typedef uint64_t wsx_client;

/**
 * A client is about to wait, and then to connect again: told by on_reconnecting. Borrowed until the callback returns.
 */
typedef struct wsx_reconnecting {
    /** Size of this struct in the library that runs: what lies beyond it is not there. */
    size_t size;
    /** Which attempt in a row this will be: 1 for the first one after a connection that lasted. */
    uint32_t attempt;
    /** How long the client waits from now on, in milliseconds. */
    uint64_t delay_ms;
    /** How the connection before ended, as its on_close has told. */
    const wsx_close_info *cause;
} wsx_reconnecting;

/** A client has given up: told by on_give_up. Borrowed until the callback returns. */
typedef struct wsx_give_up {
    /** Size of this struct in the library that runs: what lies beyond it is not there. */
    size_t size;
    /** Why: a WSX_GIVE_UP_ constant. New ones may come. */
    int32_t kind;
    /** The code of the close that has just been told; 0 where the client was waiting. */
    uint16_t close_code;
    /** The HTTP status that the last attempt was answered with; 0 where it was not. */
    int32_t http_status;
    /** Attempts in a row to connect again, up to now. */
    uint32_t attempts;
    /**
     * Messages that were taken by wsx_client_send() and reached no connection: they waited in the offline queue, or were
     * accepted from another thread and refused on the loop. Those that a connection lost are told with its close.
     */
    uint32_t lost_messages;
    /** One sentence for people, with a NUL at its end. */
    const char *message;
    /** Bytes of the message, without the NUL. */
    size_t message_length;
} wsx_give_up;

/**
 * The callbacks of a listener or of a client connection. Any may be NULL: on_request then accepts, the others ignore.
 *
 * Set size to sizeof(wsx_callbacks) and what is not used to NULL; the table is copied where it is registered. All
 * callbacks run on the loop's thread, one at a time, and never inside another call; on a loop with several threads
 * that holds for each of them, and those of one connection always run on the same. They may call everything but
 * wsx_loop_run, _turn, _flush, _next_timeout and _free, and must return: no longjmp, no C++ exception. The pointers
 * they are given are borrowed until they return; payloads are not NUL-terminated, and are never NULL. Each gets the
 * user pointer of its registration.
 */
typedef struct wsx_callbacks {
    /** sizeof(wsx_callbacks), by which the table can grow. */
    size_t size;
    /**
     * Server: an HTTP request has come, and passed the options (origin, path). The response is "accept" until the
     * callback makes it another; accepting a request that is not for a WebSocket answers 426.
     */
    void (*on_request)(const wsx_request *request, wsx_response *response, void *user);
    /** The connection is open. Exactly one on_close will follow. */
    void (*on_open)(wsx_connection connection, const wsx_opening *opening, void *user);
    /** A whole message has come. The kind is WSX_TEXT (always valid UTF-8) or WSX_BINARY. */
    void (*on_message)(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user);
    /**
     * A frame of a fragmented message has come, where the options ask for fragments. Text may be cut inside a
     * character.
     */
    void (*on_fragment)(wsx_connection connection,
                        int32_t kind,
                        const uint8_t *payload,
                        size_t length,
                        bool is_first,
                        bool is_last,
                        void *user);
    /** A ping has come; it is answered already. */
    void (*on_ping)(wsx_connection connection, const uint8_t *payload, size_t length, void *user);
    /**
     * A pong has come, asked for or not; wsx_latency() tells how long it took, where it answers a ping of the program's.
     * Answers to the heartbeat's own pings are not told.
     */
    void (*on_pong)(wsx_connection connection, const uint8_t *payload, size_t length, void *user);
    /** The backlog, having been over half of its limit or having cost a message, is below a quarter of it again. */
    void (*on_drain)(wsx_connection connection, void *user);
    /** The connection failed; its on_close is the next and last event. Failed connects are told here too. */
    void (*on_error)(wsx_connection connection, const wsx_failure *failure, void *user);
    /** The connection is gone: the last event of each connection, exactly once. */
    void (*on_close)(wsx_connection connection, const wsx_close_info *close, void *user);
    /**
     * Something failed that belongs to no announced connection: accepting (out of descriptors, say; it is retried), or
     * an answer of on_request that could not be sent.
     */
    void (*on_listener_error)(wsx_listener listener, const wsx_failure *failure, void *user);
    /**
     * The user pointer is no longer needed: called exactly once, after the last callback, or before the registering
     * call returns with an error. It must not call the library.
     */
    wsx_function drop;
    /**
     * A request that was deferred waits no more: its answer takes effect now, or it will have none, for the client left,
     * the timeout ran out or the loop ends. Told once for each, before its on_open. For what is kept for the request
     * meanwhile, as a lookup that can be given up.
     */
    void (*after_deferral)(wsx_connection connection, bool is_answered, void *user);
    /**
     * A client that connects again is about to wait, and then to make its next attempt: told after the on_close of the
     * attempt before.
     */
    void (*on_reconnecting)(wsx_client client, const wsx_reconnecting *reconnecting, void *user);
    /** A client that connects again does so no more: its last event, exactly once. */
    void (*on_give_up)(wsx_client client, const wsx_give_up *give_up, void *user);
} wsx_callbacks;

/** Frees memory that was given to the library. */
typedef void (*wsx_release)(void *payload, size_t length, void *context);

/**
 * What was counted, up to now, of a listener's connections or of all connections of a loop. connections, handshakes and
 * buffered_bytes tell what is; everything else counts from the beginning, and never falls.
 *
 * Each accepted connection is in the end one of opened, streams, answered and refused. Messages and bytes are counted by
 * receive and by write, so that counting costs next to nothing: a callback may find what its own receive has brought not
 * counted yet.
 */
typedef struct wsx_statistics {
    /** Size of this struct as the program knows it: set it before the call. What lies beyond it is not written. */
    size_t size;
    /** Connections that are open or closing, and HTTP streams: on_close has not been called. */
    uint64_t connections;
    /** Connections on their way to that: in the opening handshake, or being refused or answered. */
    uint64_t handshakes;
    /** Bytes that wait because the kernel takes no more, over all connections, frame headers included. */
    uint64_t buffered_bytes;
    /** Server: connections that were accepted. */
    uint64_t accepted;
    /** Client: connections that were begun. */
    uint64_t connects;
    /** Opening handshakes that succeeded: calls of on_open. */
    uint64_t opened;
    /** Server: HTTP streams that were begun. */
    uint64_t streams;
    /** Server: plain HTTP requests that on_request answered, but by streams. */
    uint64_t answered;
    /** Server: connections that came to nothing, by WSX_REFUSED_ constant. */
    uint64_t refused[32];
    /** Client: connections that did not open, by WSX_STAGE_ constant. What the program gave up itself is not here. */
    uint64_t connects_failed[16];
    /** Messages told to the program; one that is handed over in fragments counts with its last one. */
    uint64_t messages_received;
    /** Messages taken from the program, once for each receiver of a broadcast or publish. Some may be lost later. */
    uint64_t messages_sent;
    /**
     * Bytes received, everything included: HTTP heads, frame headers, control frames. Over TLS after decryption; as they
     * came where they are compressed.
     */
    uint64_t bytes_received;
    /** Bytes that the kernel took, counted in the same way. */
    uint64_t bytes_sent;
    /** Messages that were taken and then lost: lost_messages of wsx_close_info, of all connections. */
    uint64_t messages_lost;
    /** Calls of on_error, by WSX_STAGE_ and WSX_FAILURE_ constant: failures[WSX_STAGE_TLS][WSX_FAILURE_PROTOCOL]. */
    uint64_t failures[16][16];
    /** Calls of on_close with a code from 1000 to 1015, by code less 1000. */
    uint64_t closes[16];
    /** Calls of on_close with a code from 3000 to 3999. */
    uint64_t closes_3000;
    /** Calls of on_close with a code from 4000 to 4999. */
    uint64_t closes_4000;
    /** Calls of on_listener_error. */
    uint64_t listener_errors;
    /** Turns of the loop; 0 for a listener. */
    uint64_t turns;
    /**
     * The longest time, in nanoseconds, that the callbacks of one connection took for what one receive brought, or any
     * other single callback; with wsx_options_set_measure_callbacks(), else 0. 0 for a listener.
     */
    uint64_t longest_callback_ns;
} wsx_statistics;

/**
 * One thing that happened. It has no header, no query, no payload and no password; what it says of a peer's (the reason of
 * a close) has its control characters escaped. Borrowed until the function returns.
 */
typedef struct wsx_log_record {
    /** Size of this struct in the library that runs: what lies beyond it is not there. */
    size_t size;
    /** How much it matters: a WSX_LOG_ constant. */
    int32_t level;
    /** What it is about: a WSX_TOPIC_ constant. New ones may come. */
    int32_t topic;
    /** The connection, if it is about one, else 0; the program may not have heard of it. */
    wsx_connection connection;
    /** The listener, if it is about one or a connection of it, else 0. */
    wsx_listener listener;
    /** One sentence, with a NUL at its end. */
    const char *message;
    /** Bytes of the message, without the NUL. */
    size_t message_length;
} wsx_log_record;

/** A function of the program that is told what happens. */
typedef void (*wsx_log_function)(const wsx_log_record *record, void *user);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/* ---- Version and errors ---- */

/** The version of the library that runs, as WSX_VERSION_NUMBER is that of the header. [any thread] */
uint32_t wsx_version(void);

/** The version of the library that runs, as text. Static. [any thread] */
const char *wsx_version_string(void);

/**
 * Whether this build has a feature: "server", "client", "unix" (Unix sockets), "deflate" (compression), "tls". What it does
 * not know it does not have. NULL is no feature. [any thread]
 */
bool wsx_has_feature(const char *name);

/** What a status means, in a sentence. Static; never NULL. [any thread] */
const char *wsx_strerror(int32_t status);

/**
 * What the last call that failed on this thread said, with names and figures; empty where none has failed yet. The next
 * one writes over it, in the same place: the pointer stays good while the thread lives. At most 1,023 bytes, then it is
 * cut. Never NULL. [any thread]
 */
const char *wsx_last_error(void);

/** The errno of the last call that failed on this thread; 0 where the system had no part in it. [any thread] */
int32_t wsx_last_os_error(void);

/* ---- Options ---- */

/**
 * Options with every default, to be freed with wsx_options_free(). NULL only where a defect was caught. [any thread]
 */
wsx_options *wsx_options_new(void);

/** Frees options; what was made with them stays. NULL is fine. [any thread] */
void wsx_options_free(wsx_options *options);

/**
 * Largest message a peer may send, in bytes, after assembling its fragments. Beyond it: close 1009, told from the
 * frame header alone. Default 1 MiB; 0: no limit. [any thread]
 */
int32_t wsx_options_set_max_message(wsx_options *options, size_t bytes);

/** Most fragments of one message. Beyond it: close 1008. Default 1,024; 0: no limit. [any thread] */
int32_t wsx_options_set_max_fragments(wsx_options *options, uint32_t count);

/**
 * Whether each frame of a fragmented message is handed over by on_fragment (1) instead of the assembled message by
 * on_message (0). The largest message still bounds the whole. Default 0. [any thread]
 */
int32_t wsx_options_set_deliver_fragments(wsx_options *options, int32_t enabled);

/**
 * Largest HTTP head (first line and headers), in bytes. Beyond it: 431. Default 16 KiB; 0 is the default. [any thread]
 */
int32_t wsx_options_set_max_head(wsx_options *options, size_t bytes);

/** Most headers in an HTTP head, at most 256. Beyond it: 431. Default 100; 0 is the default. [any thread] */
int32_t wsx_options_set_max_headers(wsx_options *options, size_t count);

/**
 * How long opening may take, from the TCP connection to on_open, the lookup of a client's host name included. Beyond
 * it: closed, after 408 where a request was begun. Default 10,000 ms. [any thread]
 */
int32_t wsx_options_set_handshake_timeout(wsx_options *options, uint64_t ms);

/** Heartbeat: ping after so long without a byte from the peer. Default 25,000 ms; 0: no heartbeat. [any thread] */
int32_t wsx_options_set_ping_interval(wsx_options *options, uint64_t ms);

/**
 * How long a peer may stay silent after the heartbeat's ping; any byte counts as life. Beyond it: closed as 1006.
 * Default 20,000 ms. [any thread]
 */
int32_t wsx_options_set_pong_timeout(wsx_options *options, uint64_t ms);

/**
 * How long the closing handshake may take. Beyond it: TCP is closed. Default 5,000 ms; 0 is the default. [any thread]
 */
int32_t wsx_options_set_close_timeout(wsx_options *options, uint64_t ms);

/**
 * How long output may wait without the peer taking a single byte. Beyond it: closed as 1006. Default 10,000 ms; 0: no
 * limit. [any thread]
 */
int32_t wsx_options_set_progress_timeout(wsx_options *options, uint64_t ms);

/**
 * Most output that may wait for one peer, in bytes, counted after the turn's flush; a message that finds nothing
 * waiting is always taken whole. Beyond it: the backlog policy. Default 1 MiB; 0: no limit. [any thread]
 */
int32_t wsx_options_set_backlog_limit(wsx_options *options, size_t bytes);

/** What happens beyond the backlog limit: a WSX_BACKLOG_ constant. Default WSX_BACKLOG_CLOSE. [any thread] */
int32_t wsx_options_set_backlog_policy(wsx_options *options, int32_t policy);

/**
 * Adds a subprotocol. Server: those it speaks, in order of preference; the first one the client offers is chosen
 * unless the request hook chooses. Client: those it offers. Default none. [any thread]
 */
int32_t wsx_options_add_subprotocol(wsx_options *options, const char *name);

/** Most topics one connection may subscribe to. Beyond it wsx_subscribe() is refused. Default 128. [any thread] */
int32_t wsx_options_set_max_topics(wsx_options *options, size_t count);

/**
 * Longest name of a topic that a connection may subscribe to, in bytes, at most WSX_MAX_TOPIC_NAME. Beyond it
 * wsx_subscribe() is refused. Default 255; 0 is the default. [any thread]
 */
int32_t wsx_options_set_max_topic_name(wsx_options *options, size_t bytes);

/**
 * Whether messages are compressed (1) with peers that agree: permessage-deflate, RFC 7692. Default 0. In a build without
 * it wsx_listen() and wsx_connect() then answer WSX_ERR_UNSUPPORTED; wsx_has_feature("deflate") tells. A server agrees to
 * the first offer of a client that it can keep, within what the setters below say; a client offers what they say, and is
 * connected without compression where the server declines. The largest message counts what comes out. [any thread]
 */
int32_t wsx_options_set_compression(wsx_options *options,
                                    int32_t enabled);

/**
 * Compression: how hard to try, 1 (fast) to 9 (small). Like all that follow, it is kept until compression is switched
 * on, and does not switch it on; what is out of range is refused by wsx_listen() and wsx_connect(). Default 6.
 * [any thread]
 */
int32_t wsx_options_set_compression_level(wsx_options *options, uint32_t level);

/** Compression: messages of fewer bytes are sent as they are. Default 1 KiB; 0: all are compressed. [any thread] */
int32_t wsx_options_set_compression_threshold(wsx_options *options, size_t bytes);

/**
 * Compression: whether the server begins each message anew (1), so that it and its client need no memory between
 * messages, or messages may refer to earlier ones (0), which makes those that resemble each other smaller. A server
 * answers 1, asked or not; a client asks for it, and fails a connection where the server does not grant it. Default 1.
 * [any thread]
 */
int32_t wsx_options_set_compression_server_no_context_takeover(wsx_options *options, int32_t enabled);

/**
 * Compression: the same for the client's messages. A server demands 1; a client says so and does so. Default 1.
 * [any thread]
 */
int32_t wsx_options_set_compression_client_no_context_takeover(wsx_options *options, int32_t enabled);

/**
 * Compression: the window of the server's messages as a power of two, 9 (512 bytes) to 15 (32 KiB). A server uses no
 * more, whatever is asked for; a client asks for less than 15, and fails a connection where the server does not grant
 * it. Default 15. [any thread]
 */
int32_t wsx_options_set_compression_server_max_window_bits(wsx_options *options, uint32_t bits);

/**
 * Compression: the same for the client's messages. A server demands less than 15 from each client that lets itself be
 * told; a client uses no more, whatever is demanded. Default 15. [any thread]
 */
int32_t wsx_options_set_compression_client_max_window_bits(wsx_options *options, uint32_t bits);

/**
 * Whether small writes leave at once, TCP_NODELAY (1), or wait for the acknowledgement of earlier ones (0). Default 1.
 * [any thread]
 */
int32_t wsx_options_set_no_delay(wsx_options *options, int32_t enabled);

/**
 * TCP's own keep-alive, SO_KEEPALIVE: after so long without a byte either way the kernel asks whether the peer's machine
 * is still there, also while the heartbeat is off or reading is paused. It counts in seconds, at most 32,767: a part of
 * one is a whole one. Where nobody answers, the connection is closed as 1006 with the system's errno. Default 0: off, and
 * 30,000 ms for HTTP streams. [any thread]
 */
int32_t wsx_options_set_keep_alive_idle(wsx_options *options,
                                        uint64_t ms);

/**
 * Keep-alive: the time between questions that are not answered. Default 0: the system's, as a rule 75,000 ms (30,000 for
 * HTTP streams). [any thread]
 */
int32_t wsx_options_set_keep_alive_interval(wsx_options *options,
                                            uint64_t ms);

/**
 * Keep-alive: how many questions in a row stay without an answer before the connection is given up, at most 127. Default
 * 0: the system's, as a rule 9. [any thread]
 */
int32_t wsx_options_set_keep_alive_count(wsx_options *options,
                                         uint32_t count);

/**
 * Server: which web pages may connect: a WSX_ORIGINS_ constant. Only requests with an Origin header, those of
 * browsers, are checked; others get 403. Default WSX_ORIGINS_SAME_HOST. [any thread]
 */
int32_t wsx_options_set_origins(wsx_options *options, int32_t origins);

/**
 * Server: adds an origin to the list of those that may connect, written as browsers send it: "https://example.org", or
 * "null" for a page from a file. With "*." before the host it stands for every subdomain, however deep, and not for the
 * host itself. What is no origin is refused by wsx_listen(). The first one replaces the rule of
 * wsx_options_set_origins(). [any thread]
 */
int32_t wsx_options_add_origin(wsx_options *options, const char *origin);

/**
 * Server: the only path that is upgraded, as "/chat"; others get 404 unless the request hook answers. NULL: any path,
 * the default. [any thread]
 */
int32_t wsx_options_set_path(wsx_options *options, const char *path);

/**
 * Server: most connections of a listener. Each counts from its acceptance (of a route, from its request) to its end,
 * whatever it is for and also where it is refused. Beyond it: 503, and once a small reserve is used up they wait in the
 * kernel's queue. Default 0: the process's descriptor limit less 32. [any thread]
 */
int32_t wsx_options_set_max_connections(wsx_options *options, size_t count);

/**
 * Server: most connections of a listener from one address, on all threads: one of IPv4 (also where it is mapped to IPv6),
 * or a network of IPv6 with 64 bits. Connections count from their acceptance to their end; those over a Unix socket do
 * not. Beyond it: a few get 503, any more are closed as soon as they are accepted, and all are over TLS, before its
 * handshake. Behind a proxy everybody has the proxy's address: leave it off. Default 0: no limit. [any thread]
 */
int32_t wsx_options_set_max_connections_per_address(wsx_options *options,
                                                    size_t count);

/** Server: length of the kernel's queue of connections not yet accepted. Default 1,024. [any thread] */
int32_t wsx_options_set_listen_backlog(wsx_options *options, uint32_t count);

/** Server: whether several listeners may share an address (SO_REUSEPORT), one per loop (1). Default 0. [any thread] */
int32_t wsx_options_set_reuse_port(wsx_options *options, int32_t enabled);

/**
 * Client: adds a header to the request. One that the library writes itself, or that cannot stand in an HTTP head, is
 * WSX_ERR_INVALID. Default none. [any thread]
 */
int32_t wsx_options_add_header(wsx_options *options, const char *name, const char *value);

/**
 * Client: connects through a proxy, except to a Unix socket: "http://[user:password@]host[:port]" by CONNECT, "socks5://" and
 * "socks5h://" by SOCKS5, where the host's name is looked up here, or by the proxy. What is malformed, and a proxy that is
 * spoken to over TLS ("https://"), is refused by wsx_connect() as WSX_ERR_INVALID. NULL: none, the default. [any thread]
 */
int32_t wsx_options_set_proxy(wsx_options *options,
                              const char *url);

/**
 * Client: whether the proxy that the environment names is taken where none is set (1), read by wsx_connect() as curl reads
 * it: https_proxy or HTTPS_PROXY for wss, http_proxy for ws, else all_proxy or ALL_PROXY, and no_proxy or NO_PROXY for the
 * hosts that are reached without: names, domains, addresses, networks as 10.0.0.0/8, with a port where only that is meant,
 * or "*". Default 0. [any thread]
 */
int32_t wsx_options_set_proxy_from_environment(wsx_options *options,
                                               int32_t enabled);

/**
 * Client: most redirects (301, 302, 303, 307, 308) to follow. Beyond it, and from wss to ws, the connection fails. To
 * another origin go neither the user of the URL nor headers whose names tell of credentials: Authorization, Cookie, and
 * all with token, key, secret, session or password in them. Default 0: none is followed. [any thread]
 */
int32_t wsx_options_set_max_redirects(wsx_options *options, uint32_t count);

/**
 * Client: how long it may take until the request can be sent: the lookup of the name, TCP, a proxy, TLS; for each redirect
 * anew. Beyond it the connection fails, under the stage it had come to. Of a name's addresses up to 32 are tried, the next
 * one 250 ms after the last or when that fails (RFC 8305). Default 0: no limit but the handshake's timeout, which counts
 * as well. [any thread]
 */
int32_t wsx_options_set_connect_timeout(wsx_options *options,
                                        uint64_t ms);

/**
 * Loop: most calls from other threads that may wait. Beyond it they answer WSX_ERR_FULL. Default 65,536. [any thread]
 */
int32_t wsx_options_set_max_commands(wsx_options *options, size_t count);

/** Loop: most payload in those calls, in bytes. Beyond it they answer WSX_ERR_FULL. Default 16 MiB. [any thread] */
int32_t wsx_options_set_max_command_bytes(wsx_options *options, size_t bytes);

/**
 * Loop: how long it stays awake and asks for events before it sleeps, in microseconds: the shortest latency at the price
 * of a busy processor; it does so only while that pays. Default 0: it sleeps at once. [any thread]
 */
int32_t wsx_options_set_busy_poll(wsx_options *options,
                                  uint64_t microseconds);

/**
 * Loop: threads that serve, 1 to 1,024. Each has a share of every listener's connections and one set of topics for all;
 * the first is the one that runs the loop, the others start with its first turn and end with it. Callbacks then run on
 * several threads at once, those of one connection always on the same, with the same user pointer; calls that belong to
 * the loop's thread act for the thread they are made on. Default 1. [any thread]
 */
int32_t wsx_options_set_threads(wsx_options *options, size_t count);

/** Loop: size of its one receive buffer, in bytes, at least 4 KiB. Default 256 KiB. [any thread] */
int32_t wsx_options_set_receive_buffer(wsx_options *options, size_t bytes);

/**
 * Loop: 1: it measures how long callbacks take, for longest_callback_ns of wsx_statistics: the clock is read twice more for
 * each connection that something comes from in a turn, and for each other callback. Default 0. [any thread]
 */
int32_t wsx_options_set_measure_callbacks(wsx_options *options,
                                          int32_t enabled);

/* ---- The loop, and everybody on it ---- */

/** Makes a loop, with options or, where they are NULL, the defaults. To be freed with wsx_loop_free(). [any thread] */
int32_t wsx_loop_new(const wsx_options *options, wsx_loop **new_loop);

/**
 * Frees a loop: each open connection hears its on_close, each drop function is called, and threads that the loop has
 * started are waited for. NULL is fine. Inside a callback it is WSX_ERR_REENTRANT, and on a thread that is not the
 * loop's WSX_ERR_WRONG_THREAD; nothing is freed then. Once the loop's thread has ended, which ends its connections
 * without callbacks, any thread may free it. Nobody may use the pointer any more; numbers of connections and listeners
 * stay safe to use. [loop thread]
 */
int32_t wsx_loop_free(wsx_loop *event_loop);

/** Runs the loop on this thread until wsx_loop_stop() or the end of wsx_loop_shutdown(). [loop thread] */
int32_t wsx_loop_run(wsx_loop *event_loop);

/**
 * Runs one turn: waits for something to do up to timeout_ms (0: does not wait, -1: no limit), does it, and writes
 * whether the loop runs on, which may go to NULL: false after wsx_loop_stop() or the end of wsx_loop_shutdown().
 * [loop thread]
 */
int32_t wsx_loop_turn(wsx_loop *event_loop, int32_t timeout_ms, bool *running);

/** Writes what was sent between turns, without waiting for the next turn. [loop thread] */
int32_t wsx_loop_flush(wsx_loop *event_loop);

/**
 * The descriptor that turns readable when a turn has something to do: wait for it with poll(2) or another loop, no
 * longer than wsx_loop_next_timeout() says, then call wsx_loop_turn() with 0. It stays the loop's. A negative number
 * is an error. [any thread]
 */
int32_t wsx_loop_fd(wsx_loop *event_loop);

/**
 * Writes how long the next turn may wait, in milliseconds: 0: work is waiting, -1: until the descriptor is readable.
 * [loop thread]
 */
int32_t wsx_loop_next_timeout(wsx_loop *event_loop, int32_t *timeout_ms);

/**
 * Calls a function on the loop's thread (of several: the first), in its next turn. The drop function, which may be
 * NULL, is called with the user pointer exactly once: after the function, or without it where the call fails or the
 * loop ends. It must not call the library. [any thread]
 */
int32_t wsx_loop_post(wsx_loop *event_loop, wsx_function function, void *user, wsx_function drop);

/**
 * Calls a function on this thread of the loop once, after so many milliseconds, and writes the timer's number, which
 * may go to NULL. The drop function is called as with wsx_loop_post(). [loop thread]
 */
int32_t wsx_loop_set_timer(wsx_loop *event_loop,
                           uint64_t after_ms,
                           wsx_function function,
                           void *user,
                           wsx_function drop,
                           wsx_timer *timer);

/** Cancels a timer; one that has run is no error. [loop thread] */
int32_t wsx_timer_cancel(wsx_timer timer);

/** Makes the turn in progress, or the next one, return without waiting. [any thread] */
int32_t wsx_loop_wake(wsx_loop *event_loop);

/** Makes wsx_loop_run() return after its turn. Connections stay as they are. [any thread] */
int32_t wsx_loop_stop(wsx_loop *event_loop);

/**
 * Ends in order: stops accepting, closes every connection with 1001, waits for them up to grace_ms, cuts what is left,
 * and makes wsx_loop_run() return. Each connection hears its on_close. [any thread]
 */
int32_t wsx_loop_shutdown(wsx_loop *event_loop, uint64_t grace_ms);

/**
 * Sends a message to all open connections of a listener, or of every listener of the loop where it is 0, but not to
 * the connection except (0: to all). It is encoded once. Success means that it was taken: a peer that does not read
 * meets its backlog policy. [any thread]
 */
int32_t wsx_broadcast(wsx_loop *event_loop,
                      wsx_listener listener,
                      int32_t kind,
                      const void *payload,
                      size_t length,
                      wsx_connection except);

/**
 * Sends a message to all subscribers of a topic, but not to the connection except (0: to all). It is encoded once; a
 * topic without subscribers is no error. [any thread]
 */
int32_t wsx_publish(wsx_loop *event_loop,
                    const char *topic,
                    int32_t kind,
                    const void *payload,
                    size_t length,
                    wsx_connection except);

/**
 * Writes how many connections subscribe to a topic; of a loop with several threads, those of this one.
 * [loop thread]
 */
int32_t wsx_subscriber_count(wsx_loop *event_loop, const char *topic, size_t *total);

/**
 * Writes how many connections of a listener, or of every listener of the loop where it is 0, are open, on all threads.
 * [loop thread]
 */
int32_t wsx_connection_count(wsx_loop *event_loop, wsx_listener listener, size_t *total);

/**
 * Writes the numbers of those open connections into an array, as many as fit, and how many there are in all, so that a
 * capacity of 0 (the array may be NULL then) just asks; of a loop with several threads, those of this one.
 * [loop thread]
 */
int32_t wsx_connections(wsx_loop *event_loop,
                        wsx_listener listener,
                        wsx_connection *array,
                        size_t capacity,
                        size_t *total);

/* ---- Listening and connecting ---- */

/**
 * Listens on "HOST:PORT" (an IPv6 address in brackets) or "unix:PATH", with options or, where they are NULL, the
 * defaults, and writes the listener's number, which may go to NULL. With a certificate in the options it speaks TLS.
 * Port 0: the system chooses, and wsx_listener_port() tells. Accepting begins with the loop's first turn. [loop thread]
 */
int32_t wsx_listen(wsx_loop *event_loop,
                   const char *address,
                   const wsx_options *options,
                   const wsx_callbacks *callbacks,
                   void *user,
                   wsx_listener *listener);

/**
 * Listens with a socket that is bound already, listening or not, TCP or Unix (socket activation, a supervisor). The
 * library owns the descriptor from here on, and closes it also where this fails. [loop thread]
 */
int32_t wsx_listen_fd(wsx_loop *event_loop,
                      int32_t fd,
                      const wsx_options *options,
                      const wsx_callbacks *callbacks,
                      void *user,
                      wsx_listener *listener);

/**
 * Serves a path of a listener with options (where they are NULL, the defaults) and callbacks of its own, and writes the
 * route's number, which may go to NULL.
 *
 * The path is a whole one, "/chat", or ends in a slash and a star for everything below: that of "/rooms" is for "/rooms/"
 * and "/rooms/7/x", and not for "/rooms". It is compared with that of the request as it came, without the query, byte by
 * byte. A whole path goes before the others, the longest of those before the shorter; what no route leads to is the
 * listener's. Plain requests come to the route as well.
 *
 * The number is like that of a listener, for the connections of the route alone: broadcasts to the listener do not reach
 * them. wsx_listener_close() gives the path back to the listener; closing the listener ends its routes.
 *
 * WSX_ERR_INVALID: the path cannot be one, or has a route already; or an option is set that concerns the socket or the
 * request's head, which are the listener's: TLS, the path, max_head, max_headers, max_connections_per_address,
 * listen_backlog, reuse_port, no_delay, keep_alive. The handshake timeout is the listener's until the request has come.
 * max_connections is the route's own beside the listener's, which counts those of its routes; 0: none. WSX_ERR_CLOSED: the
 * listener is closed. [loop thread]
 */
int32_t wsx_route(wsx_listener listener,
                  const char *path,
                  const wsx_options *options,
                  const wsx_callbacks *callbacks,
                  void *user,
                  wsx_listener *route);

/**
 * Connects to "ws://HOST[:PORT]/PATH", "wss://HOST[:PORT]/PATH" (TLS) or "ws+unix:PATH:/TARGET", with options or, where
 * they are NULL, the defaults, and writes the connection's number, which may go to NULL. Success means that it was begun:
 * on_open tells when it may be sent to; where it fails on_error tells why, then on_close. wss is WSX_ERR_UNSUPPORTED in a
 * build without TLS.
 * [loop thread]
 */
int32_t wsx_connect(wsx_loop *event_loop,
                    const char *url,
                    const wsx_options *options,
                    const wsx_callbacks *callbacks,
                    void *user,
                    wsx_connection *connection);

/**
 * Writes a listener's address, as "127.0.0.1:9001", "[::1]:9001" or "unix:/run/chat", into a buffer: cut to what fits,
 * always with a NUL. The whole length, without the NUL, may go to NULL. [loop thread]
 */
int32_t wsx_listener_address(wsx_listener listener, char *buffer, size_t capacity, size_t *length);

/** A listener's port; 0 for a Unix socket. A negative number is an error. [loop thread] */
int32_t wsx_listener_port(wsx_listener listener);

/** Stops accepting and frees the address; open connections stay. [any thread] */
int32_t wsx_listener_close(wsx_listener listener);

/* ---- The opening handshake: inside on_request and on_open ---- */

/**
 * The number the connection will have if it is accepted, or answered with a stream.
 * [loop thread, in on_request and on_open]
 */
wsx_connection wsx_request_connection(const wsx_request *request);

/**
 * Whether this is a valid request for a WebSocket, rather than a plain HTTP request.
 * [loop thread, in on_request and on_open]
 */
bool wsx_request_is_upgrade(const wsx_request *request);

/** The method, as "GET". [loop thread, in on_request and on_open] */
const char *wsx_request_method(const wsx_request *request);

/** The path as it came, percent signs not decoded, without the query. [loop thread, in on_request and on_open] */
const char *wsx_request_path(const wsx_request *request);

/**
 * The query as it came, without the question mark; NULL where there is none. [loop thread, in on_request and on_open]
 */
const char *wsx_request_query(const wsx_request *request);

/** Where the peer is: "192.0.2.1:50000", "[2001:db8::1]:50000", "unix:". [loop thread, in on_request and on_open] */
const char *wsx_request_peer(const wsx_request *request);

/**
 * The value of the first header of this name, without regard to case; NULL where there is none.
 * [loop thread, in on_request and on_open]
 */
const char *wsx_request_header(const wsx_request *request, const char *name);

/** How many headers there are. [loop thread, in on_request and on_open] */
size_t wsx_request_header_count(const wsx_request *request);

/**
 * Name and value of the header at this index, from 0, in the order they came. The value may be any bytes but NUL.
 * [loop thread, in on_request and on_open]
 */
int32_t wsx_request_header_at(const wsx_request *request, size_t index, const char **name, const char **value);

/**
 * The value of the first cookie of this name, letter by letter, as it came (RFC 6265 section 5.4); NULL where there is
 * none. [loop thread, in on_request and on_open]
 */
const char *wsx_request_cookie(const wsx_request *request, const char *name);

/** How many cookies there are; what is no cookie or no UTF-8 is left out. [loop thread, in on_request and on_open] */
size_t wsx_request_cookie_count(const wsx_request *request);

/**
 * Name and value of the cookie at this index, from 0, in the order they came. [loop thread, in on_request and on_open]
 */
int32_t wsx_request_cookie_at(const wsx_request *request, size_t index, const char **name, const char **value);

/**
 * The value of the first parameter of this name in the query (application/x-www-form-urlencoded), with percent signs and
 * '+' decoded; empty where it has none, NULL where there is no such parameter. What is no UTF-8, and a NUL, comes as
 * U+FFFD. [loop thread, in on_request and on_open]
 */
const char *wsx_request_query_parameter(const wsx_request *request,
                                        const char *name);

/** How many parameters the query has. [loop thread, in on_request and on_open] */
size_t wsx_request_query_parameter_count(const wsx_request *request);

/**
 * Name and value of the query's parameter at this index, from 0, decoded, in the order they came.
 * [loop thread, in on_request and on_open]
 */
int32_t wsx_request_query_parameter_at(const wsx_request *request,
                                       size_t index,
                                       const char **name,
                                       const char **value);

/**
 * The subprotocol that the client offers at this index, from 0, in its order; NULL past the last one.
 * [loop thread, in on_request and on_open]
 */
const char *wsx_request_subprotocol_at(const wsx_request *request, size_t index);

/** The request that was accepted; NULL on a client connection. [loop thread, in on_open] */
const wsx_request *wsx_opening_request(const wsx_opening *opening);

/** The subprotocol agreed on; NULL where there is none. [loop thread, in on_open] */
const char *wsx_opening_subprotocol(const wsx_opening *opening);

/**
 * The value of the first header of this name, without regard to case, in what the peer sent: a client sees the
 * server's answer, a server the request. NULL where there is none. [loop thread, in on_open]
 */
const char *wsx_opening_header(const wsx_opening *opening, const char *name);

/* ---- The answer to a request, in on_request and later ---- */

/**
 * Makes an answer for wsx_respond(), which accepts until it is made another. To be freed with wsx_response_free().
 * [any thread]
 */
wsx_response *wsx_response_new(void);

/** Frees an answer of wsx_response_new(), sent or not. NULL is fine. [any thread] */
void wsx_response_free(wsx_response *response);

/**
 * Answer later, from any thread, with wsx_respond() under the number of wsx_request_connection(): who the client is has to
 * be looked up somewhere. The client is not read meanwhile. Where no answer comes within the handshake timeout it gets 503,
 * and on_listener_error says so. Headers that were added are not kept. [loop thread, in on_request]
 */
int32_t wsx_response_defer(wsx_response *response);

/**
 * Answers a request that was deferred with wsx_response_defer(). The answer is copied, and may be sent again and again.
 *
 * Success means that this is the answer, and no other can be: it takes effect in this turn of the loop or its next one,
 * unless the client leaves or a shutdown begins before. WSX_ERR_CLOSED: it is too late, for the client has left, the
 * timeout has run out or the loop has ended; from another thread also where the request was answered already, or was not
 * deferred, which on the loop's thread is WSX_ERR_WRONG_KIND. WSX_ERR_FULL: the request still waits. [any thread]
 */
int32_t wsx_respond(wsx_connection connection,
                    const wsx_response *response);

/**
 * Accept the WebSocket with this subprotocol, which the client must have offered; NULL: as the options choose.
 * [loop thread, in on_request; any thread for one of the program's own]
 */
int32_t wsx_response_accept(wsx_response *response, const char *subprotocol);

/**
 * Refuse, or answer a plain request, with an HTTP status (200 to 599) and a text, which may be NULL.
 * [loop thread, in on_request; any thread for one of the program's own]
 */
int32_t wsx_response_reject(wsx_response *response, int32_t status, const char *body);

/**
 * Answer with an HTTP status (200 to 599) and a body of this kind of content, as "text/html; charset=utf-8": a page, a
 * health check. The body is copied. [loop thread, in on_request; any thread for one of the program's own]
 */
int32_t wsx_response_page(wsx_response *response,
                          int32_t status,
                          const char *content_type,
                          const void *body,
                          size_t length);

/**
 * Answer with 200 and a body that stays open: the program writes to it with wsx_write() under the number of
 * wsx_request_connection(), ends it with wsx_close(), and hears one on_close. [loop thread, in on_request; any thread for one of the program's own]
 */
int32_t wsx_response_stream(wsx_response *response,
                            const char *content_type);

/**
 * Add a header to the answer, whatever it is. One that the library writes itself, or that cannot stand in an HTTP
 * head, is WSX_ERR_INVALID. [loop thread, in on_request; any thread for one of the program's own]
 */
int32_t wsx_response_header(wsx_response *response, const char *name, const char *value);

/* ---- TLS ---- */

/**
 * Adds a certificate and its key, both as paths of files in PEM: the certificate and then those of its issuers, and the
 * key, not encrypted. Server: with the first one its listeners speak TLS; among several the client's name for the server
 * decides, and the first is shown where none fits. Client: the first is shown when the server asks. The files are read
 * when a listener or a connection is made, which then tells what is wrong with them. Default none. [any thread]
 */
int32_t wsx_options_add_tls_certificate(wsx_options *options,
                                        const char *chain_file,
                                        const char *key_file);

/** The same with the texts themselves, which are copied. [any thread] */
int32_t wsx_options_add_tls_certificate_pem(wsx_options *options,
                                            const void *chain,
                                            size_t chain_length,
                                            const void *key,
                                            size_t key_length);

/**
 * The issuers to trust, as the path of a file of certificates in PEM. Client: instead of those that the system trusts.
 * Server: whose certificates clients may show, see wsx_options_set_tls_client_auth(). NULL: none are named, the default.
 * [any thread]
 */
int32_t wsx_options_set_tls_ca(wsx_options *options,
                               const char *file);

/** The same with the text itself, which is copied. [any thread] */
int32_t wsx_options_set_tls_ca_pem(wsx_options *options, const void *ca, size_t length);

/**
 * Server: whether clients are asked for a certificate: a WSX_CLIENT_AUTH_ constant. Asking needs their issuers, by
 * wsx_options_set_tls_ca(). Default WSX_CLIENT_AUTH_NONE. [any thread]
 */
int32_t wsx_options_set_tls_client_auth(wsx_options *options, int32_t client_auth);

/**
 * Client: the name to ask for, and to find in the server's certificate, instead of the URL's host. NULL: the URL's, the
 * default. [any thread]
 */
int32_t wsx_options_set_tls_server_name(wsx_options *options, const char *name);

/**
 * Adds a protocol to agree on (ALPN), of 1 to 255 bytes, in order of preference. A peer that offers only others is
 * refused. Default "http/1.1", which the first one replaces. [any thread]
 */
int32_t wsx_options_add_tls_alpn(wsx_options *options, const char *name);

/**
 * Client: whether to take any certificate, of anybody, for any name (1). The connection is encrypted then, but to whom is
 * unknown: whoever is on the way can read and change everything. For tests. Default 0. [any thread]
 */
int32_t wsx_options_set_tls_danger_accept_invalid_certificates(wsx_options *options,
                                                               int32_t enabled);

/**
 * Has a listener begin TLS anew with these options, on every thread that serves it: a renewed certificate, say. Of the
 * options only those of TLS count; files are read here and now. Connections that are open, or in the handshake, go on
 * with what they began with. Where this fails nothing has changed. [any thread]
 */
int32_t wsx_listener_reload_tls(wsx_listener listener, const wsx_options *options);

/**
 * Whether the request came over TLS that ends here, rather than at a proxy. [loop thread, in on_request and on_open]
 */
bool wsx_request_is_secure(const wsx_request *request);

/**
 * The certificate of the client (0) or of an issuer that it sent (from 1), in DER, and its length; verified. NULL past the
 * last one, and where the client showed none or was not asked. [loop thread, in on_request and on_open]
 */
const uint8_t *wsx_request_peer_certificate(const wsx_request *request,
                                            size_t index,
                                            size_t *length);

/**
 * The name that the client asked for in the TLS handshake (SNI), in lower case; NULL without TLS, and for an address.
 * [loop thread, in on_request and on_open]
 */
const char *wsx_request_server_name(const wsx_request *request);

/* ---- A connection ---- */

/**
 * Sends a message, copied before this returns: WSX_TEXT, which must be UTF-8, or WSX_BINARY. It leaves at the end of
 * the turn, with everything else for this peer. From another thread success means accepted: what is lost later is told
 * in lost_messages of the close. [any thread]
 */
int32_t wsx_send(wsx_connection connection, int32_t kind, const void *payload, size_t length);

/** Sends text that ends with a NUL: wsx_send() with its strlen(). [any thread] */
int32_t wsx_send_text(wsx_connection connection, const char *payload);

/**
 * Sends a fragment of a message (RFC 6455 section 5.4), copied before this returns: the first call begins a message of this
 * kind, that with is_last (1) ends it. Text may be cut inside a character; the whole is checked as it comes. [any thread]
 *
 * Until then other messages for this connection are WSX_ERR_MESSAGE_IN_PROGRESS; pings, pongs and a close may come
 * between, and a close leaves the message unfinished. What is broadcast or published meanwhile follows behind it, as far as
 * the backlog's limit goes; beyond that, and where the connection ends first, it counts in lost_messages. Where compression
 * was agreed on, the size of the first fragment decides whether the message is compressed. A fragment that is refused was
 * not sent, and another may be: WSX_ERR_INVALID for text that is not UTF-8 or another kind, WSX_ERR_BACKLOG_FULL also under
 * the policy WSX_BACKLOG_DROP. From another thread, where a call cannot tell, each of these ends the connection.
 */
int32_t wsx_send_fragment(wsx_connection connection,
                          int32_t kind,
                          const void *payload,
                          size_t length,
                          int32_t is_last);

/**
 * Sends a ping of at most 125 bytes; on_pong tells the answer, and wsx_latency() how long it took. A pong answers the first
 * ping with its payload that is out, and every one before that. Of more than 64 that are out the oldest are forgotten.
 * [any thread]
 */
int32_t wsx_ping(wsx_connection connection,
                 const void *payload,
                 size_t length);

/** Sends a pong that nobody asked for, of at most 125 bytes. Pings are answered without it. [any thread] */
int32_t wsx_pong(wsx_connection connection, const void *payload, size_t length);

/**
 * Begins the closing handshake; what was sent before leaves first. The code is 1000 to 1003, 1007 to 1014 or 3000 to
 * 4999, or 1005 for a close without a code; the reason is at most 123 bytes, and may be NULL. On an HTTP stream the
 * code is only told in on_close, and the body ends in order. A connection that is still connecting is given up.
 * Closing twice is WSX_ERR_CLOSED. [any thread]
 */
int32_t wsx_close(wsx_connection connection, uint16_t code, const char *reason);

/** Ends the transport at once, without a close; what waits is lost. on_close tells 1006. [any thread] */
int32_t wsx_terminate(wsx_connection connection);

/**
 * Writes to the body of an HTTP stream, which wsx_response_stream() began; copied before this returns. The limits are
 * those of wsx_send(). [any thread]
 */
int32_t wsx_write(wsx_connection connection, const void *payload, size_t length);

/** Subscribes an open server connection to a topic, a name of at most 255 bytes; twice is once. [any thread] */
int32_t wsx_subscribe(wsx_connection connection, const char *topic);

/** Ends a subscription; one that does not exist is no error. [any thread] */
int32_t wsx_unsubscribe(wsx_connection connection, const char *topic);

/** Stops reading from the peer, who will feel it through TCP; the heartbeat rests meanwhile. [any thread] */
int32_t wsx_pause(wsx_connection connection);

/** Reads again after wsx_pause(). [any thread] */
int32_t wsx_resume(wsx_connection connection);

/** Writes how many bytes are queued that the kernel has not taken yet, frame headers included. [loop thread] */
int32_t wsx_buffered_amount(wsx_connection connection, size_t *amount);

/**
 * Writes the newest latency that was measured, in microseconds: from when a ping was put into the output, the program's or
 * the heartbeat's, to its pong. 0 before the first. Still known inside on_close. [loop thread]
 */
int32_t wsx_latency(wsx_connection connection,
                    uint64_t *microseconds);

/**
 * The state: a WSX_STATE_ constant, WSX_STATE_CLOSED for a stale number. A negative number is an error. [loop thread]
 */
int32_t wsx_ready_state(wsx_connection connection);

/**
 * Writes the subprotocol agreed on, empty where there is none, into a buffer: cut to what fits, always with a NUL. The
 * whole length, without the NUL, may go to NULL. [loop thread]
 */
int32_t wsx_subprotocol(wsx_connection connection, char *buffer, size_t capacity, size_t *length);

/**
 * Writes the extensions agreed on, as the header of the answer says it ("permessage-deflate;
 * server_no_context_takeover"), empty where there are none, into a buffer: cut to what fits, always with a NUL. The whole
 * length, without the NUL, may go to NULL. [loop thread]
 */
int32_t wsx_connection_extensions(wsx_connection connection,
                                  char *buffer,
                                  size_t capacity,
                                  size_t *length);

/**
 * Writes where the peer is, as "192.0.2.1:50000", "[2001:db8::1]:50000" or "unix:", into a buffer: cut to what fits,
 * always with a NUL. The whole length, without the NUL, may go to NULL. Still known inside on_close. [loop thread]
 */
int32_t wsx_peer_address(wsx_connection connection, char *buffer, size_t capacity, size_t *length);

/**
 * The program's own pointer for this connection: NULL until it is set, and where the number is stale or the thread
 * wrong, which wsx_last_error() tells. Still known inside on_close. [loop thread]
 */
void *wsx_user_data(wsx_connection connection);

/** Keeps a pointer of the program with the connection. The library never looks behind it. [loop thread] */
int32_t wsx_set_user_data(wsx_connection connection, void *user_data);

/* ---- Messages that are not copied ---- */

/**
 * Sends a message whose memory the library keeps until it has left, instead of copying it: from this call on it belongs to
 * the library, which calls release(payload, length, context) exactly once, also where this answers an error; NULL: never.
 * A client masks it where it lies, so that it must be writable. Messages below 16 KiB, and those that are compressed, are
 * copied all the same. Everything else is as of wsx_send(). release is called on the loop's thread, or that of the call,
 * and must not call the library. [any thread]
 */
int32_t wsx_send_owned(wsx_connection connection,
                       int32_t kind,
                       void *payload,
                       size_t length,
                       wsx_release release,
                       void *context);

/**
 * Encodes a message, which is copied, to be sent many times by wsx_send_shared(). It is to be freed with wsx_shared_free().
 * Like all that is done with it, from any thread, also several at once. [any thread]
 */
int32_t wsx_shared_new(int32_t kind,
                       const void *payload,
                       size_t length,
                       wsx_shared **shared);

/** Gives a shared message up; what was sent of it is still delivered. NULL is fine. [any thread] */
void wsx_shared_free(wsx_shared *shared);

/**
 * Sends a shared message: to a server's peer the very bytes that all get, compressed at most once for all; a client's are
 * masked, and so copied. Everything else is as of wsx_send(). [any thread]
 */
int32_t wsx_send_shared(wsx_connection connection,
                        const wsx_shared *shared);

/* ---- Statistics ---- */

/**
 * Writes what was counted of a listener's connections, or of all of the loop where it is 0, on all threads. The first
 * field, size, must be set: wsx_statistics statistics = {.size = sizeof statistics}. What a newer header knows and this
 * library does not stays as it was: zero it. A listener is known until it is closed and its last connection gone; then it
 * is WSX_ERR_CLOSED. [any thread]
 */
int32_t wsx_loop_statistics(wsx_loop *event_loop,
                            wsx_listener listener,
                            wsx_statistics *statistics);

/**
 * Writes what one thread of the loop has counted: 0 is the first, and WSX_ERR_INVALID is beyond the last. [any thread]
 */
int32_t wsx_loop_thread_statistics(wsx_loop *event_loop, size_t thread, wsx_statistics *statistics);

/**
 * Writes everything that was counted, on all threads, in the text format of Prometheus into a buffer: cut to what fits,
 * always with a NUL. The whole length, without the NUL, may go to NULL. For each listener its address is the label
 * listener; clients, and the loop itself, have none. on_request can answer it as it is, with the content type
 * "text/plain; version=0.0.4; charset=utf-8". [any thread]
 */
int32_t wsx_loop_metrics(wsx_loop *event_loop, char *buffer, size_t capacity, size_t *length);

/* ---- A client that connects again ---- */

/**
 * Reconnecting: the longest delay before the first attempt in a row; it doubles with each further one. Each delay is
 * chosen at random between zero and the longest. Default 250 ms; 0 is the default. [any thread]
 */
int32_t wsx_options_set_reconnect_base_delay(wsx_options *options, uint64_t ms);

/**
 * Reconnecting: the longest delay of all, at least the base delay. A server that answers with Retry-After is left alone for
 * that much longer, at most an hour. Default 30,000 ms; 0 is the default. [any thread]
 */
int32_t wsx_options_set_reconnect_max_delay(wsx_options *options,
                                            uint64_t ms);

/**
 * Reconnecting: a connection that was open for so long begins the count of attempts, and with it the delay, anew. Default
 * 5,000 ms; 0: each one that opens does. [any thread]
 */
int32_t wsx_options_set_reconnect_reset_after(wsx_options *options,
                                              uint64_t ms);

/**
 * Reconnecting: most attempts in a row to connect again. Beyond it the client gives up. Default 0: no limit. [any thread]
 */
int32_t wsx_options_set_reconnect_max_attempts(wsx_options *options,
                                               uint32_t count);

/**
 * Reconnecting: most bytes of messages that wait for the next connection while there is none, at most the backlog limit;
 * each message counts 32 bytes more than its payload. Beyond it wsx_client_send() answers WSX_ERR_BACKLOG_FULL. Default 0:
 * nothing waits, and it answers WSX_ERR_NOT_OPEN. [any thread]
 */
int32_t wsx_options_set_reconnect_offline_limit(wsx_options *options,
                                                size_t bytes);

/**
 * Connects as wsx_connect() does, and again whenever the connection ends, until there is a reason to give up: a
 * WSX_GIVE_UP_ constant. Writes the client's number, which may go to NULL. The callbacks and the user pointer are for all
 * attempts. Each is a connection of its own, which hears on_open where it succeeds, and its on_error and on_close; then
 * either on_reconnecting tells when the next attempt will be made, or on_give_up, the last event, that there will be none.
 * The name is looked up for each attempt anew; files of TLS are read once, now. [loop thread]
 */
int32_t wsx_connect_persistently(wsx_loop *event_loop,
                                 const char *url,
                                 const wsx_options *options,
                                 const wsx_callbacks *callbacks,
                                 void *user,
                                 wsx_client *client);

/**
 * Sends a message, copied before this returns, on the client's connection if it is open; else it waits for the next one,
 * where the options have an offline queue. What waits leaves in order as soon as a connection opens, before its on_open.
 * What was on its way when a connection was lost is told with its close, and is not sent again. From another thread success
 * means accepted: what is lost later is told in lost_messages, of the close or of on_give_up. [any thread]
 */
int32_t wsx_client_send(wsx_client client,
                        int32_t kind,
                        const void *payload,
                        size_t length);

/**
 * Closes the client's connection as wsx_close() does, and connects no more: on_give_up comes after its on_close. A client
 * that waits for its next attempt ends at once, and one that is connecting gives that up. The reason may be NULL. Closing
 * twice is WSX_ERR_CLOSED. To close the connection alone, by wsx_close(), is to connect again, unless the code says
 * otherwise. [any thread]
 */
int32_t wsx_client_close(wsx_client client,
                         uint16_t code,
                         const char *reason);

/**
 * Ends the client's transport at once, without a close, and connects no more; also where wsx_client_close() was called
 * before, and the server does not answer it. [any thread]
 */
int32_t wsx_client_terminate(wsx_client client);

/** Writes the number of the client's connection, open or not; 0 while it waits for its next attempt. [loop thread] */
int32_t wsx_client_connection(wsx_client client, wsx_connection *connection);

/**
 * Writes how many bytes wait: those of the connection, as wsx_buffered_amount() tells them, and those of the offline queue.
 * [loop thread]
 */
int32_t wsx_client_buffered_amount(wsx_client client,
                                   size_t *amount);

/* ---- The log ---- */

/**
 * Has a function told what happens, up to a level; WSX_LOG_OFF, for which the function may be NULL, ends that. There is
 * one log for a loop, which takes the place of the one before. It is called on the loop's thread (on each of several, at
 * once), later in the turn in which it happened, and may call everything but what drives the loop; what it does itself is
 * not logged. The drop function, which may be NULL, is called with the user pointer exactly once: after the last call, or
 * where this fails. Without a log nothing is formatted. [any thread]
 */
int32_t wsx_loop_set_log(wsx_loop *event_loop,
                         int32_t log_level,
                         wsx_log_function function,
                         void *user,
                         wsx_function drop);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LIBWSX_H */
