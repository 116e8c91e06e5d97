/* Threads: what may be called from anywhere, what may not, and who may free. */
#include "test.h"

enum { MANY = 1000, THREADS = 4 };

static void *run(void *loop)
{
    return wsx_loop_run(loop) == WSX_OK ? loop : NULL;
}

static pthread_t start(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    check(pthread_create(&thread, NULL, body, argument) == 0);
    return thread;
}

static void *join(pthread_t thread)
{
    void *result;
    check(pthread_join(thread, &result) == 0);
    return result;
}

/* Each message is "THREAD NUMBER"; the numbers of one thread come in order. */
struct order {
    struct ear ear;
    int last[THREADS];
    wsx_loop *loop;
};

static void hear_in_order(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user)
{
    struct order *order = user;
    int thread, number;
    hear_message(connection, kind, payload, length, user);
    check(sscanf((char *)order->ear.payload, "%d %d", &thread, &number) == 2 && thread < THREADS);
    check(number == ++order->last[thread]);
}

struct sender {
    int number;
    wsx_connection connection;
};

static void *send_many(void *user)
{
    struct sender *sender = user;
    for (int i = 1; i <= MANY; i++) {
        char text[32];
        snprintf(text, sizeof text, "%d %d", sender->number, i);
        check(wsx_send_text(sender->connection, text) == WSX_OK);
    }
    return NULL;
}

static void sending(void)
{
    char url[64];
    struct order order = {.loop = NULL};
    struct ear server = {0};
    struct sender sender[THREADS];
    pthread_t thread[THREADS];
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    wsx_options *options = wsx_options_new();
    wsx_options_set_backlog_limit(options, 0);
    wsx_listener listener = listen_here(loop, options, &callbacks, &server);
    wsx_options_free(options);
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/", (int)wsx_listener_port(listener));
    callbacks.on_message = hear_in_order;
    check(wsx_connect(loop, url, NULL, &callbacks, &order, NULL) == WSX_OK);
    until(loop, server.opens == 1 && order.ear.opens == 1);
    for (int i = 0; i < THREADS; i++) {
        sender[i] = (struct sender){i, server.connection};
        thread[i] = start(send_many, &sender[i]);
    }
    until(loop, order.ear.messages == THREADS * MANY);
    for (int i = 0; i < THREADS; i++) join(thread[i]);
    wsx_loop_free(loop);
    free(order.ear.payload);
}

struct elsewhere {
    struct pair pair;
    int posted, dropped;
};

static void posted(void *user)
{
    size_t amount;
    struct elsewhere *it = user;
    it->posted++;
    check(wsx_buffered_amount(it->pair.at_server, &amount) == WSX_OK);
}

static void dropped(void *user)
{
    ((struct elsewhere *)user)->dropped++;
}

