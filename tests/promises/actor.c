/*
 * The actor of the C door: does what the lines on standard input say, and tells every event as a line on standard
 * output. The protocol is in README.md.
 *
 * It drives the loop as a guest of its own poll(2): by descriptor, timeout and flush.
 */
#define _POSIX_C_SOURCE 200809L
#include "options.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

enum { MOST = 1024, MOST_WORDS = 128 };

/* What the program does in its callbacks, for one listener or client. */
typedef struct {
    char on_message[64], on_open[64], request[16];
    int32_t status;
    int tells_requests, tells_deferrals;
    Bytes body, content_type, accept, show, header_name, header_value, show_cookie, show_parameter;
    size_t number;   /* of the listener */
    char within[16]; /* the listener of a route */
} Does;

static wsx_loop *loop;
static wsx_connection connections[MOST];
static wsx_listener listeners[MOST];
static wsx_client clients[MOST];
static size_t connection_total, listener_total, client_total;

typedef struct {
    int32_t kind;
    size_t length;
    uint8_t *bytes;
    wsx_shared *message;
} Shared;

static Shared shared[MOST];
static size_t shared_total;

static wsx_connection connection_at(const char *number)
{
    unsigned long at = strtoul(number, NULL, 10);
    return at >= 1 && at <= connection_total ? connections[at - 1] : 0;
}

static wsx_listener listener_at(const char *number)
{
    unsigned long at = strtoul(number, NULL, 10);
    return at >= 1 && at <= listener_total ? listeners[at - 1] : 0;
}

static wsx_client client_at(const char *number)
{
    unsigned long at = strtoul(number, NULL, 10);
    return at >= 1 && at <= client_total ? clients[at - 1] : 0;
}

/* A client may be heard of before the call that makes it has answered. */
static size_t number_of_client(wsx_client client)
{
    for (size_t i = 0; i < client_total; i++)
        if (clients[i] == client) return i + 1;
    if (client_total == MOST) abort();
    clients[client_total] = client;
    return ++client_total;
}

/* Connections are told as 1, 2, …, in the order the program hears of them. */
static size_t number_of(wsx_connection connection)
{
    for (size_t i = 0; i < connection_total; i++)
        if (connections[i] == connection) return i + 1;
    if (connection_total == MOST) abort();
    connections[connection_total] = connection;
    return ++connection_total;
}

/* --- Events */

static void say_failure(const wsx_failure *failure, const char *key)
{
    static const char *const units[] = {"none", "bytes", "count", "ms"};
    printf(" stage=%s kind=%s os_error=%d http_status=%d limit=", failure ? word_of(stages, failure->stage) : "none",
           failure ? word_of(kinds, failure->kind) : "none", failure ? failure->os_error : 0,
           failure ? failure->http_status : 0);
    if (failure && failure->limit_option) {
        printf("%s:%s:%llu:%llu", failure->limit_option, units[failure->limit_unit], (unsigned long long)failure->limit,
               (unsigned long long)failure->limit_reached);
    } else {
        putchar('-');
    }
    putchar(' ');
    say_hex(key, failure ? failure->message : NULL, failure ? failure->message_length : 0);
}

static int32_t act_one(const char *verb, wsx_connection connection, int32_t kind, const void *payload, size_t length)
{
    if (strcmp(verb, "echo") == 0) return wsx_send(connection, kind, payload, length);
    if (strcmp(verb, "broadcast") == 0) return wsx_broadcast(loop, 0, kind, payload, length, connection);
    if (strcmp(verb, "publish") == 0) return wsx_publish(loop, "room", kind, payload, length, connection);
    if (strcmp(verb, "greet") == 0) return wsx_send_text(connection, "welcome");
    if (strcmp(verb, "subscribe") == 0) return wsx_subscribe(connection, "room");
    if (strcmp(verb, "close") == 0) return wsx_close(connection, 4000, "done");
    if (strcmp(verb, "terminate") == 0) return wsx_terminate(connection);
    if (strcmp(verb, "pause") == 0) return wsx_pause(connection);
    if (strcmp(verb, "shutdown") == 0) return wsx_loop_shutdown(loop, 5000);
    if (strcmp(verb, "stop") == 0) return wsx_loop_stop(loop);
    if (strcmp(verb, "turn") == 0) return wsx_loop_turn(loop, 0, NULL);
    abort();
}

