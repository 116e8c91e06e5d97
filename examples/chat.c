/*
 * A chat room: the page at /, its WebSocket at /chat, on one port.
 *
 *     chat [--host HOST] [--port PORT] [--page FILE]
 *
 * Every message is a JSON object of four strings: type ("enter", "leave" or "message"), sender, text and time. The
 * first one of a connection enters with a name. The server hands each to everybody in the room, the sender included,
 * and adds "people", the number of those in the room. Who vanishes without leaving is said to leave. Whatever else is
 * sent ends the connection with 1008 and the reason.
 */
#define _POSIX_C_SOURCE 200809L
#include <libwsx.h>

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum {
    MAX_NAME = 40,          /* characters */
    MAX_TIME = 40,          /* characters */
    MAX_TEXT = 4000,        /* characters, each at most 6 bytes of JSON (\u0000) */
    MAX_MESSAGE = 32 * 1024 /* bytes */
};

static const char ROOM[] = "room";

struct chat {
    wsx_loop *loop;
    size_t people;
    char *page;
    size_t page_length;
};

/* --- JSON: just what a flat object of strings needs */

/* A string as it stands in the JSON, quotes included: it can be handed on as it is. */
struct string {
    const char *start;
    size_t length;
};

struct message {
    struct string type, sender, text, time;
};

struct reader {
    const char *at, *end;
};

static void skip_space(struct reader *reader)
{
    while (reader->at < reader->end && memchr(" \t\r\n", *reader->at, 4)) reader->at++;
}

static bool is_next(struct reader *reader, char wanted)
{
    skip_space(reader);
    if (reader->at == reader->end || *reader->at != wanted) return false;
    reader->at++;
    return true;
}

static bool read_escape(struct reader *reader)
{
    if (reader->at == reader->end) return false;
    char escape = *reader->at++;
    if (escape != 'u') return memchr("\"\\/bfnrt", escape, 8) != NULL;
    for (int digits = 0; digits < 4; digits++, reader->at++) {
        if (reader->at == reader->end || !memchr("0123456789abcdefABCDEF", *reader->at, 22)) return false;
    }
    return true;
}

static bool read_string(struct reader *reader, struct string *string)
{
    if (!is_next(reader, '"')) return false;
    string->start = reader->at - 1;
    while (reader->at < reader->end) {
        unsigned char byte = (unsigned char)*reader->at++;
        if (byte == '"') {
            string->length = (size_t)(reader->at - string->start);
            return true;
        }
        if (byte < 0x20 || (byte == '\\' && !read_escape(reader))) return false;
    }
    return false;
}

static bool is_text(struct string string, const char *text)
{
    return string.length == strlen(text) + 2 && memcmp(string.start + 1, text, string.length - 2) == 0;
}

/* Characters of a string: an escape is one, and so are the bytes of one in UTF-8. */
static size_t characters(struct string string)
{
    size_t count = 0;
    for (size_t i = 1; i + 1 < string.length; i++, count++) {
        if (string.start[i] == '\\') i += string.start[i + 1] == 'u' ? 5 : 1;
        else while ((string.start[i + 1] & 0xC0) == 0x80) i++;
    }
    return count;
}

static bool read_message(const uint8_t *payload, size_t length, struct message *message)
{
    struct reader reader = {(const char *)payload, (const char *)payload + length};
    struct string name, value;
    memset(message, 0, sizeof *message);
    if (!is_next(&reader, '{')) return false;
    do {
        if (!read_string(&reader, &name) || !is_next(&reader, ':') || !read_string(&reader, &value)) return false;
        if (is_text(name, "type")) message->type = value;
        else if (is_text(name, "sender")) message->sender = value;
        else if (is_text(name, "text")) message->text = value;
        else if (is_text(name, "time")) message->time = value;
    } while (is_next(&reader, ','));
    if (!is_next(&reader, '}')) return false;
    skip_space(&reader);
    if (reader.at != reader.end) return false;
    return message->type.start && message->sender.start && message->text.start && message->time.start;
}

/* --- The room. The user data of a connection is the name of who entered, a JSON string; NULL before and after. */

static void tell_everybody(struct chat *chat, const struct message *message)
{
    char json[MAX_MESSAGE + 128];
    int length = snprintf(json, sizeof json,
                          "{\"type\":%.*s,\"sender\":%.*s,\"text\":%.*s,\"time\":%.*s,\"people\":%zu}",
                          (int)message->type.length, message->type.start,
                          (int)message->sender.length, message->sender.start,
                          (int)message->text.length, message->text.start,
                          (int)message->time.length, message->time.start, chat->people);
    if (length > 0 && (size_t)length < sizeof json) wsx_publish(chat->loop, ROOM, WSX_TEXT, json, (size_t)length, 0);
}

static const char *enter(struct chat *chat, wsx_connection connection, const struct message *message)
{
    size_t length = characters(message->sender);
    if (length < 1 || length > MAX_NAME) return "a name has 1 to 40 characters";
    char *name = malloc(message->sender.length + 1);
    if (!name) return "no memory";
    memcpy(name, message->sender.start, message->sender.length);
    name[message->sender.length] = '\0';
    wsx_set_user_data(connection, name);
    wsx_subscribe(connection, ROOM);
    chat->people++;
    tell_everybody(chat, message);
    return NULL;
}

