/* Messages, control frames, and closing, between a server and a client of the library. */
#include "test.h"

static void text_and_binary(void)
{
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    check(wsx_send_text(pair.at_client, "Grüße") == WSX_OK);
    until(pair.loop, pair.server.messages == 1);
    check(pair.server.kind == WSX_TEXT && is_payload(&pair.server, "Grüße"));
    check(wsx_send(pair.at_server, WSX_BINARY, "\0\xff\0", 3) == WSX_OK);
    until(pair.loop, pair.client.messages == 1);
    check(pair.client.kind == WSX_BINARY && pair.client.length == 3 && memcmp(pair.client.payload, "\0\xff\0", 3) == 0);
    close_pair(&pair);
}

static void empty(void)
{
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    check(wsx_send_text(pair.at_client, "") == WSX_OK);
    check(wsx_send(pair.at_client, WSX_BINARY, NULL, 0) == WSX_OK);
    until(pair.loop, pair.server.messages == 2);
    check(pair.server.kind == WSX_BINARY && pair.server.length == 0);
    close_pair(&pair);
}

static void every_length_of_a_header(void)
{
    static const size_t lengths[] = {1, 125, 126, 127, 65535, 65536, 1000 * 1000, 20 * 1000 * 1000};
    struct pair pair;
    wsx_options *options = wsx_options_new();
    wsx_options_set_max_message(options, 0);
    open_pair(&pair, options, options);
    wsx_options_free(options);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint8_t *sent = malloc(lengths[i]);
        check(sent != NULL);
        for (size_t at = 0; at < lengths[i]; at++) sent[at] = (uint8_t)(at * 7 + at / 251);
        int before = pair.server.messages;
        check(wsx_send(pair.at_client, WSX_BINARY, sent, lengths[i]) == WSX_OK);
        until(pair.loop, pair.server.messages == before + 1);
        check(pair.server.length == lengths[i] && memcmp(pair.server.payload, sent, lengths[i]) == 0);
        check(wsx_send(pair.at_server, WSX_BINARY, sent, lengths[i]) == WSX_OK);
        until(pair.loop, pair.client.messages == before + 1);
        check(pair.client.length == lengths[i] && memcmp(pair.client.payload, sent, lengths[i]) == 0);
        free(sent);
    }
    close_pair(&pair);
}

/* What a program passes is copied: it may change it at once. */
static void sending_copies(void)
{
    struct pair pair;
    char text[] = "before";
    open_pair(&pair, NULL, NULL);
    check(wsx_send(pair.at_client, WSX_TEXT, text, strlen(text)) == WSX_OK);
    memset(text, '!', strlen(text));
    until(pair.loop, pair.server.messages == 1);
    check(is_payload(&pair.server, "before"));
    close_pair(&pair);
}

static void too_big(void)
{
    struct pair pair;
    wsx_options *options = wsx_options_new();
    wsx_options_set_max_message(options, 10);
    open_pair(&pair, options, NULL);
    wsx_options_free(options);
    check(wsx_send_text(pair.at_client, "0123456789") == WSX_OK);
    check(wsx_send_text(pair.at_client, "0123456789a") == WSX_OK);
    until(pair.loop, pair.server.closes == 1 && pair.client.closes == 1);
    check(pair.server.messages == 1 && pair.server.errors == 1 && pair.server.failure == WSX_FAILURE_LIMIT);
    check(pair.server.stage == WSX_STAGE_WEBSOCKET && strcmp(pair.server.limit_option, "max_message") == 0);
    check(pair.server.limit == 10 && pair.server.limit_reached == 11 && pair.server.limit_unit == WSX_UNIT_BYTES);
    check(strstr(pair.server.text, "closed by us with 1009 (message too big), not clean; failed at WebSocket: a message"));
    check(pair.server.code == WSX_CLOSE_TOO_BIG && pair.server.by == WSX_SIDE_US && !pair.server.was_clean);
    check(pair.client.code == WSX_CLOSE_TOO_BIG && pair.client.by == WSX_SIDE_PEER);
    close_pair(&pair);
}

/* Frames of a client, masked with zeros, so that the payload stands there as it is. */
static void frame(int fd, unsigned char first, const char *payload)
{
    char bytes[256];
    size_t length = strlen(payload);
    check(length <= 125);
    bytes[0] = (char)first;
    bytes[1] = (char)(0x80 | length);
    memset(bytes + 2, 0, 4);
    memcpy(bytes + 6, payload, length);
    check(send(fd, bytes, length + 6, MSG_NOSIGNAL) == (ssize_t)length + 6);
}