static void *use_from_elsewhere(void *user)
{
    struct elsewhere *it = user;
    wsx_loop *loop = it->pair.loop;
    wsx_connection connection = it->pair.at_server;
    size_t size;
    bool running;
    int32_t timeout;
    char text[64];
    uint64_t number;
    wsx_callbacks callbacks = hearing();
    struct ear ear = {0};

    check(wsx_loop_run(loop) == WSX_ERR_WRONG_THREAD);
    check(wsx_loop_turn(loop, 0, &running) == WSX_ERR_WRONG_THREAD);
    check(wsx_loop_flush(loop) == WSX_ERR_WRONG_THREAD);
    check(wsx_loop_next_timeout(loop, &timeout) == WSX_ERR_WRONG_THREAD);
    check(wsx_loop_free(loop) == WSX_ERR_WRONG_THREAD);
    check(wsx_loop_set_timer(loop, 0, posted, it, NULL, &number) == WSX_ERR_WRONG_THREAD);
    check(wsx_listen(loop, "127.0.0.1:0", NULL, &callbacks, &ear, &number) == WSX_ERR_WRONG_THREAD);
    check(wsx_listen_fd(loop, dup(0), NULL, &callbacks, &ear, &number) == WSX_ERR_WRONG_THREAD);
    check(wsx_connect(loop, "ws://127.0.0.1/", NULL, &callbacks, &ear, &number) == WSX_ERR_WRONG_THREAD);
    check(ear.drops == 3);
    check(wsx_listener_port(it->pair.listener) == WSX_ERR_WRONG_THREAD);
    check(wsx_listener_address(it->pair.listener, text, sizeof text, &size) == WSX_ERR_WRONG_THREAD);
    check(wsx_connection_count(loop, 0, &size) == WSX_ERR_WRONG_THREAD);
    check(wsx_connections(loop, 0, NULL, 0, &size) == WSX_ERR_WRONG_THREAD);
    check(wsx_subscriber_count(loop, "topic", &size) == WSX_ERR_WRONG_THREAD);
    check(wsx_buffered_amount(connection, &size) == WSX_ERR_WRONG_THREAD);
    check(wsx_ready_state(connection) == WSX_ERR_WRONG_THREAD);
    check(wsx_subprotocol(connection, text, sizeof text, &size) == WSX_ERR_WRONG_THREAD);
    check(wsx_connection_extensions(connection, text, sizeof text, &size) == WSX_ERR_WRONG_THREAD);
    check(wsx_peer_address(connection, text, sizeof text, &size) == WSX_ERR_WRONG_THREAD);
    check(!wsx_user_data(connection) && strlen(wsx_last_error()) > 0);
    check(wsx_set_user_data(connection, it) == WSX_ERR_WRONG_THREAD);

    check(wsx_loop_fd(loop) >= 0);
    check(wsx_loop_post(loop, posted, it, dropped) == WSX_OK);
    check(wsx_ping(connection, "p", 1) == WSX_OK && wsx_pong(connection, "p", 1) == WSX_OK);
    check(wsx_pause(connection) == WSX_OK && wsx_resume(connection) == WSX_OK);
    check(wsx_subscribe(connection, "topic") == WSX_OK);
    check(wsx_publish(loop, "topic", WSX_TEXT, "1", 1, 0) == WSX_OK);
    check(wsx_unsubscribe(connection, "topic") == WSX_OK);
    check(wsx_publish(loop, "topic", WSX_TEXT, "not heard", 9, 0) == WSX_OK);
    check(wsx_broadcast(loop, 0, WSX_TEXT, "2", 1, 0) == WSX_OK);
    check(wsx_send(connection, WSX_BINARY, "3", 1) == WSX_OK);
    check(wsx_close(connection, 4000, "from elsewhere") == WSX_OK);
    check(wsx_listener_close(it->pair.listener) == WSX_OK);
    check(wsx_loop_wake(loop) == WSX_OK);
    return NULL;
}

static void anywhere_and_nowhere_else(void)
{
    struct elsewhere it = {.posted = 0};
    open_pair(&it.pair, NULL, NULL);
    pthread_t thread = start(use_from_elsewhere, &it);
    until(it.pair.loop, it.pair.client.closes == 1 && it.pair.server.closes == 1);
    join(thread);
    check(it.posted == 1 && it.dropped == 1);
    check(it.pair.client.messages == 3 && is_payload(&it.pair.client, "3"));
    check(it.pair.client.code == 4000 && strcmp(it.pair.client.reason, "from elsewhere") == 0);
    check(wsx_listener_port(it.pair.listener) == WSX_ERR_CLOSED);
    close_pair(&it.pair);
}

static void *stop(void *loop)
{
    check(wsx_loop_stop(loop) == WSX_OK);
    return NULL;
}

static void stopping(void)
{
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    pthread_t thread = start(stop, pair.loop);
    check(wsx_loop_run(pair.loop) == WSX_OK);
    join(thread);
    check(wsx_ready_state(pair.at_client) == WSX_STATE_OPEN);
    check(wsx_send_text(pair.at_client, "it goes on") == WSX_OK);
    until(pair.loop, pair.server.messages == 1);
    close_pair(&pair);
}

static void *wake(void *loop)
{
    check(wsx_loop_wake(loop) == WSX_OK);
    return NULL;
}

static void waking(void)
{
    bool running = false;
    wsx_loop *loop = new_loop();
    pthread_t thread = start(wake, loop);
    check(wsx_loop_turn(loop, -1, &running) == WSX_OK && running);
    join(thread);
    wsx_loop_free(loop);
}

