/* The border itself: versions, errors, NULL, numbers out of range, options, tables of other sizes. */
#include "test.h"

static void versions(void)
{
    check(wsx_version() == WSX_VERSION_NUMBER);
    check(strcmp(wsx_version_string(), WSX_VERSION) == 0);
    check(WSX_VERSION_NUMBER == WSX_VERSION_MAJOR * 1000000 + WSX_VERSION_MINOR * 1000 + WSX_VERSION_PATCH);
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", WSX_VERSION_MAJOR, WSX_VERSION_MINOR, WSX_VERSION_PATCH);
    check(strcmp(text, WSX_VERSION) == 0);
}

static void features(void)
{
    check(wsx_has_feature("server") && wsx_has_feature("client") && wsx_has_feature("unix"));
    check(wsx_has_feature("deflate") && wsx_has_feature("tls"));
    check(!wsx_has_feature("http2") && !wsx_has_feature("") && !wsx_has_feature(NULL));
}

static void every_status_has_a_sentence(void)
{
    for (int32_t status = WSX_ERR_PANIC; status <= WSX_OK; status++) {
        check(strlen(wsx_strerror(status)) > 5);
        for (int32_t other = WSX_ERR_PANIC; other < status; other++)
            check(strcmp(wsx_strerror(status), wsx_strerror(other)) != 0);
    }
    check(wsx_strerror(INT32_MIN) && wsx_strerror(INT32_MAX));
}

static void last_error_has_figures(void)
{
    wsx_options *options = wsx_options_new();
    check(wsx_options_set_backlog_policy(options, 77) == WSX_ERR_INVALID);
    check(strstr(wsx_last_error(), "77"));
    check(wsx_last_os_error() == 0);
    wsx_options_free(options);

    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    check(wsx_listen(loop, "unix:/does/not/exist/x", NULL, &callbacks, &ear, NULL) == WSX_ERR_SYSTEM);
    check(wsx_last_os_error() == ENOENT);
    check(strstr(wsx_last_error(), "/does/not/exist/x"));
    check(ear.drops == 1);
    wsx_loop_free(loop);
}

static void last_error_names_what_is_wrong_with_a_text(void)
{
    check(wsx_send_text(1, NULL) == WSX_ERR_INVALID && strstr(wsx_last_error(), "payload is NULL"));
    check(wsx_send_text(1, "a\xff") == WSX_ERR_INVALID && strstr(wsx_last_error(), "payload is not UTF-8"));
    check(wsx_send(1, WSX_TEXT, "a\xff", 2) == WSX_ERR_INVALID && strstr(wsx_last_error(), "payload is not UTF-8"));
    check(wsx_send_text(1, "") == WSX_ERR_CLOSED);
}

static void last_error_stays_in_its_place(void)
{
    const char *place = wsx_last_error();
    wsx_options *options = wsx_options_new();
    /* The order in which C finds out the arguments is its own affair. */
    char text[2048];
    snprintf(text, sizeof text, "%d %s", (int)wsx_options_set_backlog_policy(options, 88), wsx_last_error());
    check(strncmp(text, "-1 ", 3) == 0 && strstr(text, "88"));
    check(wsx_last_error() == place && strstr(place, "88"));
    wsx_options_free(options);

    /* A text that is too long is cut between two characters. */
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    char address[2048] = "unix:/";
    while (strlen(address) + 3 < sizeof address) strcat(address, "\u20ac");
    check(wsx_listen(loop, address, NULL, &callbacks, &ear, NULL) != WSX_OK);
    size_t length = strlen(place);
    check(length > 1020 && length < 1024);
    check(memcmp(place + length - 3, "\u20ac", 3) == 0);
    check(wsx_last_error() == place);
    wsx_loop_free(loop);
}

#define invalid(call) check((call) == WSX_ERR_INVALID)