/* Does what the options say for this event, verb by verb, and tells what was refused. */
static void act(const char *verbs, wsx_connection connection, int32_t kind, const void *payload, size_t length)
{
    char copy[64];
    memcpy(copy, verbs, sizeof copy);
    char *rest = copy;
    for (char *verb; (verb = strtok_r(rest, ",", &rest));) {
        int32_t status = act_one(verb, connection, kind, payload, length);
        if (status >= 0) continue;
        printf("refused %zu verb=%s code=%s", number_of(connection), verb, word_of(errors, status));
        say_text(" text=", wsx_last_error());
        putchar('\n');
    }
}

typedef int32_t (*PairAt)(const wsx_request *, size_t, const char **, const char **);

/* Names and values as `name=value|name=value`. */
static void say_pairs(const char *key, const wsx_request *request, size_t total, PairAt at)
{
    char all[4096] = "";
    size_t used = 0;
    for (size_t i = 0; i < total; i++) {
        const char *name, *value;
        if (at(request, i, &name, &value) != WSX_OK) abort();
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s=%s", i ? "|" : "", name, value);
        if (used >= sizeof all) abort();
    }
    say_text(key, all);
}

static void say_parsed(const Does *does, const wsx_request *request)
{
    if (does->show_cookie.bytes) {
        say_text(" cookie=", wsx_request_cookie(request, text(does->show_cookie)));
        say_pairs(" cookies=", request, wsx_request_cookie_count(request), wsx_request_cookie_at);
    }
    if (does->show_parameter.bytes) {
        say_text(" parameter=", wsx_request_query_parameter(request, text(does->show_parameter)));
        size_t total = wsx_request_query_parameter_count(request);
        say_pairs(" parameters=", request, total, wsx_request_query_parameter_at);
    }
}

static void say_request(const Does *does, const wsx_request *request)
{
    printf("request %zu method=%s upgrade=%s", does->number, wsx_request_method(request),
           wsx_request_is_upgrade(request) ? "yes" : "no");
    say_text(" path=", wsx_request_path(request));
    say_text(" query=", wsx_request_query(request));
    printf(" offered=");
    for (size_t i = 0; wsx_request_subprotocol_at(request, i); i++)
        printf("%s%s", i ? "," : "", wsx_request_subprotocol_at(request, i));
    if (does->show.bytes) say_text(" header=", wsx_request_header(request, text(does->show)));
    size_t length = 0;
    const uint8_t *certificate = wsx_request_peer_certificate(request, 0, &length);
    printf(" secure=%s", wsx_request_is_secure(request) ? "yes" : "no");
    say_text(" server_name=", wsx_request_server_name(request));
    say_hex(" certificate=", certificate, length);
    say_parsed(does, request);
    putchar('\n');
}

/* An answer to a request, in the hook or later. */
static int32_t set_answer(wsx_response *response, const char *kind, const Does *does)
{
    int32_t status = WSX_OK;
    if (strcmp(kind, "later") == 0) return wsx_response_defer(response);
    if (strcmp(kind, "reject") == 0) status = wsx_response_reject(response, does->status, text(does->body));
    else if (strcmp(kind, "page") == 0)
        status = wsx_response_page(response, does->status, text(does->content_type), does->body.bytes, does->body.length);
    else if (strcmp(kind, "stream") == 0) status = wsx_response_stream(response, text(does->content_type));
    else if (does->accept.bytes) status = wsx_response_accept(response, text(does->accept));
    if (status == WSX_OK && does->header_name.bytes)
        status = wsx_response_header(response, text(does->header_name), text(does->header_value));
    return status;
}

