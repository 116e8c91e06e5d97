/* The request hook: what it sees, and each of its answers. */
#include "test.h"

struct hook {
    struct ear ear; /* first: the callbacks of an ear work with a hook */
    wsx_connection stream;
};

static void is_text(const char *text, const char *wanted)
{
    check(text && strcmp(text, wanted) == 0);
}

static void answer(const wsx_request *request, wsx_response *response, void *user)
{
    struct hook *hook = user;
    const char *path = wsx_request_path(request);
    hook->ear.requests++;
    check(wsx_request_connection(request) != 0);
    if (strcmp(path, "/chat") == 0) {
        check(wsx_response_accept(response, wsx_request_subprotocol_at(request, 1)) == WSX_OK);
        check(wsx_response_header(response, "X-Greeting", "hello") == WSX_OK);
    } else if (strcmp(path, "/page") == 0) {
        check(wsx_response_page(response, 200, "text/html", "<p>\0</p>", 8) == WSX_OK);
        check(wsx_response_header(response, "Cache-Control", "no-store") == WSX_OK);
    } else if (strcmp(path, "/health") == 0) {
        check(wsx_response_page(response, 204, "text/plain", NULL, 0) == WSX_OK);
    } else if (strcmp(path, "/forbidden") == 0) {
        check(wsx_response_reject(response, 403, "not you") == WSX_OK);
        check(wsx_response_header(response, "X-Why", "because") == WSX_OK);
    } else if (strcmp(path, "/stream") == 0) {
        check(wsx_response_stream(response, "text/event-stream") == WSX_OK);
        hook->stream = wsx_request_connection(request);
    } else if (strcmp(path, "/changed") == 0) {
        check(wsx_response_reject(response, 500, NULL) == WSX_OK);
        check(wsx_response_accept(response, NULL) == WSX_OK);
    } else if (strcmp(path, "/wrong") == 0) {
        check(wsx_response_reject(response, 199, NULL) == WSX_ERR_INVALID);
        check(wsx_response_reject(response, 101, NULL) == WSX_ERR_INVALID);
        check(wsx_response_reject(response, 600, NULL) == WSX_ERR_INVALID);
        check(wsx_response_reject(response, -1, NULL) == WSX_ERR_INVALID);
        check(wsx_response_page(response, 200, NULL, "", 0) == WSX_ERR_INVALID);
        check(wsx_response_page(response, 200, "a\r\nb", "", 0) == WSX_ERR_INVALID);
        check(wsx_response_page(response, 200, "text/plain", NULL, 1) == WSX_ERR_INVALID);
        check(wsx_response_stream(response, NULL) == WSX_ERR_INVALID);
        check(wsx_response_header(response, "X", "a\r\nSet-Cookie: b") == WSX_ERR_INVALID);
        check(wsx_response_header(response, "Connection", "close") == WSX_ERR_INVALID);
        check(wsx_response_header(response, NULL, "a") == WSX_ERR_INVALID);
        check(wsx_response_accept(response, "\xff") == WSX_ERR_INVALID);
    }
}

static void look(const wsx_request *request, wsx_response *response, void *user)
{
    const char *name, *value;
    ((struct hook *)user)->ear.requests++;
    is_text(wsx_request_method(request), "GET");
    is_text(wsx_request_path(request), "/a%20path");
    is_text(wsx_request_query(request), "q=1&r=?");
    is_text(wsx_request_header(request, "x-one"), "first");
    is_text(wsx_request_header(request, "X-ONE"), "first");
    check(!wsx_request_header(request, "x-none"));
    check(!wsx_request_header(request, NULL));
    check(wsx_request_is_upgrade(request));
    check(strncmp(wsx_request_peer(request), "127.0.0.1:", 10) == 0);
    check(wsx_request_header_count(request) == 10);
    check(wsx_request_header_at(request, 2, &name, &value) == WSX_OK);
    is_text(name, "X-One");
    is_text(value, "second");
    check(wsx_request_header_at(request, 9, &name, &value) == WSX_OK);
    is_text(value, "a\xff");
    check(!wsx_request_header(request, "x-bytes"));
    check(wsx_request_header_at(request, 10, &name, &value) == WSX_ERR_INVALID);
    check(wsx_request_header_at(request, 0, NULL, &value) == WSX_ERR_INVALID);
    check(wsx_request_header_at(request, 0, &name, NULL) == WSX_ERR_INVALID);
    is_text(wsx_request_subprotocol_at(request, 0), "one");
    is_text(wsx_request_subprotocol_at(request, 1), "two");
    is_text(wsx_request_subprotocol_at(request, 2), "three");
    check(!wsx_request_subprotocol_at(request, 3));
    check(wsx_response_reject(response, 418, "seen") == WSX_OK);
}

