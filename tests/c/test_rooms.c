/* Many connections: broadcast, topics, counting and walking, numbers, user data, the backlog. */
#include "test.h"

enum { PEOPLE = 5 };

struct crowd {
    wsx_loop *loop;
    wsx_listener listener, other;
    struct ear server, elsewhere, client[PEOPLE], stranger;
    wsx_connection at_server[PEOPLE], at_client[PEOPLE];
};

static void gather(struct crowd *crowd, const wsx_options *options)
{
    wsx_callbacks callbacks = hearing();
    memset(crowd, 0, sizeof *crowd);
    crowd->loop = new_loop();
    crowd->listener = listen_here(crowd->loop, options, &callbacks, &crowd->server);
    crowd->other = listen_here(crowd->loop, options, &callbacks, &crowd->elsewhere);
    for (int i = 0; i < PEOPLE; i++) {
        crowd->at_client[i] = connect_to(crowd->loop, crowd->listener, NULL, &crowd->client[i]);
        until(crowd->loop, crowd->server.opens == i + 1 && crowd->client[i].opens == 1);
        crowd->at_server[i] = crowd->server.connection;
    }
    connect_to(crowd->loop, crowd->other, NULL, &crowd->stranger);
    until(crowd->loop, crowd->elsewhere.opens == 1 && crowd->stranger.opens == 1);
}

static void part(struct crowd *crowd)
{
    check(wsx_loop_free(crowd->loop) == WSX_OK);
    for (int i = 0; i < PEOPLE; i++) {
        check(crowd->client[i].closes == 1);
        free(crowd->client[i].payload);
    }
    check(crowd->server.closes == PEOPLE && crowd->elsewhere.closes == 1 && crowd->stranger.closes == 1);
    free(crowd->server.payload);
    free(crowd->stranger.payload);
}

static int heard(const struct crowd *crowd)
{
    int sum = 0;
    for (int i = 0; i < PEOPLE; i++) sum += crowd->client[i].messages;
    return sum;
}

static void broadcasts(void)
{
    struct crowd crowd;
    gather(&crowd, NULL);
    check(wsx_broadcast(crowd.loop, crowd.listener, WSX_TEXT, "all of you", 10, 0) == WSX_OK);
    until(crowd.loop, heard(&crowd) == PEOPLE);
    check(crowd.stranger.messages == 0);
    check(is_payload(&crowd.client[3], "all of you") && crowd.client[3].kind == WSX_TEXT);
    check(wsx_broadcast(crowd.loop, crowd.listener, WSX_BINARY, "but one", 7, crowd.at_server[2]) == WSX_OK);
    until(crowd.loop, heard(&crowd) == 2 * PEOPLE - 1);
    check(crowd.client[2].messages == 1 && crowd.client[4].kind == WSX_BINARY);
    check(wsx_broadcast(crowd.loop, 0, WSX_TEXT, "everybody", 9, 0) == WSX_OK);
    until(crowd.loop, heard(&crowd) == 3 * PEOPLE - 1 && crowd.stranger.messages == 1);
    check(crowd.server.messages == 0);
    check(wsx_broadcast(crowd.loop, crowd.at_server[0], WSX_TEXT, "nobody", 6, 0) == WSX_ERR_CLOSED);
    part(&crowd);
}