static void on_request(const wsx_request *request, wsx_response *response, void *user)
{
    Does *does = user;
    if (does->tells_requests) say_request(does, request);
    set_answer(response, does->request, does);
    if (strcmp(does->request, "stream") == 0 || strcmp(does->request, "later") == 0)
        number_of(wsx_request_connection(request));
    if (strcmp(does->request, "metrics") == 0 && !wsx_request_is_upgrade(request)) {
        static char metrics[65536];
        size_t length;
        if (wsx_loop_metrics(loop, metrics, sizeof metrics, &length) < 0 || length >= sizeof metrics) abort();
        wsx_response_page(response, 200, "text/plain; version=0.0.4; charset=utf-8", metrics, length);
    }
}

static void after_deferral(wsx_connection connection, bool is_answered, void *user)
{
    if (((Does *)user)->tells_deferrals)
        printf("waited %zu answered=%s\n", number_of(connection), is_answered ? "yes" : "no");
}

static void on_open(wsx_connection connection, const wsx_opening *opening, void *user)
{
    Does *does = user;
    const wsx_request *request = wsx_opening_request(opening);
    printf("open %zu role=%s", number_of(connection), request ? "server" : "client");
    say_text(" path=", request ? wsx_request_path(request) : NULL);
    say_text(" query=", request ? wsx_request_query(request) : NULL);
    say_text(" subprotocol=", wsx_opening_subprotocol(opening));
    if (does->show.bytes) say_text(" header=", wsx_opening_header(opening, text(does->show)));
    putchar('\n');
    act(does->on_open, connection, WSX_TEXT, "", 0);
}

static void on_message(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user)
{
    printf("message %zu kind=%s", number_of(connection), kind == WSX_TEXT ? "text" : "binary");
    say_hex(" payload=", payload, length);
    putchar('\n');
    act(((Does *)user)->on_message, connection, kind, payload, length);
}

static void on_fragment(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, bool is_first,
                        bool is_last, void *user)
{
    (void)user;
    printf("fragment %zu kind=%s first=%s last=%s", number_of(connection), kind == WSX_TEXT ? "text" : "binary",
           is_first ? "yes" : "no", is_last ? "yes" : "no");
    say_hex(" payload=", payload, length);
    putchar('\n');
}

static void on_ping(wsx_connection connection, const uint8_t *payload, size_t length, void *user)
{
    (void)user;
    printf("ping %zu", number_of(connection));
    say_hex(" payload=", payload, length);
    putchar('\n');
}

static void on_pong(wsx_connection connection, const uint8_t *payload, size_t length, void *user)
{
    (void)user;
    printf("pong %zu", number_of(connection));
    say_hex(" payload=", payload, length);
    putchar('\n');
}

static void on_drain(wsx_connection connection, void *user)
{
    (void)user;
    printf("drain %zu\n", number_of(connection));
}

static void on_error(wsx_connection connection, const wsx_failure *failure, void *user)
{
    (void)user;
    printf("error %zu", number_of(connection));
    say_failure(failure, "text=");
    putchar('\n');
}

static void on_close(wsx_connection connection, const wsx_close_info *close, void *user)
{
    (void)user;
    printf("close %zu code=%d clean=%s by=%s lost=%u unsent=%llu undelivered=%llu", number_of(connection), close->code,
           close->was_clean ? "yes" : "no", close->by == WSX_SIDE_US ? "us" : "peer", close->lost_messages,
           (unsigned long long)close->unsent_bytes, (unsigned long long)close->undelivered_messages);
    say_hex(" reason=", close->reason, close->reason_length);
    say_failure(close->failure, "cause=");
    say_text(" text=", close->text);
    putchar('\n');
}

static void on_listener_error(wsx_listener listener, const wsx_failure *failure, void *user)
{
    (void)listener;
    printf("listener_error %zu", ((Does *)user)->number);
    say_failure(failure, "text=");
    putchar('\n');
}