static void null_loop_and_number(void)
{
    struct ear ear = {0};
    wsx_callbacks callbacks = hearing();
    wsx_loop *loop = new_loop();
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &ear);
    bool running;
    int32_t timeout;
    size_t total;
    uint64_t number = 42;

    invalid(wsx_loop_new(NULL, NULL));
    check(wsx_loop_free(NULL) == WSX_OK);
    invalid(wsx_loop_run(NULL));
    invalid(wsx_loop_turn(NULL, 0, &running));
    invalid(wsx_loop_turn(loop, -2, &running));
    invalid(wsx_loop_flush(NULL));
    invalid(wsx_loop_fd(NULL));
    invalid(wsx_loop_next_timeout(NULL, &timeout));
    invalid(wsx_loop_next_timeout(loop, NULL));
    invalid(wsx_loop_wake(NULL));
    invalid(wsx_loop_stop(NULL));
    invalid(wsx_loop_shutdown(NULL, 0));

    ear.drops = 0;
    invalid(wsx_loop_post(NULL, hear_drop, &ear, hear_drop));
    invalid(wsx_loop_post(loop, NULL, &ear, hear_drop));
    invalid(wsx_loop_set_timer(NULL, 0, hear_drop, &ear, hear_drop, &number));
    invalid(wsx_loop_set_timer(loop, 0, NULL, &ear, hear_drop, &number));
    invalid(wsx_listen(NULL, "127.0.0.1:0", NULL, &callbacks, &ear, &number));
    invalid(wsx_listen(loop, NULL, NULL, &callbacks, &ear, &number));
    check(wsx_listen(loop, "nonsense", NULL, &callbacks, &ear, &number) < 0);
    invalid(wsx_listen_fd(NULL, dup(0), NULL, &callbacks, &ear, &number));
    invalid(wsx_listen_fd(loop, -1, NULL, &callbacks, &ear, &number));
    invalid(wsx_connect(NULL, "ws://127.0.0.1/", NULL, &callbacks, &ear, &number));
    invalid(wsx_connect(loop, NULL, NULL, &callbacks, &ear, &number));
    invalid(wsx_connect(loop, "http://127.0.0.1/", NULL, &callbacks, &ear, &number));
    check(ear.drops == 12);
    wsx_options *options = wsx_options_new();
    check(wsx_options_set_tls_ca(options, "/does/not/exist") == WSX_OK);
    check(wsx_connect(loop, "wss://127.0.0.1/", options, &callbacks, &ear, &number) == WSX_ERR_SYSTEM);
    wsx_options_free(options);
    check(ear.drops == 13);
    invalid(wsx_listen(loop, "127.0.0.1:0", NULL, NULL, &ear, &number));
    invalid(wsx_connect(loop, "ws://127.0.0.1/", NULL, NULL, &ear, &number));
    invalid(wsx_listen_fd(loop, dup(0), NULL, NULL, &ear, &number));
    check(number == 42 && ear.drops == 13);

    invalid(wsx_broadcast(NULL, 0, WSX_TEXT, "x", 1, 0));
    invalid(wsx_broadcast(loop, 0, 0, "x", 1, 0));
    invalid(wsx_broadcast(loop, 0, WSX_TEXT, NULL, 1, 0));
    invalid(wsx_publish(NULL, "topic", WSX_TEXT, "x", 1, 0));
    invalid(wsx_publish(loop, NULL, WSX_TEXT, "x", 1, 0));
    invalid(wsx_publish(loop, "topic", WSX_TEXT, NULL, 1, 0));
    invalid(wsx_subscriber_count(NULL, "topic", &total));
    invalid(wsx_subscriber_count(loop, NULL, &total));
    invalid(wsx_subscriber_count(loop, "topic", NULL));
    invalid(wsx_connection_count(NULL, 0, &total));
    invalid(wsx_connection_count(loop, 0, NULL));
    invalid(wsx_connections(NULL, 0, NULL, 0, &total));
    invalid(wsx_connections(loop, 0, NULL, 1, &total));
    check(wsx_connections(loop, listener, NULL, 0, &total) == WSX_OK && total == 0);
    invalid(wsx_listener_address(listener, NULL, 1, NULL));
    check(wsx_listener_address(listener, NULL, 0, NULL) == WSX_OK);

    wsx_loop_free(loop);
}

static void null_connection(void)
{
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    wsx_connection connection = pair.at_client;
    invalid(wsx_send(connection, WSX_TEXT, NULL, 1));
    invalid(wsx_send(connection, 0, "x", 1));
    invalid(wsx_send(connection, 3, "x", 1));
    invalid(wsx_send(connection, WSX_BINARY, "x", SIZE_MAX));
    invalid(wsx_send(connection, WSX_TEXT, "\xff", 1));
    invalid(wsx_send(connection, WSX_TEXT, "\xed\xa0\x80", 3));
    invalid(wsx_send_text(connection, NULL));
    invalid(wsx_send_text(connection, "\xc0\x80"));
    invalid(wsx_ping(connection, NULL, 1));
    invalid(wsx_pong(connection, NULL, 1));
    invalid(wsx_close(connection, WSX_CLOSE_NORMAL, "\xff"));
    invalid(wsx_write(connection, NULL, 1));
    invalid(wsx_subscribe(pair.at_server, NULL));
    invalid(wsx_unsubscribe(pair.at_server, NULL));
    invalid(wsx_buffered_amount(connection, NULL));
    invalid(wsx_subprotocol(connection, NULL, 1, NULL));
    invalid(wsx_connection_extensions(connection, NULL, 1, NULL));
    invalid(wsx_peer_address(connection, NULL, 1, NULL));
    check(wsx_send(connection, WSX_TEXT, NULL, 0) == WSX_OK);
    until(pair.loop, pair.server.messages == 1);
    check(pair.server.length == 0 && pair.server.kind == WSX_TEXT);
    close_pair(&pair);
}

