/* A client that connects again. */
#include "test.h"

/* What a client hears, beside its connections. */
struct client {
    struct ear ear; /* first: the callbacks of connections are those of test.h */
    wsx_client number;
    int reconnecting, gave_up;
    uint32_t attempt, lost;
    uint16_t code;
    int32_t kind;
    char text[128];
};

static void hear_reconnecting(wsx_client number, const wsx_reconnecting *reconnecting, void *user)
{
    struct client *client = user;
    check(reconnecting->size == sizeof *reconnecting && number != 0);
    check(reconnecting->cause->size == sizeof *reconnecting->cause && reconnecting->delay_ms <= 3600 * 1000);
    client->reconnecting++;
    client->attempt = reconnecting->attempt;
    client->code = reconnecting->cause->code;
}

static void hear_give_up(wsx_client number, const wsx_give_up *give_up, void *user)
{
    struct client *client = user;
    check(give_up->size == sizeof *give_up && number == client->number);
    check(strlen(give_up->message) == give_up->message_length);
    check(client->ear.drops == 0);
    client->gave_up++;
    client->kind = give_up->kind;
    client->code = give_up->close_code;
    client->lost = give_up->lost_messages;
    snprintf(client->text, sizeof client->text, "%s", give_up->message);
}

static wsx_callbacks hearing_clients(void)
{
    wsx_callbacks callbacks = hearing();
    callbacks.on_reconnecting = hear_reconnecting;
    callbacks.on_give_up = hear_give_up;
    return callbacks;
}

static wsx_options *options_of(uint64_t base_delay, size_t offline_limit)
{
    wsx_options *options = wsx_options_new();
    check(wsx_options_set_reconnect_base_delay(options, base_delay) == WSX_OK);
    check(wsx_options_set_reconnect_max_delay(options, base_delay) == WSX_OK);
    check(wsx_options_set_reconnect_reset_after(options, 1000) == WSX_OK);
    check(wsx_options_set_reconnect_max_attempts(options, 1000) == WSX_OK);
    check(wsx_options_set_reconnect_offline_limit(options, offline_limit) == WSX_OK);
    return options;
}

static wsx_listener listen_at(wsx_loop *loop, const char *address, struct ear *ear)
{
    wsx_callbacks callbacks = hearing();
    wsx_listener listener = 0;
    check(wsx_listen(loop, address, NULL, &callbacks, ear, &listener) == WSX_OK);
    return listener;
}

static void one_number_for_many_connections(void)
{
    wsx_loop *loop = new_loop();
    struct ear server = {0};
    struct client client = {0};
    wsx_callbacks callbacks = hearing_clients();
    wsx_options *options = options_of(2, 1000);
    char address[64], url[80];
    wsx_listener listener = listen_at(loop, "127.0.0.1:0", &server);
    check(wsx_listener_address(listener, address, sizeof address, NULL) == WSX_OK);
    snprintf(url, sizeof url, "ws://%s/", address);
    check(wsx_connect_persistently(loop, url, options, &callbacks, &client, &client.number) == WSX_OK);
    wsx_options_free(options);

    until(loop, client.ear.opens == 1);
    wsx_connection first = 0, second = 0;
    check(wsx_client_connection(client.number, &first) == WSX_OK && first != 0);
    check(wsx_client_send(client.number, WSX_TEXT, "one", 3) == WSX_OK);
    until(loop, server.messages == 1);
    check(is_payload(&server, "one"));

    /* The server goes away, and comes back on its port. */
    check(wsx_listener_close(listener) == WSX_OK && wsx_close(server.connection, 1012, NULL) == WSX_OK);
    until(loop, client.reconnecting >= 2);
    check(wsx_client_send(client.number, WSX_TEXT, "two", 3) == WSX_OK);
    listen_at(loop, address, &server);
    until(loop, server.messages == 2);
    check(is_payload(&server, "two") && client.ear.opens == 2);
    check(wsx_client_connection(client.number, &second) == WSX_OK && second != 0 && second != first);

    check(wsx_client_close(client.number, 1000, "done") == WSX_OK);
    until(loop, client.gave_up == 1);
    check(client.kind == WSX_GIVE_UP_CLOSED && client.code == 1000 && client.lost == 0);
    until(loop, client.ear.drops == 1);
    check(wsx_client_close(client.number, 1000, NULL) == WSX_ERR_CLOSED);
    check(wsx_client_send(client.number, WSX_TEXT, "x", 1) == WSX_ERR_CLOSED);
    wsx_loop_free(loop);
    check(client.gave_up == 1);
    free(server.payload);
}

/* The URL of a port where nobody listens. */
static void url_of_nobody(wsx_loop *loop, char *url, size_t capacity)
{
    char address[64];
    struct ear ear = {0};
    wsx_listener listener = listen_at(loop, "127.0.0.1:0", &ear);
    check(wsx_listener_address(listener, address, sizeof address, NULL) == WSX_OK);
    check(wsx_listener_close(listener) == WSX_OK);
    until(loop, ear.drops == 1);
    snprintf(url, capacity, "ws://%s/", address);
}