static void on_reconnecting(wsx_client client, const wsx_reconnecting *reconnecting, void *user)
{
    (void)user;
    printf("reconnecting %zu attempt=%u delay=%llu code=%d", number_of_client(client), reconnecting->attempt,
           (unsigned long long)reconnecting->delay_ms, reconnecting->cause->code);
    say_failure(reconnecting->cause->failure, "cause=");
    putchar('\n');
}

static void on_give_up(wsx_client client, const wsx_give_up *give_up, void *user)
{
    (void)user;
    printf("gave_up %zu kind=%s close_code=%d http_status=%d attempts=%u lost=%u", number_of_client(client),
           word_of(give_ups, give_up->kind), give_up->close_code, give_up->http_status, give_up->attempts,
           give_up->lost_messages);
    say_hex(" text=", give_up->message, give_up->message_length);
    putchar('\n');
}

static void drop(void *user)
{
    Does *does = user;
    Bytes *values[] = {&does->body, &does->content_type, &does->accept, &does->show, &does->header_name,
                       &does->header_value, &does->show_cookie, &does->show_parameter};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) free(values[i]->bytes);
    free(does);
}

static const wsx_callbacks callbacks = {
    .size = sizeof callbacks, .on_request = on_request, .on_open = on_open, .on_message = on_message,
    .on_fragment = on_fragment, .on_ping = on_ping, .on_pong = on_pong, .on_drain = on_drain, .on_error = on_error,
    .on_close = on_close, .on_listener_error = on_listener_error, .drop = drop, .after_deferral = after_deferral,
    .on_reconnecting = on_reconnecting, .on_give_up = on_give_up};

/* --- Options: KEY=VALUE; those of the engine are in options.h */

static int set_does(Does *does, const char *key, char *value)
{
    if (strcmp(key, "on_message") == 0) snprintf(does->on_message, sizeof does->on_message, "%s", value);
    else if (strcmp(key, "on_open") == 0) snprintf(does->on_open, sizeof does->on_open, "%s", value);
    else if (strcmp(key, "request") == 0) snprintf(does->request, sizeof does->request, "%s", value);
    else if (strcmp(key, "within") == 0) snprintf(does->within, sizeof does->within, "%s", value);
    else if (strcmp(key, "tell") == 0) does->tells_requests = 1;
    else if (strcmp(key, "tell_deferral") == 0) does->tells_deferrals = 1;
    else if (strcmp(key, "status") == 0) does->status = (int32_t)strtol(value, NULL, 10);
    else if (strcmp(key, "body") == 0) does->body = unhex(value);
    else if (strcmp(key, "content_type") == 0) does->content_type = unhex(value);
    else if (strcmp(key, "accept") == 0) does->accept = unhex(value);
    else if (strcmp(key, "show") == 0) does->show = unhex(value);
    else if (strcmp(key, "show_cookie") == 0) does->show_cookie = unhex(value);
    else if (strcmp(key, "show_parameter") == 0) does->show_parameter = unhex(value);
    else if (strcmp(key, "answer_header") == 0) {
        char *colon = strchr(value, ':');
        *colon = 0;
        does->header_name = unhex(value);
        does->header_value = unhex(colon + 1);
    } else return 0;
    return 1;
}

static int32_t set_all(wsx_options *options, Does *does, char **words, size_t total)
{
    int32_t status = WSX_OK;
    for (size_t i = 0; i < total && status == WSX_OK; i++) {
        char *value = strchr(words[i], '=');
        *value++ = 0;
        if (!does || !set_does(does, words[i], value)) status = set_option(options, words[i], value);
    }
    return status;
}

/* --- Commands */

/* The answer where nothing more is to be told. */
static void answer(int32_t status)
{
    if (status >= 0) {
        printf("ok\n");
        return;
    }
    printf("error %s os=%d", word_of(errors, status), wsx_last_os_error());
    say_text(" text=", wsx_last_error());
    putchar('\n');
}