static void null_handshake(void)
{
    const char *text;
    check(wsx_request_connection(NULL) == 0);
    check(!wsx_request_is_upgrade(NULL));
    check(!wsx_request_method(NULL) && !wsx_request_path(NULL) && !wsx_request_query(NULL) && !wsx_request_peer(NULL));
    check(!wsx_request_header(NULL, "host") && wsx_request_header_count(NULL) == 0);
    invalid(wsx_request_header_at(NULL, 0, &text, &text));
    check(!wsx_request_subprotocol_at(NULL, 0));
    invalid(wsx_response_accept(NULL, NULL));
    invalid(wsx_response_reject(NULL, 403, NULL));
    invalid(wsx_response_page(NULL, 200, "text/plain", "", 0));
    invalid(wsx_response_stream(NULL, "text/plain"));
    invalid(wsx_response_header(NULL, "a", "b"));
    check(!wsx_opening_request(NULL) && !wsx_opening_subprotocol(NULL) && !wsx_opening_header(NULL, "host"));
}

#define setter(call) \
    do { wsx_options *it = NULL; invalid(call); it = options; check((call) == WSX_OK); } while (0)

static void options_are_checked(void)
{
    wsx_options *options = wsx_options_new();
    check(options != NULL);
    setter(wsx_options_set_max_message(it, 1));
    setter(wsx_options_set_max_fragments(it, 1));
    setter(wsx_options_set_deliver_fragments(it, 1));
    setter(wsx_options_set_max_head(it, 8192));
    setter(wsx_options_set_max_headers(it, 64));
    setter(wsx_options_set_handshake_timeout(it, 1));
    setter(wsx_options_set_ping_interval(it, 1));
    setter(wsx_options_set_pong_timeout(it, 1));
    setter(wsx_options_set_close_timeout(it, 1));
    setter(wsx_options_set_progress_timeout(it, 1));
    setter(wsx_options_set_backlog_limit(it, 1));
    setter(wsx_options_set_backlog_policy(it, WSX_BACKLOG_CLOSE));
    setter(wsx_options_set_backlog_policy(it, WSX_BACKLOG_PAUSE));
    setter(wsx_options_add_subprotocol(it, "chat"));
    setter(wsx_options_set_max_topics(it, 1));
    setter(wsx_options_set_max_topic_name(it, 9));
    setter(wsx_options_set_compression(it, 1));
    setter(wsx_options_set_compression_level(it, 9));
    setter(wsx_options_set_compression_threshold(it, 0));
    setter(wsx_options_set_compression_server_no_context_takeover(it, 0));
    setter(wsx_options_set_compression_client_no_context_takeover(it, 0));
    setter(wsx_options_set_compression_server_max_window_bits(it, 9));
    setter(wsx_options_set_compression_client_max_window_bits(it, 15));
    setter(wsx_options_set_no_delay(it, 0));
    setter(wsx_options_set_keep_alive_idle(it, 1000));
    setter(wsx_options_set_keep_alive_interval(it, 1000));
    setter(wsx_options_set_keep_alive_count(it, 3));
    setter(wsx_options_set_origins(it, WSX_ORIGINS_ANY));
    setter(wsx_options_set_origins(it, WSX_ORIGINS_SAME_HOST));
    setter(wsx_options_add_origin(it, "https://example.org"));
    setter(wsx_options_set_path(it, "/chat"));
    setter(wsx_options_set_path(it, NULL));
    setter(wsx_options_set_max_connections(it, 1));
    setter(wsx_options_set_max_connections_per_address(it, 1));
    setter(wsx_options_set_listen_backlog(it, 1));
    setter(wsx_options_set_reuse_port(it, 1));
    setter(wsx_options_add_header(it, "X-Name", "value"));
    setter(wsx_options_add_tls_certificate(it, "chain.pem", "key.pem"));
    setter(wsx_options_add_tls_certificate_pem(it, "x", 1, "y", 1));
    setter(wsx_options_set_tls_ca(it, "ca.pem"));
    setter(wsx_options_set_tls_ca_pem(it, "x", 1));
    setter(wsx_options_set_tls_ca(it, NULL));
    setter(wsx_options_set_tls_client_auth(it, WSX_CLIENT_AUTH_OPTIONAL));
    setter(wsx_options_set_tls_client_auth(it, WSX_CLIENT_AUTH_NONE));
    setter(wsx_options_set_tls_server_name(it, "example.org"));
    setter(wsx_options_set_tls_server_name(it, NULL));
    setter(wsx_options_add_tls_alpn(it, "http/1.1"));
    setter(wsx_options_set_tls_danger_accept_invalid_certificates(it, 0));
    setter(wsx_options_set_max_commands(it, 1));
    setter(wsx_options_set_max_command_bytes(it, 1));
    setter(wsx_options_set_receive_buffer(it, 4096));

    invalid(wsx_options_set_deliver_fragments(options, 2));
    invalid(wsx_options_set_compression(options, 2));
    invalid(wsx_options_set_compression_level(options, 256));
    invalid(wsx_options_set_compression_server_no_context_takeover(options, 2));
    invalid(wsx_options_set_compression_client_no_context_takeover(options, -1));
    invalid(wsx_options_set_compression_server_max_window_bits(options, 1000));
    invalid(wsx_options_set_compression_client_max_window_bits(options, UINT32_MAX));
    invalid(wsx_options_add_tls_certificate(options, NULL, "key.pem"));
    invalid(wsx_options_add_tls_certificate(options, "chain.pem", NULL));
    invalid(wsx_options_add_tls_certificate_pem(options, NULL, 1, "y", 1));
    invalid(wsx_options_set_tls_client_auth(options, 3));
    invalid(wsx_options_add_tls_alpn(options, NULL));
    invalid(wsx_options_set_tls_danger_accept_invalid_certificates(options, 2));
    invalid(wsx_options_set_no_delay(options, -1));
    invalid(wsx_options_set_reuse_port(options, 2));
    invalid(wsx_options_set_backlog_policy(options, -1));
    invalid(wsx_options_set_backlog_policy(options, 4));
    invalid(wsx_options_set_origins(options, 2));
    invalid(wsx_options_add_subprotocol(options, NULL));
    invalid(wsx_options_add_origin(options, NULL));
    invalid(wsx_options_set_path(options, "\xff"));
    invalid(wsx_options_add_header(options, NULL, "value"));
    invalid(wsx_options_add_header(options, "X-Name", NULL));
    invalid(wsx_options_add_header(options, "X-Name", "a\r\nX-Smuggled: b"));
    invalid(wsx_options_add_header(options, "X Name", "value"));
    invalid(wsx_options_add_header(options, "Sec-WebSocket-Key", "value"));
    wsx_options_free(options);
    wsx_options_free(NULL);
}