static void the_loop_ends_those_that_wait(void)
{
    wsx_loop *loop = new_loop();
    struct client client = {0};
    wsx_callbacks callbacks = hearing_clients();
    wsx_options *options = options_of(3600 * 1000, 40);
    char url[80];
    url_of_nobody(loop, url, sizeof url);
    check(wsx_connect_persistently(loop, url, options, &callbacks, &client, &client.number) == WSX_OK);
    wsx_options_free(options);
    until(loop, client.reconnecting == 1);
    check(client.attempt == 1 && client.code == WSX_CLOSE_ABNORMAL && client.ear.closes == 1);
    wsx_connection connection = 7;
    size_t amount = 0;
    check(wsx_client_connection(client.number, &connection) == WSX_OK && connection == 0);
    check(wsx_client_send(client.number, WSX_BINARY, "12345678", 8) == WSX_OK);
    check(wsx_client_buffered_amount(client.number, &amount) == WSX_OK && amount == 40);
    check(wsx_client_send(client.number, WSX_BINARY, NULL, 0) == WSX_ERR_BACKLOG_FULL);
    wsx_loop_free(loop);
    check(client.gave_up == 1 && client.ear.drops == 1);
    check(client.kind == WSX_GIVE_UP_SHUTDOWN && client.code == 0 && client.lost == 1);
    check(strcmp(client.text, "the event loop shuts down") == 0);
}

static void without_a_queue(void)
{
    wsx_loop *loop = new_loop();
    struct client client = {0};
    wsx_callbacks callbacks = hearing_clients();
    char url[80];
    url_of_nobody(loop, url, sizeof url);
    check(wsx_connect_persistently(loop, url, NULL, &callbacks, &client, &client.number) == WSX_OK);
    check(wsx_client_send(client.number, WSX_TEXT, "x", 1) == WSX_ERR_NOT_OPEN);
    check(wsx_client_terminate(client.number) == WSX_OK);
    until(loop, client.gave_up == 1);
    check(client.kind == WSX_GIVE_UP_CLOSED);
    wsx_loop_free(loop);
}

static void null_and_nonsense(void)
{
    wsx_loop *loop = new_loop();
    struct ear ear = {0};
    wsx_callbacks callbacks = hearing_clients();
    wsx_client client = 42;
    wsx_options *options = options_of(60 * 1000, 0);
    check(wsx_connect_persistently(NULL, "ws://127.0.0.1/", NULL, &callbacks, &ear, &client) == WSX_ERR_INVALID);
    check(wsx_connect_persistently(loop, NULL, NULL, &callbacks, &ear, &client) == WSX_ERR_INVALID);
    check(wsx_connect_persistently(loop, "ws://127.0.0.1/", NULL, NULL, &ear, &client) == WSX_ERR_INVALID);
    check(wsx_options_set_reconnect_max_delay(options, 0) == WSX_OK);
    check(wsx_connect_persistently(loop, "ws://127.0.0.1/", options, &callbacks, &ear, &client) == WSX_ERR_INVALID);
    check(strstr(wsx_last_error(), "base_delay") && client == 42 && ear.drops == 3);
    wsx_options_free(options);

    check(wsx_client_send(42, 7, "x", 1) == WSX_ERR_INVALID);
    check(wsx_client_send(42, WSX_TEXT, NULL, 1) == WSX_ERR_INVALID);
    check(wsx_client_send(42, WSX_TEXT, "x", 1) == WSX_ERR_CLOSED);
    check(wsx_client_close(42, 1000, NULL) == WSX_ERR_CLOSED);
    check(wsx_client_close(42, 999, NULL) == WSX_ERR_INVALID);
    check(wsx_client_terminate(42) == WSX_ERR_CLOSED);
    check(wsx_client_connection(42, NULL) == WSX_ERR_INVALID);
    check(wsx_client_buffered_amount(42, NULL) == WSX_ERR_INVALID);
    check(wsx_options_set_reconnect_base_delay(NULL, 1) == WSX_ERR_INVALID);
    check(wsx_options_set_reconnect_max_delay(NULL, 1) == WSX_ERR_INVALID);
    check(wsx_options_set_reconnect_reset_after(NULL, 1) == WSX_ERR_INVALID);
    check(wsx_options_set_reconnect_max_attempts(NULL, 1) == WSX_ERR_INVALID);
    check(wsx_options_set_reconnect_offline_limit(NULL, 1) == WSX_ERR_INVALID);
    wsx_loop_free(loop);
}

int main(void)
{
    printf("Clients that connect again\n");
    test("one number stays over many connections, and what waited is sent", one_number_for_many_connections);
    test("the end of the loop is the end of a client that waits", the_loop_ends_those_that_wait);
    test("without a queue nothing waits", without_a_queue);
    test("NULL and nonsense are errors", null_and_nonsense);
    return EXIT_SUCCESS;
}