static void answer_number(int32_t status, const size_t *value)
{
    if (status < 0) answer(status);
    else printf("ok %zu\n", *value);
}

/* Numbered messages of a size, until one is refused. */
static void flood(wsx_connection connection, size_t size, size_t total)
{
    uint8_t *payload = calloc(1, size < 4 ? 4 : size);
    if (!payload) abort();
    int32_t status = WSX_OK;
    size_t taken = 0;
    while (taken < total) {
        for (size_t i = 0; i < 4; i++) payload[i] = (uint8_t)(taken >> (24 - 8 * i));
        status = wsx_send(connection, WSX_BINARY, payload, size);
        if (status < 0) break;
        taken++;
    }
    free(payload);
    printf("ok taken=%zu refused=%s", taken, status < 0 ? word_of(errors, status) : "none");
    say_text(" text=", status < 0 ? wsx_last_error() : NULL);
    putchar('\n');
}

static void listen_or_connect(char **words, size_t total)
{
    Does *does = calloc(1, sizeof *does);
    if (!does) abort();
    wsx_options *options = wsx_options_new();
    Bytes where = unhex(words[1]);
    int32_t status = set_all(options, does, words + 2, total - 2);
    if (status < 0) {
        answer(status);
        drop(does);
    } else if (strcmp(words[0], "listen") == 0 || strcmp(words[0], "route") == 0) {
        does->number = listener_total + 1;
        wsx_listener listener;
        if (strcmp(words[0], "listen") == 0) status = wsx_listen(loop, text(where), options, &callbacks, does, &listener);
        else status = wsx_route(listener_at(does->within), text(where), options, &callbacks, does, &listener);
        if (status < 0) answer(status);
        else {
            listeners[listener_total++] = listener;
            printf("ok %zu %d\n", listener_total, wsx_listener_port(listener));
        }
    } else if (strcmp(words[0], "persist") == 0) {
        wsx_client client;
        wsx_connection connection = 0;
        status = wsx_connect_persistently(loop, text(where), options, &callbacks, does, &client);
        if (status < 0) answer(status);
        else if (wsx_client_connection(client, &connection) < 0) abort();
        else printf("ok %zu %zu\n", number_of_client(client), number_of(connection));
    } else {
        wsx_connection connection;
        status = wsx_connect(loop, text(where), options, &callbacks, does, &connection);
        size_t number = status < 0 ? 0 : number_of(connection);
        answer_number(status, &number);
    }
    free(where.bytes);
    wsx_options_free(options);
}

static void respond(char **words, size_t total)
{
    Does *does = calloc(1, sizeof *does);
    if (!does || set_all(NULL, does, words + 3, total - 3) < 0) abort();
    wsx_response *response = wsx_response_new();
    int32_t status = set_answer(response, words[2], does);
    answer(status < 0 ? status : wsx_respond(connection_at(words[1]), response));
    wsx_response_free(response);
    drop(does);
}

static void reload(char **words, size_t total)
{
    wsx_options *options = wsx_options_new();
    int32_t status = set_all(options, NULL, words + 2, total - 2);
    answer(status < 0 ? status : wsx_listener_reload_tls(listener_at(words[1]), options));
    wsx_options_free(options);
}

static void say_figure(const char *field, const char *label, const char *another, uint64_t value)
{
    if (value == 0) return;
    printf(" %s%s%s%s%s=%llu", field, label ? "_" : "", label ? label : "", another ? "_" : "", another ? another : "",
           (unsigned long long)value);
}

static void say_figures(const char *field, const Word *words, const uint64_t *values, size_t total)
{
    for (size_t i = 0; i < total; i++) say_figure(field, word_of(words, (int32_t)i), NULL, values[i]);
}