static void leave(struct chat *chat, wsx_connection connection, const struct message *message)
{
    chat->people--;
    tell_everybody(chat, message);
    wsx_unsubscribe(connection, ROOM);
    free(wsx_user_data(connection));
    wsx_set_user_data(connection, NULL);
}

/* Does what a message says, or answers why not. */
static const char *obey(struct chat *chat, wsx_connection connection, const struct message *message)
{
    const char *name = wsx_user_data(connection);
    if (characters(message->text) > MAX_TEXT) return "a text has at most 4000 characters";
    if (characters(message->time) > MAX_TIME) return "that is not a time";
    if (!name) return is_text(message->type, "enter") ? enter(chat, connection, message) : "enter first";
    if (strlen(name) != message->sender.length || memcmp(name, message->sender.start, message->sender.length) != 0)
        return "the sender is not who entered";
    if (is_text(message->type, "message")) tell_everybody(chat, message);
    else if (is_text(message->type, "leave")) leave(chat, connection, message);
    else if (is_text(message->type, "enter")) return "you are in the room already";
    else return "the type is enter, leave or message";
    return NULL;
}

static void on_message(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user)
{
    struct message message;
    const char *why = "a message is a JSON object of the strings type, sender, text and time";
    if (kind == WSX_TEXT && read_message(payload, length, &message)) why = obey(user, connection, &message);
    if (why) wsx_close(connection, WSX_CLOSE_POLICY, why);
}

static void on_close(wsx_connection connection, const wsx_close_info *close, void *user)
{
    (void)close;
    const char *name = wsx_user_data(connection);
    if (!name) return;
    char now[32];
    time_t seconds = time(NULL);
    struct tm utc;
    strftime(now, sizeof now, "\"%Y-%m-%dT%H:%M:%SZ\"", gmtime_r(&seconds, &utc));
    struct message message = {{"\"leave\"", 7}, {name, strlen(name)}, {"\"\"", 2}, {now, strlen(now)}};
    leave(user, connection, &message);
}

static void on_request(const wsx_request *request, wsx_response *response, void *user)
{
    struct chat *chat = user;
    const char *path = wsx_request_path(request);
    if (strcmp(path, "/chat") == 0) wsx_response_accept(response, NULL);
    else if (strcmp(path, "/") != 0) wsx_response_reject(response, 404, "The page is at /, its WebSocket at /chat.\n");
    else if (strcmp(wsx_request_method(request), "GET") != 0) wsx_response_reject(response, 405, "GET only.\n");
    else wsx_response_page(response, 200, "text/html; charset=utf-8", chat->page, chat->page_length);
}

/* --- The program */

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "chat: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

static void usage(const char *what, const char *argument)
{
    fprintf(stderr, "chat: %s%s\nusage: chat [--host HOST] [--port PORT] [--page FILE]\n", what, argument);
    exit(2);
}

static void read_page(struct chat *chat, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    for (size_t got = 1, room = 64 * 1024; got > 0; chat->page_length += got, room *= 2) {
        chat->page = realloc(chat->page, chat->page_length + room);
        if (!chat->page) fail(path, "no memory");
        got = fread(chat->page + chat->page_length, 1, room, file);
    }
    if (ferror(file)) fail(path, "cannot be read");
    fclose(file);
}

static sigset_t ending_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    return signals;
}

static void *end_on_signal(void *loop)
{
    sigset_t signals = ending_signals();
    int signal;
    sigwait(&signals, &signal);
    wsx_loop_shutdown(loop, 1000);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *host = "127.0.0.1", *port = "8080", *page = "examples/chat.html";
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) usage("unknown option, or its value is missing: ", argv[i]);
        else if (strcmp(argv[i], "--host") == 0) host = argv[i + 1];
        else if (strcmp(argv[i], "--port") == 0) port = argv[i + 1];
        else if (strcmp(argv[i], "--page") == 0) page = argv[i + 1];
        else usage("unknown option: ", argv[i]);
    }

    struct chat chat = {0};
    read_page(&chat, page);

    /* Each connection is a descriptor: as many as the system allows. */
    struct rlimit descriptors;
    if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
        descriptors.rlim_cur = descriptors.rlim_max;
        setrlimit(RLIMIT_NOFILE, &descriptors);
    }

    /* Blocked before there are other threads, so that only the one that waits for them gets them. */
    sigset_t signals = ending_signals();
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    wsx_options *options = wsx_options_new();
    wsx_options_set_max_message(options, MAX_MESSAGE);
    wsx_callbacks callbacks = {
        .size = sizeof callbacks, .on_request = on_request, .on_message = on_message, .on_close = on_close};
    wsx_listener listener;
    char address[300];
    snprintf(address, sizeof address, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    if (wsx_loop_new(NULL, &chat.loop) || wsx_listen(chat.loop, address, options, &callbacks, &chat, &listener) ||
        wsx_listener_address(listener, address, sizeof address, NULL))
        fail(address, wsx_last_error());
    wsx_options_free(options);

    pthread_t waiting;
    if (pthread_create(&waiting, NULL, end_on_signal, chat.loop) != 0) fail("threads", "none to be had");
    printf("listening on http://%s\n", address);
    fflush(stdout);

    if (wsx_loop_run(chat.loop)) fail("the loop", wsx_last_error());
    pthread_join(waiting, NULL);
    wsx_loop_free(chat.loop);
    free(chat.page);
    return EXIT_SUCCESS;
}