static wsx_listener serve(wsx_loop *loop, struct hook *hook)
{
    wsx_callbacks callbacks = hearing();
    memset(hook, 0, sizeof *hook);
    callbacks.on_request = answer;
    return listen_here(loop, NULL, &callbacks, hook);
}

static void get(wsx_loop *loop, wsx_listener listener, const char *path, char *buffer, size_t capacity)
{
    char request[256];
    int fd = dial(listener);
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path);
    say(fd, request);
    hear(loop, fd, buffer, capacity, NULL);
    close(fd);
}

static void the_request(void)
{
    char text[1024];
    struct hook hook = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    callbacks.on_request = look;
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &hook);
    int fd = dial(listener);
    say(fd, "GET /a%20path?q=1&r=? HTTP/1.1\r\nHost: 127.0.0.1\r\nX-One: first\r\nX-One: second\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: one, two\r\nSec-WebSocket-Protocol: ,three\r\n"
            "X-Bytes: a\xff\r\n\r\n");
    hear(loop, fd, text, sizeof text, NULL);
    check(strncmp(text, "HTTP/1.1 418 ", 13) == 0 && strstr(text, "\r\n\r\nseen"));
    check(hook.ear.requests == 1 && hook.ear.opens == 0 && hook.ear.closes == 0);
    close(fd);
    wsx_loop_free(loop);
}