/* The loop runs on a thread of its own, the main thread uses it by numbers, ends it, joins, frees. */
static void a_thread_of_its_own(void)
{
    struct ear server = {0}, client = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &server);
    wsx_connection connection = connect_to(loop, listener, NULL, &client);
    pthread_t thread = start(run, loop);
    while (wsx_send_text(connection, "x") != WSX_OK) sched_yield();
    check(wsx_loop_shutdown(loop, 5000) == WSX_OK);
    check(join(thread) == loop);
    check(wsx_loop_free(loop) == WSX_OK);
    check(wsx_send_text(connection, "x") == WSX_ERR_CLOSED);
    check(server.opens == server.closes && client.closes == 1 && server.drops == 1 && client.drops == 1);
    free(server.payload);
}

/* What a thread leaves open when it ends is freed with it. */
static void a_thread_that_ends(void)
{
    struct pair pair;
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    listen_here(loop, NULL, &callbacks, &ear);
    check(wsx_loop_stop(loop) == WSX_OK);
    check(join(start(run, loop)) == loop);
    check(wsx_loop_run(loop) == WSX_ERR_WRONG_THREAD);
    check(wsx_loop_free(loop) == WSX_OK);
    check(ear.drops == 1);
    open_pair(&pair, NULL, NULL);
    close_pair(&pair);
}

static void drive_inside(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user)
{
    struct order *order = user;
    bool running;
    int32_t timeout;
    hear_message(connection, kind, payload, length, user);
    check(wsx_loop_run(order->loop) == WSX_ERR_REENTRANT);
    check(wsx_loop_turn(order->loop, 0, &running) == WSX_ERR_REENTRANT);
    check(wsx_loop_flush(order->loop) == WSX_ERR_REENTRANT);
    check(wsx_loop_next_timeout(order->loop, &timeout) == WSX_ERR_REENTRANT);
    check(wsx_loop_free(order->loop) == WSX_ERR_REENTRANT);
}

static void free_in_close(wsx_connection connection, const wsx_close_info *close, void *user)
{
    struct order *order = user;
    hear_close(connection, close, user);
    check(wsx_loop_free(order->loop) == WSX_ERR_REENTRANT);
}

static void inside_callbacks(void)
{
    struct order server = {.loop = NULL};
    struct ear client = {0};
    wsx_loop *loop = server.loop = new_loop();
    wsx_callbacks callbacks = hearing();
    callbacks.on_message = drive_inside;
    callbacks.on_close = free_in_close;
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &server);
    wsx_connection connection = connect_to(loop, listener, NULL, &client);
    until(loop, client.opens == 1);
    check(wsx_send_text(connection, "x") == WSX_OK);
    until(loop, server.ear.messages == 1);
    check(wsx_loop_free(loop) == WSX_OK);
    check(server.ear.closes == 1);
    free(server.ear.payload);
}

static void commands_are_limited(void)
{
    int dropped_before;
    struct elsewhere it = {.posted = 0};
    wsx_loop *loop;
    wsx_options *options = wsx_options_new();
    wsx_options_set_max_commands(options, 3);
    check(wsx_loop_new(options, &loop) == WSX_OK);
    wsx_options_free(options);
    for (int i = 0; i < 3; i++) check(wsx_loop_post(loop, dropped, &it, NULL) == WSX_OK);
    check(wsx_loop_post(loop, dropped, &it, dropped) == WSX_ERR_FULL);
    check(it.dropped == 1);
    until(loop, it.dropped == 4);
    check(wsx_loop_post(loop, posted, &it, dropped) == WSX_OK);
    dropped_before = it.dropped;
    wsx_loop_free(loop);
    check(it.dropped == dropped_before + 1 && it.posted == 0);
}

int main(void)
{
    printf("Threads\n");
    test("messages from other threads arrive, each thread's in order", sending);
    test("elsewhere, what may be called anywhere works and the rest is an error", anywhere_and_nowhere_else);
    test("stop ends a run from another thread, and nothing else", stopping);
    test("wake ends a turn that waits", waking);
    test("a loop runs on a thread of its own, is shut down from another, and freed there", a_thread_of_its_own);
    test("what a thread leaves behind is freed with it", a_thread_that_ends);
    test("driving and freeing inside a callback are errors", inside_callbacks);
    test("commands that wait are limited, and dropped once with the loop", commands_are_limited);
    return EXIT_SUCCESS;
}