static void topics(void)
{
    size_t total;
    char name[WSX_MAX_TOPIC_NAME + 2];
    struct crowd crowd;
    wsx_options *options = wsx_options_new();
    wsx_options_set_max_topics(options, 2);
    gather(&crowd, options);
    wsx_options_free(options);
    check(wsx_publish(crowd.loop, "news", WSX_TEXT, "unheard", 7, 0) == WSX_OK);
    for (int i = 0; i < 3; i++) check(wsx_subscribe(crowd.at_server[i], "news") == WSX_OK);
    check(wsx_subscribe(crowd.at_server[0], "news") == WSX_OK);
    check(wsx_subscribe(crowd.at_server[0], "other") == WSX_OK);
    check(wsx_subscribe(crowd.at_server[0], "one too many") < 0);
    check(wsx_subscribe(crowd.at_client[0], "news") == WSX_ERR_WRONG_KIND);
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    check(wsx_subscribe(crowd.at_server[3], name) == WSX_ERR_INVALID);
    name[sizeof name - 2] = '\0';
    check(wsx_subscribe(crowd.at_server[3], name) == WSX_OK);
    check(wsx_subscriber_count(crowd.loop, "news", &total) == WSX_OK && total == 3);
    check(wsx_publish(crowd.loop, "news", WSX_TEXT, "news!", 5, 0) == WSX_OK);
    until(crowd.loop, heard(&crowd) == 3);
    check(wsx_publish(crowd.loop, "news", WSX_TEXT, "more", 4, crowd.at_server[1]) == WSX_OK);
    until(crowd.loop, heard(&crowd) == 5);
    check(crowd.client[1].messages == 1);
    check(wsx_unsubscribe(crowd.at_server[0], "news") == WSX_OK);
    check(wsx_unsubscribe(crowd.at_server[0], "never") == WSX_OK);
    check(wsx_close(crowd.at_server[1], WSX_CLOSE_NORMAL, NULL) == WSX_OK);
    until(crowd.loop, crowd.client[1].closes == 1);
    check(wsx_subscriber_count(crowd.loop, "news", &total) == WSX_OK && total == 1);
    check(wsx_subscriber_count(crowd.loop, "never", &total) == WSX_OK && total == 0);
    part(&crowd);
}

static void hear_numbers(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user)
{
    struct ear *ear = user;
    hear_message(connection, kind, payload, length, user);
    check(length == 1 && payload[0] == '0' + ear->messages);
}

static void order(void)
{
    char url[64];
    struct ear server = {0}, client = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &server);
    callbacks.on_message = hear_numbers;
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/", (int)wsx_listener_port(listener));
    check(wsx_connect(loop, url, NULL, &callbacks, &client, NULL) == WSX_OK);
    until(loop, server.opens == 1 && client.opens == 1);
    check(wsx_subscribe(server.connection, "topic") == WSX_OK);
    check(wsx_publish(loop, "topic", WSX_TEXT, "1", 1, 0) == WSX_OK);
    check(wsx_send_text(server.connection, "2") == WSX_OK);
    check(wsx_broadcast(loop, 0, WSX_TEXT, "3", 1, 0) == WSX_OK);
    check(wsx_publish(loop, "topic", WSX_TEXT, "4", 1, 0) == WSX_OK);
    check(wsx_unsubscribe(server.connection, "topic") == WSX_OK);
    check(wsx_publish(loop, "topic", WSX_TEXT, "no", 2, 0) == WSX_OK);
    check(wsx_send_text(server.connection, "5") == WSX_OK);
    check(wsx_close(server.connection, WSX_CLOSE_NORMAL, NULL) == WSX_OK);
    until(loop, client.closes == 1 && server.closes == 1);
    check(client.messages == 5);
    wsx_loop_free(loop);
    free(client.payload);
}

static void counting_and_walking(void)
{
    size_t total;
    wsx_connection open[PEOPLE + 2] = {0};
    struct crowd crowd;
    gather(&crowd, NULL);
    check(wsx_connection_count(crowd.loop, crowd.listener, &total) == WSX_OK && total == PEOPLE);
    check(wsx_connection_count(crowd.loop, crowd.other, &total) == WSX_OK && total == 1);
    check(wsx_connection_count(crowd.loop, 0, &total) == WSX_OK && total == PEOPLE + 1);
    check(wsx_connections(crowd.loop, crowd.listener, open, 2, &total) == WSX_OK && total == PEOPLE);
    check(open[0] && open[1] && open[0] != open[1] && !open[2]);
    check(wsx_connections(crowd.loop, crowd.listener, open, PEOPLE + 2, &total) == WSX_OK && !open[PEOPLE]);
    for (int i = 0; i < PEOPLE; i++) {
        int found = 0;
        for (int j = 0; j < PEOPLE; j++) found += open[j] == crowd.at_server[i];
        check(found == 1);
    }
    check(wsx_connections(crowd.loop, 0, open, PEOPLE + 2, NULL) == WSX_OK && open[PEOPLE]);
    check(wsx_close(crowd.at_server[0], WSX_CLOSE_NORMAL, NULL) == WSX_OK);
    until(crowd.loop, crowd.server.closes == 1 && crowd.client[0].closes == 1);
    check(wsx_connection_count(crowd.loop, crowd.listener, &total) == WSX_OK && total == PEOPLE - 1);
    part(&crowd);
}