static void fragments(bool deliver)
{
    char answer[1024];
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    wsx_options *options = wsx_options_new();
    wsx_callbacks callbacks = hearing();
    wsx_options_set_deliver_fragments(options, deliver);
    wsx_options_set_max_fragments(options, 3);
    wsx_listener listener = listen_here(loop, options, &callbacks, &ear);
    wsx_options_free(options);
    int fd = dial(listener);
    say(fd, UPGRADE);
    hear(loop, fd, answer, sizeof answer, "\r\n\r\n");

    frame(fd, 0x01, "Hel\xc3");
    if (deliver) {
        until(loop, ear.fragments == 1);
        check(ear.is_first && !ear.is_last && ear.kind == WSX_TEXT && is_payload(&ear, "Hel\xc3"));
    }
    frame(fd, 0x89, "ping");
    until(loop, ear.pings == 1);
    frame(fd, 0x00, "\xa4lo");
    if (deliver) {
        until(loop, ear.fragments == 2);
        check(!ear.is_first && !ear.is_last);
    }
    frame(fd, 0x80, " you");
    if (deliver) {
        until(loop, ear.fragments == 3);
        check(!ear.is_first && ear.is_last && is_payload(&ear, " you") && ear.messages == 0);
    } else {
        until(loop, ear.messages == 1);
        check(is_payload(&ear, "Hel\xc3\xa4lo you") && ear.kind == WSX_TEXT && ear.fragments == 0);
    }
    frame(fd, 0x82, "whole");
    if (deliver) {
        until(loop, ear.messages + ear.fragments == 4);
        check(is_payload(&ear, "whole") && ear.kind == WSX_BINARY);
    }
    frame(fd, 0x02, "1");
    frame(fd, 0x00, "2");
    frame(fd, 0x00, "3");
    frame(fd, 0x00, "4");
    until(loop, ear.closes == 1);
    check(ear.code == WSX_CLOSE_POLICY && ear.failure == WSX_FAILURE_LIMIT);
    close(fd);
    wsx_loop_free(loop);
    free(ear.payload);
}

static void fragments_assembled(void)
{
    fragments(false);
}

static void fragments_delivered(void)
{
    fragments(true);
}

static void pings_and_pongs(void)
{
    char large[WSX_MAX_CONTROL_PAYLOAD + 1] = {0};
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    check(wsx_ping(pair.at_client, "are you there", 13) == WSX_OK);
    until(pair.loop, pair.client.pongs == 1);
    check(pair.server.pings == 1);
    check(is_payload(&pair.server, "are you there") && is_payload(&pair.client, "are you there"));
    check(wsx_pong(pair.at_server, NULL, 0) == WSX_OK);
    until(pair.loop, pair.client.pongs == 2);
    check(pair.client.length == 0);
    check(wsx_ping(pair.at_client, large, sizeof large) == WSX_ERR_INVALID);
    check(wsx_pong(pair.at_client, large, sizeof large) == WSX_ERR_INVALID);
    check(wsx_ping(pair.at_client, large, WSX_MAX_CONTROL_PAYLOAD) == WSX_OK);
    until(pair.loop, pair.client.pongs == 3);
    close_pair(&pair);
}

static void close_by(struct pair *pair, wsx_connection connection, uint16_t code, const char *reason)
{
    open_pair(pair, NULL, NULL);
    if (connection == 0) connection = pair->at_server;
    else connection = pair->at_client;
    check(wsx_close(connection, code, reason) == WSX_OK);
    check(wsx_close(connection, code, reason) == WSX_ERR_CLOSED);
    check(wsx_ready_state(connection) == WSX_STATE_CLOSING);
    check(wsx_send_text(connection, "too late") == WSX_ERR_CLOSED);
    until(pair->loop, pair->server.closes == 1 && pair->client.closes == 1);
    check(wsx_ready_state(connection) == WSX_STATE_CLOSED);
    check(pair->server.was_clean && pair->client.was_clean);
    check(!pair->server.had_failure && !pair->client.had_failure);
    check(pair->server.errors == 0 && pair->client.errors == 0);
}

static void close_codes(void)
{
    enum { BY_SERVER, BY_CLIENT };
    struct pair pair;
    close_by(&pair, BY_CLIENT, 3001, "Feierabend für heute");
    check(pair.server.code == 3001 && strcmp(pair.server.reason, "Feierabend für heute") == 0);
    check(pair.server.by == WSX_SIDE_PEER && pair.client.by == WSX_SIDE_US && pair.client.code == 3001);
    check(strstr(pair.server.text, "3001") && strstr(pair.server.text, "Feierabend"));
    close_pair(&pair);

    close_by(&pair, BY_SERVER, WSX_CLOSE_GOING_AWAY, "moving");
    check(pair.client.code == 1001 && strcmp(pair.client.reason, "moving") == 0);
    check(pair.client.by == WSX_SIDE_PEER && pair.server.by == WSX_SIDE_US && pair.server.code == 1001);
    close_pair(&pair);

    close_by(&pair, BY_CLIENT, WSX_CLOSE_NORMAL, NULL);
    check(pair.server.code == 1000 && pair.server.reason[0] == '\0');
    close_pair(&pair);

    close_by(&pair, BY_SERVER, WSX_CLOSE_NO_STATUS, NULL);
    check(pair.client.code == WSX_CLOSE_NO_STATUS && pair.client.reason[0] == '\0');
    close_pair(&pair);
}

