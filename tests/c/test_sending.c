/* Ways of sending: in fragments, memory that is given away, messages that are shared; and how long a ping takes. */
#include "test.h"

static int released;

static void release(void *payload, size_t length, void *context)
{
    check(context == &released);
    (void)length;
    free(payload);
    released++;
}

static uint8_t *filled(size_t length)
{
    uint8_t *bytes = malloc(length);
    check(bytes != NULL);
    for (size_t at = 0; at < length; at++) bytes[at] = (uint8_t)(at * 7 + at / 251);
    return bytes;
}

static void given_away(void)
{
    static const size_t lengths[] = {1, 1000, 16 * 1024, 100 * 1000, 1000 * 1000};
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    released = 0;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint8_t *expected = filled(lengths[i]);
        int before = released;
        check(wsx_send_owned(pair.at_client, WSX_BINARY, filled(lengths[i]), lengths[i], release, &released) == WSX_OK);
        until(pair.loop, pair.server.messages == (int)i + 1);
        check(pair.server.length == lengths[i] && memcmp(pair.server.payload, expected, lengths[i]) == 0);
        check(wsx_send_owned(pair.at_server, WSX_BINARY, filled(lengths[i]), lengths[i], release, &released) == WSX_OK);
        until(pair.loop, pair.client.messages == (int)i + 1);
        check(pair.client.length == lengths[i] && memcmp(pair.client.payload, expected, lengths[i]) == 0);
        check(released == before + 2);
        free(expected);
    }
    /* Nothing to release, and nothing there. */
    check(wsx_send_owned(pair.at_server, WSX_TEXT, "static", 6, NULL, NULL) == WSX_OK);
    check(wsx_send_owned(pair.at_server, WSX_BINARY, NULL, 0, release, &released) == WSX_OK);
    until(pair.loop, pair.client.messages == 7);
    check(released == 11);
    close_pair(&pair);
}

static void given_away_in_vain(void)
{
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    released = 0;
    check(wsx_send_owned(0, WSX_BINARY, filled(20000), 20000, release, &released) == WSX_ERR_CLOSED && released == 1);
    check(wsx_send_owned(pair.at_server, 7, filled(1), 1, release, &released) == WSX_ERR_INVALID && released == 2);
    check(wsx_send_owned(pair.at_server, WSX_TEXT, memset(filled(1), 0xff, 1), 1, release, &released) == WSX_ERR_INVALID);
    check(released == 3);
    check(wsx_send_owned(pair.at_server, WSX_BINARY, NULL, 1, release, &released) == WSX_ERR_INVALID && released == 4);
    check(wsx_send_owned(pair.at_server, WSX_BINARY, filled(1000000), 1000000, release, &released) == WSX_OK);
    check(wsx_terminate(pair.at_server) == WSX_OK);
    until(pair.loop, pair.server.closes == 1);
    check(released == 5);
    close_pair(&pair);
}

static void shared(void)
{
    struct pair pair;
    uint8_t *expected = filled(5000);
    wsx_shared *text, *binary;
    open_pair(&pair, NULL, NULL);
    check(wsx_shared_new(WSX_TEXT, "Grüße", strlen("Grüße"), &text) == WSX_OK);
    check(wsx_shared_new(WSX_BINARY, expected, 5000, &binary) == WSX_OK);
    for (int i = 1; i <= 3; i++) {
        check(wsx_send_shared(pair.at_server, text) == WSX_OK && wsx_send_shared(pair.at_client, binary) == WSX_OK);
        until(pair.loop, pair.client.messages == i && pair.server.messages == i);
        check(pair.client.kind == WSX_TEXT && is_payload(&pair.client, "Grüße"));
        check(pair.server.kind == WSX_BINARY && memcmp(pair.server.payload, expected, 5000) == 0);
    }
    /* Given up before it has left. */
    check(wsx_send_shared(pair.at_server, binary) == WSX_OK);
    wsx_shared_free(binary);
    wsx_shared_free(text);
    wsx_shared_free(NULL);
    until(pair.loop, pair.client.messages == 4);
    check(memcmp(pair.client.payload, expected, 5000) == 0);
    check(wsx_shared_new(WSX_TEXT, "\xff", 1, &text) == WSX_ERR_INVALID);
    check(wsx_shared_new(WSX_TEXT, "x", 1, NULL) == WSX_ERR_INVALID);
    check(wsx_send_shared(pair.at_server, NULL) == WSX_ERR_INVALID);
    free(expected);
    close_pair(&pair);
}

static void fragments(void)
{
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    check(wsx_send_fragment(pair.at_client, WSX_TEXT, "gr\xc3", 3, 0) == WSX_OK);
    check(wsx_send_text(pair.at_client, "between") == WSX_ERR_MESSAGE_IN_PROGRESS);
    check(wsx_send_fragment(pair.at_client, WSX_BINARY, "x", 1, 0) == WSX_ERR_INVALID);
    check(wsx_send_fragment(pair.at_client, WSX_TEXT, "x", 1, 2) == WSX_ERR_INVALID);
    check(wsx_send_fragment(pair.at_client, 7, "x", 1, 1) == WSX_ERR_INVALID);
    check(wsx_ping(pair.at_client, "p", 1) == WSX_OK);
    check(wsx_send_fragment(pair.at_client, WSX_TEXT, NULL, 0, 0) == WSX_OK);
    check(wsx_send_fragment(pair.at_client, WSX_TEXT, "\xbcn", 2, 1) == WSX_OK);
    until(pair.loop, pair.server.messages == 1 && pair.client.pongs == 1);
    check(pair.server.kind == WSX_TEXT && is_payload(&pair.server, "grün"));
    check(wsx_send_text(pair.at_client, "whole") == WSX_OK);
    until(pair.loop, pair.server.messages == 2);
    close_pair(&pair);
}

static void latency(void)
{
    uint64_t microseconds;
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    check(wsx_latency(pair.at_client, &microseconds) == WSX_OK && microseconds == 0);
    check(wsx_latency(pair.at_client, NULL) == WSX_ERR_INVALID && wsx_latency(0, &microseconds) == WSX_ERR_CLOSED);
    check(wsx_ping(pair.at_client, "p", 1) == WSX_OK);
    until(pair.loop, pair.client.pongs == 1);
    check(wsx_latency(pair.at_client, &microseconds) == WSX_OK && microseconds > 0);
    check(wsx_latency(pair.at_server, &microseconds) == WSX_OK && microseconds == 0);
    close_pair(&pair);
}

int main(void)
{
    printf("Ways of sending\n");
    test("memory that is given away is sent, and released once", given_away);
    test("memory that is given away in vain is released once", given_away_in_vain);
    test("a shared message is sent many times, and outlives its owner", shared);
    test("fragments are one message, and nothing comes between", fragments);
    test("a ping is measured", latency);
    return EXIT_SUCCESS;
}