static void stale_numbers(void)
{
    size_t amount = 7;
    struct ear again = {0};
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    wsx_connection stale = pair.at_server;
    check(wsx_close(stale, WSX_CLOSE_NORMAL, NULL) == WSX_OK);
    until(pair.loop, pair.server.closes == 1 && pair.client.closes == 1);
    connect_to(pair.loop, pair.listener, NULL, &again);
    until(pair.loop, pair.server.opens == 2 && again.opens == 1);
    const wsx_connection numbers[] = {stale, 0, 1, UINT64_MAX, stale ^ 1, pair.listener, UINT64_C(1) << 63};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        wsx_connection number = numbers[i];
        check(number != pair.server.connection);
        check(wsx_send_text(number, "x") == WSX_ERR_CLOSED);
        check(wsx_ping(number, "x", 1) == WSX_ERR_CLOSED && wsx_pong(number, "x", 1) == WSX_ERR_CLOSED);
        check(wsx_close(number, 1000, NULL) == WSX_ERR_CLOSED && wsx_terminate(number) == WSX_ERR_CLOSED);
        check(wsx_write(number, "x", 1) == WSX_ERR_CLOSED);
        check(wsx_subscribe(number, "x") == WSX_ERR_CLOSED && wsx_unsubscribe(number, "x") == WSX_ERR_CLOSED);
        check(wsx_pause(number) == WSX_ERR_CLOSED && wsx_resume(number) == WSX_ERR_CLOSED);
        check(wsx_buffered_amount(number, &amount) == WSX_ERR_CLOSED && amount == 7);
        check(wsx_ready_state(number) == WSX_STATE_CLOSED);
        check(wsx_subprotocol(number, NULL, 0, NULL) == WSX_ERR_CLOSED);
        check(wsx_peer_address(number, NULL, 0, NULL) == WSX_ERR_CLOSED);
        check(!wsx_user_data(number) && wsx_set_user_data(number, &again) == WSX_ERR_CLOSED);
    }
    const wsx_listener listeners[] = {0, 1, UINT64_MAX, stale, pair.server.connection};
    for (size_t i = 0; i < sizeof listeners / sizeof *listeners; i++) {
        check(wsx_listener_port(listeners[i]) == WSX_ERR_CLOSED && wsx_listener_close(listeners[i]) == WSX_ERR_CLOSED);
        check(wsx_listener_address(listeners[i], NULL, 0, NULL) == WSX_ERR_CLOSED);
    }
    wsx_timer_cancel(UINT64_MAX);
    check(again.closes == 0 && pair.server.messages == 0);
    stale = pair.server.connection;
    close_pair(&pair);
    check(wsx_send_text(stale, "the loop is gone") == WSX_ERR_CLOSED && wsx_ready_state(stale) == WSX_STATE_CLOSED);
}

static void read_user_data_in_close(wsx_connection connection, const wsx_close_info *close, void *user)
{
    char address[64];
    int *mine = wsx_user_data(connection);
    hear_close(connection, close, user);
    check(mine && *mine == 42);
    *mine = 43;
    check(wsx_peer_address(connection, address, sizeof address, NULL) == WSX_OK);
    check(strncmp(address, "127.0.0.1:", 10) == 0);
}

static void user_data(void)
{
    int mine = 42;
    struct ear server = {0}, client = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    callbacks.on_close = read_user_data_in_close;
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &server);
    connect_to(loop, listener, NULL, &client);
    until(loop, server.opens == 1);
    check(wsx_user_data(server.connection) == NULL);
    check(wsx_set_user_data(server.connection, &mine) == WSX_OK);
    check(wsx_user_data(server.connection) == &mine);
    check(wsx_close(server.connection, WSX_CLOSE_NORMAL, NULL) == WSX_OK);
    until(loop, server.closes == 1);
    check(mine == 43);
    wsx_loop_free(loop);
}