static void statistics_of(wsx_listener listener)
{
    wsx_statistics counted = {.size = sizeof counted};
    int32_t status = wsx_loop_statistics(loop, listener, &counted);
    if (status < 0) {
        answer(status);
        return;
    }
    printf("ok");
#define SAY(field) say_figure(#field, NULL, NULL, counted.field)
    SAY(connections), SAY(handshakes), SAY(buffered_bytes), SAY(accepted), SAY(connects), SAY(opened), SAY(streams);
    SAY(answered), SAY(messages_received), SAY(messages_sent), SAY(bytes_received), SAY(bytes_sent), SAY(messages_lost);
    SAY(closes_3000), SAY(closes_4000), SAY(listener_errors), SAY(turns);
    say_figure("longest_callback", NULL, NULL, counted.longest_callback_ns);
    say_figures("refused", causes, counted.refused, sizeof counted.refused / sizeof *counted.refused);
    say_figures("connects_failed", stages, counted.connects_failed, 16);
    for (int32_t stage = 0; stage < 16; stage++)
        for (int32_t kind = 0; kind < 16; kind++)
            say_figure("failures", word_of(stages, stage), word_of(kinds, kind), counted.failures[stage][kind]);
    for (int code = 1000; code < 1016; code++) {
        char label[8];
        snprintf(label, sizeof label, "%d", code);
        say_figure("closes", label, NULL, counted.closes[code - 1000]);
    }
    putchar('\n');
}

static void on_record(const wsx_log_record *record, void *user)
{
    (void)user;
    printf("log 0 level=%s topic=%s", word_of(levels, record->level), word_of(topics, record->topic));
    say_hex(" text=", record->message, record->message_length);
    putchar('\n');
}

static void connections_of(wsx_listener listener)
{
    wsx_connection numbers[MOST];
    size_t total = 0;
    int32_t status = wsx_connections(loop, listener, numbers, MOST, &total);
    if (status < 0) {
        answer(status);
        return;
    }
    printf("ok");
    for (size_t i = 0; i < total; i++) printf(" %zu", number_of(numbers[i]));
    putchar('\n');
}

static void answer_text(int32_t (*ask)(wsx_connection, char *, size_t, size_t *), wsx_connection connection)
{
    char buffer[300];
    size_t length;
    int32_t status = ask(connection, buffer, sizeof buffer, &length);
    if (status < 0) {
        answer(status);
        return;
    }
    say_hex("ok ", length ? buffer : NULL, length);
    putchar('\n');
}

static void release(void *payload, size_t length, void *context)
{
    (void)length;
    (void)context;
    free(payload);
}

/* Each shared message is made once, and sent again and again. */
static int32_t send_shared(wsx_connection connection, int32_t kind, Bytes payload)
{
    for (size_t i = 0; i < shared_total; i++)
        if (shared[i].kind == kind && shared[i].length == payload.length && memcmp(shared[i].bytes, payload.bytes, payload.length) == 0)
            return wsx_send_shared(connection, shared[i].message);
    if (shared_total == MOST) abort();
    Shared *new = &shared[shared_total++];
    new->bytes = malloc(payload.length + 1);
    if (!new->bytes) abort();
    memcpy(new->bytes, payload.bytes, payload.length);
    new->kind = kind;
    new->length = payload.length;
    if (wsx_shared_new(kind, payload.bytes, payload.length, &new->message) < 0) abort();
    return wsx_send_shared(connection, new->message);
}

static void answer_latency(wsx_connection connection)
{
    uint64_t microseconds;
    int32_t status = wsx_latency(connection, &microseconds);
    if (status < 0) answer(status);
    else if (microseconds == 0) printf("ok none\n");
    else printf("ok %llu\n", (unsigned long long)microseconds);
}

typedef struct {
    char **words;
    size_t total;
} Command;

static void perform(char **words, size_t total);

static void *perform_there(void *user)
{
    Command *command = user;
    perform(command->words, command->total);
    return NULL;
}

static int is(const char *word, const char *name)
{
    return strcmp(word, name) == 0;
}

