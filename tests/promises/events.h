/* What the program hears, told as lines, and what it does in its callbacks; it has a number for each that it hears of. */
#include "actor.h"

enum { MOST = 1024 };

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