/* A table of a program that was made for another version. */
static void tables_of_other_sizes(void)
{
    struct { wsx_callbacks known; void (*unknown)(void); } longer = {.known = hearing()};
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    const size_t wrong[] = {0, 1, sizeof(size_t) - 1, 1 << 20, SIZE_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        callbacks.size = wrong[i];
        invalid(wsx_listen(loop, "127.0.0.1:0", NULL, &callbacks, &ear, NULL));
        check(strstr(wsx_last_error(), "sizeof"));
    }
    callbacks.size = sizeof(size_t);
    check(wsx_listen(loop, "127.0.0.1:0", NULL, &callbacks, &ear, NULL) == WSX_OK);
    longer.known.size = sizeof longer;
    check(wsx_listen(loop, "127.0.0.1:0", NULL, &longer.known, &ear, NULL) == WSX_OK);
    longer.unknown = versions;
    check(wsx_listen(loop, "127.0.0.1:0", NULL, &longer.known, &ear, NULL) == WSX_ERR_UNSUPPORTED);
    wsx_loop_free(loop);
    check(ear.drops == 1);
}

static void text_is_cut_to_the_buffer(void)
{
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    struct ear ear = {0};
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &ear);
    char whole[64], part[8];
    size_t length = 0;
    check(wsx_listener_address(listener, whole, sizeof whole, &length) == WSX_OK && length == strlen(whole));
    memset(part, 'x', sizeof part);
    check(wsx_listener_address(listener, part, 5, &length) == WSX_OK && length == strlen(whole));
    check(strcmp(part, "127.") == 0 && part[5] == 'x');
    wsx_loop_free(loop);
}

int main(void)
{
    printf("The border\n");
    test("the version of the header is that of the library", versions);
    test("a build knows its features", features);
    test("every status has a sentence of its own", every_status_has_a_sentence);
    test("the last error has names, figures and errno", last_error_has_figures);
    test("the last error names what is wrong with a text", last_error_names_what_is_wrong_with_a_text);
    test("the last error stays in its place", last_error_stays_in_its_place);
    test("NULL and nonsense are errors: loops and listeners, and what came with them is dropped", null_loop_and_number);
    test("NULL and nonsense are errors: connections", null_connection);
    test("NULL and nonsense are errors: requests, responses, openings", null_handshake);
    test("every option can be set, and none out of range", options_are_checked);
    test("tables of older and newer programs are read for what they are", tables_of_other_sizes);
    test("text is cut to the buffer and its whole length told", text_is_cut_to_the_buffer);
    return EXIT_SUCCESS;
}