static void perform(char **words, size_t total)
{
    const char *command = words[0];
    if (is(command, "thread")) { /* any thread: another one does it while this one waits */
        Command there = {words + 1, total - 1};
        pthread_t thread;
        if (pthread_create(&thread, NULL, perform_there, &there) != 0) abort();
        pthread_join(thread, NULL);
        return;
    }
    if (is(command, "listen") || is(command, "connect") || is(command, "persist") ||
        is(command, "route")) {
        listen_or_connect(words, total);
        return;
    }
    if (is(command, "respond")) {
        respond(words, total);
        return;
    }
    if (is(command, "reload")) {
        reload(words, total);
        return;
    }
    wsx_connection connection = total > 1 ? connection_at(words[1]) : 0;
    int32_t kind = total > 2 && is(words[2], "text") ? WSX_TEXT : total > 2 && is(words[2], "binary") ? WSX_BINARY : 7;
    Bytes name = {NULL, 0}, last = {NULL, 0};
    size_t value = 0;
    if (is(command, "publish") || is(command, "subscribers")) name = unhex(words[1]);
    if (is(command, "owned") || is(command, "shared") || is(command, "fragment") || is(command, "send")
        || is(command, "broadcast") || is(command, "publish") || is(command, "close") || is(command, "client_send")
        || is(command, "client_close"))
        last = unhex(words[3]);
    if (is(command, "ping") || is(command, "pong") || is(command, "write") || strstr(command, "subscribe") == command
        || is(command, "unsubscribe"))
        last = unhex(words[total - 1]);

    if (is(command, "send")) answer(wsx_send(connection, kind, last.bytes, last.length));
    else if (is(command, "owned")) {
        answer(wsx_send_owned(connection, kind, last.bytes, last.length, release, NULL));
        last.bytes = NULL;
    } else if (is(command, "shared")) answer(send_shared(connection, kind, last));
    else if (is(command, "fragment"))
        answer(wsx_send_fragment(connection, kind, last.bytes, last.length, is(words[4], "last")));
    else if (is(command, "ping")) answer(wsx_ping(connection, last.bytes, last.length));
    else if (is(command, "pong")) answer(wsx_pong(connection, last.bytes, last.length));
    else if (is(command, "close")) answer(wsx_close(connection, (uint16_t)strtoul(words[2], NULL, 10), text(last)));
    else if (is(command, "terminate")) answer(wsx_terminate(connection));
    else if (is(command, "write")) answer(wsx_write(connection, last.bytes, last.length));
    else if (is(command, "flood")) flood(connection, strtoul(words[2], NULL, 10), strtoul(words[3], NULL, 10));
    else if (is(command, "broadcast"))
        answer(wsx_broadcast(loop, listener_at(words[1]), kind, last.bytes, last.length, connection_at(words[4])));
    else if (is(command, "publish"))
        answer(wsx_publish(loop, text(name), kind, last.bytes, last.length, connection_at(words[4])));
    else if (is(command, "subscribe")) answer(wsx_subscribe(connection, text(last)));
    else if (is(command, "unsubscribe")) answer(wsx_unsubscribe(connection, text(last)));
    else if (is(command, "subscribers")) answer_number(wsx_subscriber_count(loop, text(name), &value), &value);
    else if (is(command, "count")) answer_number(wsx_connection_count(loop, listener_at(words[1]), &value), &value);
    else if (is(command, "connections")) connections_of(listener_at(words[1]));
    else if (is(command, "log")) answer(wsx_loop_set_log(loop, value_of(levels, words[1]), on_record, NULL, NULL));
    else if (is(command, "statistics")) statistics_of(listener_at(words[1]));
    else if (is(command, "pause")) answer(wsx_pause(connection));
    else if (is(command, "resume")) answer(wsx_resume(connection));
    else if (is(command, "state")) {
        int32_t state = wsx_ready_state(connection);
        if (state < 0) answer(state);
        else printf("ok %s\n", word_of(states, state));
    } else if (is(command, "buffered")) answer_number(wsx_buffered_amount(connection, &value), &value);
    else if (is(command, "latency")) answer_latency(connection);
    else if (is(command, "subprotocol")) answer_text(wsx_subprotocol, connection);
    else if (is(command, "extensions")) answer_text(wsx_connection_extensions, connection);
    else if (is(command, "peer")) answer_text(wsx_peer_address, connection);
    else if (is(command, "client_send"))
        answer(wsx_client_send(client_at(words[1]), kind, last.bytes, last.length));
    else if (is(command, "client_close"))
        answer(wsx_client_close(client_at(words[1]), (uint16_t)strtoul(words[2], NULL, 10), text(last)));
    else if (is(command, "client_terminate")) answer(wsx_client_terminate(client_at(words[1])));
    else if (is(command, "client_buffered"))
        answer_number(wsx_client_buffered_amount(client_at(words[1]), &value), &value);
    else if (is(command, "client_connection")) {
        int32_t status = wsx_client_connection(client_at(words[1]), &connection);
        value = status < 0 || connection == 0 ? 0 : number_of(connection);
        answer_number(status, &value);
    } else if (is(command, "close_listener")) answer(wsx_listener_close(listener_at(words[1])));
    else if (is(command, "stop")) answer(wsx_loop_stop(loop));
    else if (is(command, "shutdown")) answer(wsx_loop_shutdown(loop, strtoul(words[1], NULL, 10)));
    else if (is(command, "free")) {
        answer(wsx_loop_free(loop));
        loop = NULL;
    } else abort();
    free(name.bytes);
    free(last.bytes);
}