/* Sends until the policy shows itself, to a peer that does not read. Answers with how many were taken. */
static int flood(struct ear *ear, wsx_loop *loop, int32_t policy, int *peer, int32_t *status)
{
    static char payload[64 * 1024];
    char text[1024];
    wsx_options *options = wsx_options_new();
    wsx_callbacks callbacks = hearing();
    wsx_options_set_backlog_limit(options, 256 * 1024);
    wsx_options_set_backlog_policy(options, policy);
    wsx_listener listener = listen_here(loop, options, &callbacks, ear);
    wsx_options_free(options);
    *peer = dial(listener);
    say(*peer, UPGRADE);
    hear(loop, *peer, text, sizeof text, "\r\n\r\n");
    until(loop, ear->opens == 1);
    int taken = 0;
    for (; taken < 2000; taken++) {
        *status = wsx_send(ear->connection, WSX_BINARY, payload, sizeof payload);
        if (*status != WSX_OK) break;
        check(wsx_loop_turn(loop, 0, NULL) == WSX_OK);
        if (ear->closes > 0) break;
    }
    return taken;
}

static void read_all(wsx_loop *loop, int fd, const int *enough)
{
    static char buffer[256 * 1024];
    while (!*enough) {
        check(wsx_loop_turn(loop, 0, NULL) == WSX_OK);
        ssize_t got = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
        check(got > 0 || errno == EAGAIN || errno == ECONNRESET);
    }
}

static void refusing(void)
{
    int peer;
    int32_t status;
    size_t amount;
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    int taken = flood(&ear, loop, WSX_BACKLOG_REFUSE, &peer, &status);
    check(taken < 2000 && status == WSX_ERR_BACKLOG_FULL && strstr(wsx_last_error(), "262144"));
    check(wsx_buffered_amount(ear.connection, &amount) == WSX_OK && amount > 0 && amount < 1024 * 1024);
    check(ear.drains == 0);
    read_all(loop, peer, &ear.drains);
    check(wsx_send_text(ear.connection, "again") == WSX_OK);
    close(peer);
    wsx_loop_free(loop);
}

static void closing_slow_readers(void)
{
    int peer;
    int32_t status;
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    check(flood(&ear, loop, WSX_BACKLOG_CLOSE, &peer, &status) < 2000);
    until(loop, ear.closes == 1);
    check(ear.code == WSX_CLOSE_TRY_AGAIN_LATER && ear.by == WSX_SIDE_US && !ear.was_clean);
    check(ear.failure == WSX_FAILURE_LIMIT);
    close(peer);
    wsx_loop_free(loop);
}

static void dropping(void)
{
    int peer;
    int32_t status;
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    check(flood(&ear, loop, WSX_BACKLOG_DROP, &peer, &status) == 2000);
    close(peer);
    until(loop, ear.closes == 1);
    check(ear.lost_messages > 0 && ear.undelivered_messages > ear.lost_messages);
    wsx_loop_free(loop);
}

static void pausing(void)
{
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    check(wsx_pause(pair.at_server) == WSX_OK);
    check(wsx_send_text(pair.at_client, "wait") == WSX_OK);
    check(wsx_loop_flush(pair.loop) == WSX_OK);
    for (int i = 0; i < 20; i++) check(wsx_loop_turn(pair.loop, 1, NULL) == WSX_OK);
    check(pair.server.messages == 0);
    check(wsx_resume(pair.at_server) == WSX_OK);
    until(pair.loop, pair.server.messages == 1);
    close_pair(&pair);
}

int main(void)
{
    printf("Many connections\n");
    test("a broadcast reaches a listener's connections, or the loop's, or all but one", broadcasts);
    test("a topic reaches its subscribers", topics);
    test("the order on a connection is the order of the calls", order);
    test("open connections can be counted and walked", counting_and_walking);
    test("a stale number is closed, for every call, and never somebody else's", stale_numbers);
    test("user data and the peer's address are still known when it closes", user_data);
    test("policy refuse: sending says so, and drain tells when it goes on", refusing);
    test("policy close: who does not read is closed with 1013", closing_slow_readers);
    test("policy drop: messages are lost, and counted", dropping);
    test("a paused connection is not read until it is resumed", pausing);
    return EXIT_SUCCESS;
}