static void close_codes_out_of_range(void)
{
    static const uint16_t wrong[] = {0, 999, 1004, 1006, 1015, 1016, 2999, 5000, 65535};
    char reason[WSX_MAX_CLOSE_REASON + 2];
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check(wsx_close(pair.at_client, wrong[i], NULL) == WSX_ERR_INVALID);
    memset(reason, 'r', sizeof reason);
    reason[WSX_MAX_CLOSE_REASON + 1] = '\0';
    check(wsx_close(pair.at_client, WSX_CLOSE_NORMAL, reason) == WSX_ERR_INVALID);
    reason[WSX_MAX_CLOSE_REASON] = '\0';
    check(wsx_ready_state(pair.at_client) == WSX_STATE_OPEN);
    check(wsx_close(pair.at_client, WSX_CLOSE_NORMAL, reason) == WSX_OK);
    until(pair.loop, pair.server.closes == 1 && pair.client.closes == 1);
    check(strcmp(pair.server.reason, reason) == 0);
    close_pair(&pair);
}

static void termination(void)
{
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    check(wsx_terminate(pair.at_client) == WSX_OK);
    until(pair.loop, pair.server.closes == 1 && pair.client.closes == 1);
    check(pair.client.code == WSX_CLOSE_ABNORMAL && !pair.client.was_clean && pair.client.by == WSX_SIDE_US);
    check(!pair.client.had_failure && pair.client.errors == 0);
    check(pair.server.code == WSX_CLOSE_ABNORMAL && !pair.server.was_clean && pair.server.by == WSX_SIDE_PEER);
    check(pair.server.had_failure && pair.server.errors == 1 && pair.server.failure == WSX_FAILURE_TRANSPORT);
    close_pair(&pair);
}

/* A callback may do anything, closing its own connection included. */
static void close_inside(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user)
{
    hear_message(connection, kind, payload, length, user);
    check(wsx_send_text(connection, "last words") == WSX_OK);
    check(wsx_close(connection, WSX_CLOSE_NORMAL, "enough") == WSX_OK);
    check(wsx_send_text(connection, "no more") == WSX_ERR_CLOSED);
}

static void closing_inside_a_callback(void)
{
    struct ear server = {0}, client = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    callbacks.on_message = close_inside;
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &server);
    wsx_connection connection = connect_to(loop, listener, NULL, &client);
    until(loop, client.opens == 1);
    check(wsx_send_text(connection, "one") == WSX_OK && wsx_send_text(connection, "two") == WSX_OK);
    until(loop, server.closes == 1 && client.closes == 1);
    check(server.messages == 1 && is_payload(&client, "last words") && strcmp(client.reason, "enough") == 0);
    wsx_loop_free(loop);
    free(server.payload);
    free(client.payload);
}

static void not_open_yet(void)
{
    struct ear server = {0}, client = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &server);
    wsx_connection connection = connect_to(loop, listener, NULL, &client);
    check(wsx_ready_state(connection) == WSX_STATE_CONNECTING);
    check(wsx_send_text(connection, "early") == WSX_ERR_NOT_OPEN);
    check(wsx_close(connection, WSX_CLOSE_NORMAL, NULL) == WSX_OK);
    until(loop, client.closes == 1);
    check(client.opens == 0);
    wsx_loop_free(loop);
    check(client.closes == 1 && client.drops == 1);
}

int main(void)
{
    printf("Messages\n");
    test("text comes as text, binary as binary", text_and_binary);
    test("empty messages are messages", empty);
    test("every form of a frame's length carries what was sent, up to 20 MB", every_length_of_a_header);
    test("what is sent has been copied", sending_copies);
    test("a message beyond the limit closes with 1009, told on both sides", too_big);
    test("fragments come as one message, pings between them", fragments_assembled);
    test("fragments come one by one where that was asked for", fragments_delivered);
    test("pings are answered, pongs told, both at most 125 bytes", pings_and_pongs);
    test("close codes and reasons are heard by the other side, whoever closes", close_codes);
    test("close codes and reasons out of range are refused", close_codes_out_of_range);
    test("termination is 1006 on both sides, by whom it was", termination);
    test("a callback may close its connection, and hears no more messages", closing_inside_a_callback);
    test("a connection that is not open yet takes no message, and can be given up", not_open_yet);
    return EXIT_SUCCESS;
}
