/*
 * What the tests share: a sentence printed for each, checks that say what they wanted, a deadline over everything, and
 * an ear, which notes what callbacks tell.
 */
#ifndef TEST_H
#define TEST_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <libwsx.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define check(condition) \
    ((condition) ? (void)0 : fail(__FILE__, __LINE__, #condition))
/* Turns the loop until something is so. */
#define until(loop, condition) \
    do { while (!(condition)) turn(loop); } while (0)

static inline void fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: this does not hold: %s (last error: %s)\n", file, line, what, wsx_last_error());
    exit(EXIT_FAILURE);
}

static inline void on_deadline(int signal)
{
    static const char text[] = "the last test above did not end in time\n";
    (void)signal;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(2);
    _exit(EXIT_FAILURE);
}

static inline void test(const char *sentence, void (*body)(void))
{
    struct sigaction deadline = {.sa_handler = on_deadline};
    sigaction(SIGALRM, &deadline, NULL);
    printf("  %s\n", sentence);
    fflush(stdout);
    alarm(getenv("WSX_SLOW") ? 600 : 60);
    body();
    alarm(0);
}

static inline void turn(wsx_loop *loop)
{
    check(wsx_loop_turn(loop, -1, NULL) == WSX_OK);
}

/* What the callbacks of one registration have told: how often, and the latest of it. */
struct ear {
    int requests, opens, messages, fragments, pings, pongs, drains, errors, closes, listener_errors, drops;
    wsx_connection connection;
    char subprotocol[64];
    int32_t kind;
    uint8_t *payload;
    size_t length;
    bool is_first, is_last;
    int32_t stage, failure, os_error, http_status;
    uint16_t code;
    char reason[128];
    bool was_clean, had_failure;
    int32_t by;
    uint32_t lost_messages;
    uint64_t undelivered_messages, limit, limit_reached;
    int32_t limit_unit;
    char limit_option[64];
    char text[512];
};

static inline void keep_payload(struct ear *ear, wsx_connection connection, const uint8_t *payload, size_t length)
{
    check(payload != NULL);
    ear->connection = connection;
    ear->payload = realloc(ear->payload, length + 1);
    check(ear->payload != NULL);
    memcpy(ear->payload, payload, length);
    ear->payload[length] = '\0';
    ear->length = length;
}

static inline void hear_open(wsx_connection connection, const wsx_opening *opening, void *user)
{
    struct ear *ear = user;
    const char *subprotocol = wsx_opening_subprotocol(opening);
    ear->connection = connection;
    ear->opens++;
    snprintf(ear->subprotocol, sizeof ear->subprotocol, "%s", subprotocol ? subprotocol : "");
}

static inline void hear_message(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length,
                                void *user)
{
    struct ear *ear = user;
    keep_payload(ear, connection, payload, length);
    ear->kind = kind;
    ear->messages++;
}

static inline void hear_fragment(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length,
                                 bool is_first, bool is_last, void *user)
{
    struct ear *ear = user;
    keep_payload(ear, connection, payload, length);
    ear->kind = kind;
    ear->is_first = is_first;
    ear->is_last = is_last;
    ear->fragments++;
}

static inline void hear_ping(wsx_connection connection, const uint8_t *payload, size_t length, void *user)
{
    struct ear *ear = user;
    keep_payload(ear, connection, payload, length);
    ear->pings++;
}

static inline void hear_pong(wsx_connection connection, const uint8_t *payload, size_t length, void *user)
{
    struct ear *ear = user;
    keep_payload(ear, connection, payload, length);
    ear->pongs++;
}

static inline void hear_drain(wsx_connection connection, void *user)
{
    struct ear *ear = user;
    ear->connection = connection;
    ear->drains++;
}

static inline void keep_failure(struct ear *ear, const wsx_failure *failure)
{
    check(failure->size == sizeof *failure);
    check(strlen(failure->message) == failure->message_length && failure->message_length > 0);
    ear->stage = failure->stage;
    ear->failure = failure->kind;
    ear->os_error = failure->os_error;
    ear->http_status = failure->http_status;
    bool is_limit = failure->kind == WSX_FAILURE_LIMIT || failure->kind == WSX_FAILURE_TIMEOUT;
    check((failure->limit_option != NULL) == is_limit && (failure->limit_unit != 0) == is_limit);
    snprintf(ear->limit_option, sizeof ear->limit_option, "%s", is_limit ? failure->limit_option : "");
    ear->limit = failure->limit;
    ear->limit_reached = failure->limit_reached;
    ear->limit_unit = failure->limit_unit;
}

static inline void hear_error(wsx_connection connection, const wsx_failure *failure, void *user)
{
    struct ear *ear = user;
    ear->connection = connection;
    keep_failure(ear, failure);
    ear->errors++;
}

static inline void hear_close(wsx_connection connection, const wsx_close_info *close, void *user)
{
    struct ear *ear = user;
    check(close->size == sizeof *close);
    check(close->reason[close->reason_length] == '\0');
    ear->connection = connection;
    ear->code = close->code;
    ear->was_clean = close->was_clean;
    ear->by = close->by;
    ear->lost_messages = close->lost_messages;
    ear->undelivered_messages = close->undelivered_messages;
    check(close->undelivered_messages >= close->lost_messages);
    ear->had_failure = close->failure != NULL;
    if (close->failure) keep_failure(ear, close->failure);
    snprintf(ear->reason, sizeof ear->reason, "%s", close->reason);
    snprintf(ear->text, sizeof ear->text, "%s", close->text);
    ear->closes++;
}

static inline void hear_listener_error(wsx_listener listener, const wsx_failure *failure, void *user)
{
    struct ear *ear = user;
    check(listener != 0);
    keep_failure(ear, failure);
    ear->listener_errors++;
}

static inline void hear_drop(void *user)
{
    ((struct ear *)user)->drops++;
}

static inline wsx_callbacks hearing(void)
{
    wsx_callbacks callbacks = {
        .size = sizeof callbacks,
        .on_open = hear_open,
        .on_message = hear_message,
        .on_fragment = hear_fragment,
        .on_ping = hear_ping,
        .on_pong = hear_pong,
        .on_drain = hear_drain,
        .on_error = hear_error,
        .on_close = hear_close,
        .on_listener_error = hear_listener_error,
        .drop = hear_drop,
    };
    return callbacks;
}

static inline wsx_loop *new_loop(void)
{
    wsx_loop *loop = NULL;
    check(wsx_loop_new(NULL, &loop) == WSX_OK);
    check(loop != NULL);
    return loop;
}

/* A listener on 127.0.0.1 and a port of the system's choice. */
static inline wsx_listener listen_here(wsx_loop *loop, const wsx_options *options, const wsx_callbacks *callbacks,
                                       void *user)
{
    wsx_listener listener = 0;
    check(wsx_listen(loop, "127.0.0.1:0", options, callbacks, user, &listener) == WSX_OK);
    check(listener != 0);
    return listener;
}

static inline wsx_connection connect_to(wsx_loop *loop, wsx_listener listener, const wsx_options *options,
                                        struct ear *ear)
{
    char url[64];
    wsx_connection connection = 0;
    wsx_callbacks callbacks = hearing();
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/", (int)wsx_listener_port(listener));
    check(wsx_connect(loop, url, options, &callbacks, ear, &connection) == WSX_OK);
    check(connection != 0);
    return connection;
}

/* A server and a client that have found each other on one loop. */
struct pair {
    wsx_loop *loop;
    wsx_listener listener;
    struct ear server, client;
    wsx_connection at_server, at_client;
};

static inline void open_pair(struct pair *pair, const wsx_options *server, const wsx_options *client)
{
    wsx_callbacks callbacks = hearing();
    memset(pair, 0, sizeof *pair);
    pair->loop = new_loop();
    pair->listener = listen_here(pair->loop, server, &callbacks, &pair->server);
    pair->at_client = connect_to(pair->loop, pair->listener, client, &pair->client);
    until(pair->loop, pair->server.opens == 1 && pair->client.opens == 1);
    pair->at_server = pair->server.connection;
    check(pair->client.connection == pair->at_client);
}

/* Frees the loop; whatever was open hears its one close, and each table is dropped once. */
static inline void close_pair(struct pair *pair)
{
    check(wsx_loop_free(pair->loop) == WSX_OK);
    check(pair->server.closes == pair->server.opens);
    check(pair->client.closes == 1);
    check(pair->server.drops == 1 && pair->client.drops == 1);
    free(pair->server.payload);
    free(pair->client.payload);
}

static inline bool is_payload(const struct ear *ear, const char *text)
{
    return ear->length == strlen(text) && memcmp(ear->payload, text, ear->length) == 0;
}

/* A peer that is a bare socket, so that it can misbehave. */
static inline int dial(wsx_listener listener)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_port = htons((uint16_t)wsx_listener_port(listener));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static inline void say(int fd, const char *text)
{
    check(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

static const char UPGRADE[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/* Reads what the server sends, while its loop turns, until it closes or the text has come. */
static inline size_t hear(wsx_loop *loop, int fd, char *buffer, size_t capacity, const char *last)
{
    size_t length = 0;
    for (;;) {
        ssize_t got = recv(fd, buffer + length, capacity - length - 1, MSG_DONTWAIT);
        check(got >= 0 || errno == EAGAIN || errno == ECONNRESET);
        if (got > 0) length += (size_t)got;
        buffer[length] = '\0';
        if (got == 0 || (got < 0 && errno == ECONNRESET) || (last && strstr(buffer, last))) return length;
        check(length + 1 < capacity);
        if (got < 0) check(wsx_loop_turn(loop, 10, NULL) == WSX_OK);
    }
}

#endif