static void pages(void)
{
    char text[1024];
    struct hook hook;
    wsx_loop *loop = new_loop();
    wsx_listener listener = serve(loop, &hook);
    int fd = dial(listener);
    say(fd, "GET /page HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    size_t length = hear(loop, fd, text, sizeof text, NULL);
    close(fd);
    check(strncmp(text, "HTTP/1.1 200 OK\r\n", 17) == 0);
    check(strstr(text, "Content-Type: text/html\r\n") && strstr(text, "Content-Length: 8\r\n"));
    check(strstr(text, "Cache-Control: no-store\r\n") && strstr(text, "Connection: close\r\n"));
    check(memcmp(text + length - 8, "<p>\0</p>", 8) == 0);
    get(loop, listener, "/health", text, sizeof text);
    check(strncmp(text, "HTTP/1.1 204 ", 13) == 0);
    get(loop, listener, "/forbidden", text, sizeof text);
    check(strncmp(text, "HTTP/1.1 403 ", 13) == 0 && strstr(text, "X-Why: because\r\n") && strstr(text, "not you"));
    get(loop, listener, "/wrong", text, sizeof text);
    check(strncmp(text, "HTTP/1.1 426 ", 13) == 0);
    get(loop, listener, "/chat", text, sizeof text);
    check(strncmp(text, "HTTP/1.1 426 ", 13) == 0 && strstr(text, "Sec-WebSocket-Version: 13\r\n"));
    check(hook.ear.requests == 5 && hook.ear.opens == 0 && hook.ear.closes == 0);
    wsx_loop_free(loop);
}

static void streams(void)
{
    char text[1024];
    struct hook hook;
    wsx_loop *loop = new_loop();
    wsx_listener listener = serve(loop, &hook);
    int fd = dial(listener);
    say(fd, "GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    hear(loop, fd, text, sizeof text, "\r\n\r\n");
    check(strncmp(text, "HTTP/1.1 200 OK\r\n", 17) == 0 && strstr(text, "Content-Type: text/event-stream\r\n"));
    check(wsx_write(hook.stream, "data: one\n\n", 11) == WSX_OK);
    hear(loop, fd, text, sizeof text, "data: one\n\n");
    check(wsx_send_text(hook.stream, "a frame") == WSX_ERR_WRONG_KIND);
    check(wsx_write(hook.stream, "data: two\n\n", 11) == WSX_OK);
    check(wsx_close(hook.stream, WSX_CLOSE_NORMAL, "told all") == WSX_OK);
    hear(loop, fd, text, sizeof text, NULL);
    check(strstr(text, "data: two\n\n"));
    close(fd);
    until(loop, hook.ear.closes == 1);
    check(hook.ear.connection == hook.stream && hook.ear.code == WSX_CLOSE_NORMAL && hook.ear.by == WSX_SIDE_US);
    check(wsx_write(hook.stream, "x", 1) == WSX_ERR_CLOSED);

    fd = dial(listener);
    say(fd, "GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    hear(loop, fd, text, sizeof text, "\r\n\r\n");
    close(fd);
    until(loop, hook.ear.closes == 2);
    check(hook.ear.by == WSX_SIDE_PEER);
    wsx_loop_free(loop);
    check(hook.ear.closes == 2);
}

static void greet(wsx_connection connection, const wsx_opening *opening, void *user)
{
    const wsx_request *request = wsx_opening_request(opening);
    hear_open(connection, opening, user);
    is_text(wsx_request_path(request), "/chat");
    is_text(wsx_opening_header(opening, "x-token"), "s3cret");
    check(!wsx_opening_header(opening, "x-none") && !wsx_opening_header(opening, NULL));
    check(wsx_request_connection(request) == connection && wsx_request_is_upgrade(request));
    check(wsx_send_text(connection, "welcome") == WSX_OK);
}

static void be_greeted(wsx_connection connection, const wsx_opening *opening, void *user)
{
    hear_open(connection, opening, user);
    check(!wsx_opening_request(opening));
    is_text(wsx_opening_header(opening, "X-Greeting"), "hello");
    is_text(wsx_opening_subprotocol(opening), "v2.chat");
}

static void acceptance(void)
{
    char url[64], text[16];
    size_t length;
    struct hook hook = {0};
    struct ear client = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    callbacks.on_request = answer;
    callbacks.on_open = greet;
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &hook);
    callbacks = hearing();
    callbacks.on_open = be_greeted;
    wsx_options *options = wsx_options_new();
    wsx_options_add_subprotocol(options, "v1.chat");
    wsx_options_add_subprotocol(options, "v2.chat");
    wsx_options_add_header(options, "X-Token", "s3cret");
    wsx_connection connection;
    snprintf(url, sizeof url, "ws://localhost:%d/chat?x", (int)wsx_listener_port(listener));
    check(wsx_connect(loop, url, options, &callbacks, &client, &connection) == WSX_OK);
    wsx_options_free(options);
    until(loop, client.messages == 1);
    check(is_payload(&client, "welcome"));
    is_text(hook.ear.subprotocol, "v2.chat");
    check(wsx_subprotocol(connection, text, sizeof text, &length) == WSX_OK && length == 7);
    is_text(text, "v2.chat");
    check(wsx_subprotocol(hook.ear.connection, text, 3, NULL) == WSX_OK);
    is_text(text, "v2");
    check(wsx_peer_address(hook.ear.connection, text, sizeof text, NULL) == WSX_OK);
    check(strncmp(text, "127.0.0.1:", 10) == 0);
    wsx_loop_free(loop);
    free(client.payload);
}

static void options_choose_the_subprotocol(void)
{
    struct pair pair;
    wsx_options *server = wsx_options_new(), *client = wsx_options_new();
    wsx_options_add_subprotocol(server, "soap");
    wsx_options_add_subprotocol(server, "wamp");
    wsx_options_add_subprotocol(client, "wamp");
    wsx_options_add_subprotocol(client, "other");
    open_pair(&pair, server, client);
    is_text(pair.server.subprotocol, "wamp");
    is_text(pair.client.subprotocol, "wamp");
    close_pair(&pair);
    open_pair(&pair, server, NULL);
    is_text(pair.server.subprotocol, "");
    close_pair(&pair);
    wsx_options_free(server);
    wsx_options_free(client);
}

static void compression_is_agreed_on(void)
{
    static char large[100000];
    char text[256];
    size_t length;
    struct pair pair;
    wsx_options *server = wsx_options_new(), *client = wsx_options_new();
    memset(large, 'x', sizeof large - 1);
    /* A parameter alone switches nothing on, and is kept until something does. */
    wsx_options_set_compression_server_max_window_bits(server, 10);
    open_pair(&pair, server, client);
    check(wsx_connection_extensions(pair.at_server, text, sizeof text, &length) == WSX_OK && length == 0);
    close_pair(&pair);
    wsx_options_set_compression(server, 1);
    wsx_options_set_compression(client, 1);
    wsx_options_set_compression_client_no_context_takeover(server, 0);
    wsx_options_set_compression_client_no_context_takeover(client, 0);
    open_pair(&pair, server, client);
    for (int end = 0; end < 2; end++) {
        wsx_connection connection = end ? pair.at_client : pair.at_server;
        check(wsx_connection_extensions(connection, text, sizeof text, &length) == WSX_OK);
        is_text(text, "permessage-deflate; server_no_context_takeover; server_max_window_bits=10");
        check(length == strlen(text));
        check(wsx_connection_extensions(connection, text, 11, NULL) == WSX_OK);
        is_text(text, "permessage");
        check(wsx_send_text(connection, large) == WSX_OK);
        /* What waits is what will go over the wire. */
        check(wsx_buffered_amount(connection, &length) == WSX_OK && length > 0 && length < 1000);
    }
    until(pair.loop, pair.server.messages == 1 && pair.client.messages == 1);
    check(is_payload(&pair.server, large) && is_payload(&pair.client, large));
    close_pair(&pair);
    /* The other side may not want to. */
    open_pair(&pair, server, NULL);
    check(wsx_connection_extensions(pair.at_client, text, sizeof text, &length) == WSX_OK && length == 0);
    close_pair(&pair);
    wsx_options_set_compression_level(server, 10);
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    check(wsx_listen(loop, "127.0.0.1:0", server, &callbacks, &ear, NULL) == WSX_ERR_INVALID);
    check(strstr(wsx_last_error(), "level"));
    wsx_loop_free(loop);
    wsx_options_free(server);
    wsx_options_free(client);
}

static void rejection_is_heard(void)
{
    char url[64];
    struct hook hook;
    struct ear client = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    wsx_listener listener = serve(loop, &hook);
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/forbidden", (int)wsx_listener_port(listener));
    check(wsx_connect(loop, url, NULL, &callbacks, &client, NULL) == WSX_OK);
    until(loop, client.closes == 1);
    check(client.opens == 0 && client.errors == 1 && client.code == WSX_CLOSE_ABNORMAL && client.had_failure);
    check(client.stage == WSX_STAGE_HTTP && client.failure == WSX_FAILURE_REFUSED && client.http_status == 403);

    snprintf(url, sizeof url, "ws://127.0.0.1:%d/changed", (int)wsx_listener_port(listener));
    check(wsx_connect(loop, url, NULL, &callbacks, &client, NULL) == WSX_OK);
    until(loop, client.opens == 1);
    wsx_loop_free(loop);
    check(client.closes == 2 && client.drops == 2);
}

static void origins(void)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                                  "Origin: https://example.org\r\n\r\n";
    static const char *const wanted[] = {"HTTP/1.1 403 ", "HTTP/1.1 101 ", "HTTP/1.1 101 ", "HTTP/1.1 403 "};
    for (int choice = 0; choice < 4; choice++) {
        char text[1024];
        struct ear ear = {0};
        wsx_loop *loop = new_loop();
        wsx_callbacks callbacks = hearing();
        wsx_options *options = wsx_options_new();
        if (choice == 1) wsx_options_set_origins(options, WSX_ORIGINS_ANY);
        if (choice == 2) wsx_options_add_origin(options, "https://other.example");
        if (choice == 2) wsx_options_add_origin(options, "https://example.org");
        if (choice == 3) wsx_options_add_origin(options, "https://other.example");
        wsx_listener listener = listen_here(loop, options, &callbacks, &ear);
        int fd = dial(listener);
        say(fd, request);
        hear(loop, fd, text, sizeof text, "\r\n\r\n");
        check(strncmp(text, wanted[choice], strlen(wanted[choice])) == 0);
        close(fd);
        wsx_options_free(options);
        wsx_loop_free(loop);
    }
}

static void only_path(void)
{
    char text[1024];
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    wsx_options *options = wsx_options_new();
    wsx_options_set_path(options, "/chat");
    wsx_listener listener = listen_here(loop, options, &callbacks, &ear);
    wsx_options_free(options);
    int fd = dial(listener);
    say(fd, UPGRADE);
    hear(loop, fd, text, sizeof text, NULL);
    check(strncmp(text, "HTTP/1.1 404 ", 13) == 0);
    close(fd);
    wsx_loop_free(loop);
}

int main(void)
{
    printf("The opening handshake\n");
    test("the hook sees method, path, query, headers, subprotocols and peer", the_request);
    test("pages, health checks and rejections are whole HTTP answers", pages);
    test("a stream is written to, ends in order, and hears its one close", streams);
    test("a WebSocket is accepted with a subprotocol and headers, and greeted", acceptance);
    test("the options choose the subprotocol where no hook does", options_choose_the_subprotocol);
    test("compression is agreed on, told, and used in both directions", compression_is_agreed_on);
    test("a client hears that it was rejected, with the status", rejection_is_heard);
    test("origins: the same host, a list, any", origins);
    test("where a path is set, others are 404", only_path);
    return EXIT_SUCCESS;
}