static void line(char *text)
{
    char *words[MOST_WORDS], *rest = text;
    size_t total = 0;
    for (char *word; total < MOST_WORDS && (word = strtok_r(rest, " ", &rest));) words[total++] = word;
    if (total) perform(words, total);
}

/* Does every whole line that standard input has; false at its end. */
static bool read_lines(void)
{
    static char *buffer;
    static size_t used, capacity;
    if (capacity - used < 65536) {
        capacity = 2 * capacity + 131072;
        buffer = realloc(buffer, capacity);
        if (!buffer) abort();
    }
    ssize_t count = read(STDIN_FILENO, buffer + used, capacity - used);
    if (count <= 0) {
        free(buffer);
        return false;
    }
    size_t begin = 0, fresh = used;
    used += (size_t)count;
    for (char *end; (end = memchr(buffer + fresh, '\n', used - fresh)); begin = fresh) {
        *end = 0;
        line(buffer + begin);
        fresh = (size_t)(end - buffer) + 1;
    }
    memmove(buffer, buffer + begin, used - begin);
    used -= begin;
    return true;
}

int main(int argc, char **argv)
{
    if (argc > 1 && is(argv[1], "hello")) {
        printf("c %s\n", wsx_version_string());
        return EXIT_SUCCESS;
    }
    wsx_options *options = wsx_options_new();
    if (set_all(options, NULL, argv + 1, (size_t)argc - 1) < 0 || wsx_loop_new(options, &loop) < 0) abort();
    wsx_options_free(options);

    bool running = true, reading = true;
    while (reading) {
        int32_t wait_ms = -1;
        if (running && loop && wsx_loop_next_timeout(loop, &wait_ms) < 0) abort();
        struct pollfd watched[] = {{STDIN_FILENO, POLLIN, 0}, {running && loop ? wsx_loop_fd(loop) : -1, POLLIN, 0}};
        if (poll(watched, 2, wait_ms) < 0) abort();
        if (watched[0].revents) reading = read_lines();
        if (running && loop) {
            if (wsx_loop_flush(loop) < 0 || wsx_loop_turn(loop, 0, &running) < 0) abort();
            if (!running) printf("stopped 0\n");
        }
        fflush(stdout);
    }
    if (wsx_loop_free(loop) < 0) abort();
    while (shared_total > 0) {
        wsx_shared_free(shared[--shared_total].message);
        free(shared[shared_total].bytes);
    }
    return EXIT_SUCCESS;
}
