/*
 * The actor of the C door: does what the lines on standard input say, and tells every event as a line on standard
 * output. The protocol is in README.md.
 *
 * It drives the loop as a guest of its own poll(2): by descriptor, timeout and flush.
 */
#define _POSIX_C_SOURCE 200809L
#include "events.h"
#include "options.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

enum { MOST_WORDS = 128 };

typedef struct {
    int32_t kind;
    size_t length;
    uint8_t *bytes;
    wsx_shared *message;
} Shared;

static Shared shared[MOST];
static size_t shared_total;

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
