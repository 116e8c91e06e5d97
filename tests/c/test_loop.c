/* The loop: driven from outside, its timers, posts and ends. */
#include "test.h"

static void driven_by_poll(void)
{
    enum { ROUNDS = 50 };
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    int fd = wsx_loop_fd(pair.loop);
    check(fd >= 0);
    for (int round = 1; round <= ROUNDS; round++) {
        check(wsx_send_text(pair.at_client, "ping") == WSX_OK);
        check(wsx_loop_flush(pair.loop) == WSX_OK);
        while (pair.server.messages < round) {
            int32_t timeout = -2;
            struct pollfd ready = {.fd = fd, .events = POLLIN};
            check(wsx_loop_next_timeout(pair.loop, &timeout) == WSX_OK && timeout >= -1);
            check(poll(&ready, 1, timeout) >= 0);
            check(wsx_loop_turn(pair.loop, 0, NULL) == WSX_OK);
        }
    }
    close_pair(&pair);
}

static void timeouts(void)
{
    int32_t timeout = 7;
    wsx_loop *loop = new_loop();
    struct ear ear = {0};
    check(wsx_loop_turn(loop, 0, NULL) == WSX_OK);
    check(wsx_loop_next_timeout(loop, &timeout) == WSX_OK && timeout == -1);
    check(wsx_loop_set_timer(loop, 1000 * 1000, hear_drop, &ear, NULL, NULL) == WSX_OK);
    check(wsx_loop_next_timeout(loop, &timeout) == WSX_OK);
    check(timeout > 900 * 1000 && timeout <= 1001 * 1000);
    check(wsx_loop_set_timer(loop, 0, hear_drop, &ear, NULL, NULL) == WSX_OK);
    until(loop, ear.drops == 1);
    check(wsx_loop_set_timer(loop, UINT64_MAX, hear_drop, &ear, hear_drop, NULL) == WSX_OK);
    wsx_loop_free(loop);
    check(ear.drops == 2);
}

struct note {
    char order[16];
    int drops;
    wsx_loop *loop;
};

static void note_a(void *user) { strcat(((struct note *)user)->order, "a"); }
static void note_b(void *user) { strcat(((struct note *)user)->order, "b"); }
static void note_c(void *user) { strcat(((struct note *)user)->order, "c"); }
static void note_drop(void *user) { ((struct note *)user)->drops++; }

static void set_another(void *user)
{
    struct note *note = user;
    note_a(note);
    check(wsx_loop_set_timer(note->loop, 0, note_b, note, note_drop, NULL) == WSX_OK);
    check(wsx_loop_post(note->loop, note_c, note, note_drop) == WSX_OK);
}

static void timers(void)
{
    struct note note = {.loop = new_loop()};
    wsx_timer timer = 0, cancelled = 0;
    check(wsx_loop_set_timer(note.loop, 60, note_c, &note, note_drop, NULL) == WSX_OK);
    check(wsx_loop_set_timer(note.loop, 1, note_a, &note, note_drop, &timer) == WSX_OK);
    check(wsx_loop_set_timer(note.loop, 40, note_b, &note, note_drop, NULL) == WSX_OK);
    check(wsx_loop_set_timer(note.loop, 20, note_b, &note, note_drop, &cancelled) == WSX_OK);
    check(timer != 0 && cancelled != 0 && timer != cancelled);
    check(wsx_timer_cancel(cancelled) == WSX_OK);
    check(note.drops == 1);
    until(note.loop, strlen(note.order) == 3);
    check(strcmp(note.order, "abc") == 0 && note.drops == 4);
    check(wsx_timer_cancel(timer) == WSX_OK && wsx_timer_cancel(cancelled) == WSX_OK);
    note.order[0] = '\0';
    check(wsx_loop_set_timer(note.loop, 1, set_another, &note, NULL, NULL) == WSX_OK);
    until(note.loop, strlen(note.order) == 3);
    check(note.drops == 6);
    wsx_loop_free(note.loop);
}

struct stopping {
    struct ear ear;
    wsx_loop *loop;
};

static void stop_inside(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user)
{
    hear_message(connection, kind, payload, length, user);
    check(wsx_loop_stop(((struct stopping *)user)->loop) == WSX_OK);
}

static void stopping_inside_a_callback(void)
{
    struct stopping server = {.loop = new_loop()};
    struct ear client = {0};
    bool running = true;
    wsx_loop *loop = server.loop;
    wsx_callbacks callbacks = hearing();
    callbacks.on_message = stop_inside;
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &server);
    wsx_connection connection = connect_to(loop, listener, NULL, &client);
    until(loop, client.opens == 1);
    check(wsx_send_text(connection, "stop") == WSX_OK);
    check(wsx_loop_run(loop) == WSX_OK);
    check(server.ear.messages == 1);
    check(wsx_loop_stop(loop) == WSX_OK);
    check(wsx_loop_turn(loop, -1, &running) == WSX_OK && !running);
    check(wsx_loop_turn(loop, 0, &running) == WSX_OK && running);
    wsx_loop_free(loop);
    free(server.ear.payload);
}

static void *run(void *loop)
{
    check(wsx_loop_run(loop) == WSX_OK);
    return NULL;
}

/* The clients are on a loop of their own, on a thread of its own, so only the server shuts down. */
static void shutting_down(void)
{
    pthread_t thread;
    char text[1024];
    struct ear server = {0}, client[2] = {{0}};
    wsx_loop *loop = new_loop(), *clients = new_loop();
    wsx_callbacks callbacks = hearing();
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &server);
    connect_to(clients, listener, NULL, &client[0]);
    connect_to(clients, listener, NULL, &client[1]);
    check(pthread_create(&thread, NULL, run, clients) == 0);
    int silent = dial(listener);
    say(silent, UPGRADE);
    hear(loop, silent, text, sizeof text, "\r\n\r\n");
    until(loop, server.opens == 3);
    int port = wsx_listener_port(listener);
    check(port > 0);
    check(wsx_loop_shutdown(loop, 200) == WSX_OK);
    check(wsx_loop_run(loop) == WSX_OK);
    check(server.closes == 3);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int late = socket(AF_INET, SOCK_STREAM, 0);
    check(connect(late, (struct sockaddr *)&address, sizeof address) < 0 && errno == ECONNREFUSED);
    close(late);
    check(wsx_loop_free(loop) == WSX_OK);
    check(server.closes == 3 && server.drops == 1);
    check(wsx_loop_shutdown(clients, 5000) == WSX_OK);
    check(pthread_join(thread, NULL) == 0);
    check(wsx_loop_free(clients) == WSX_OK);
    for (int i = 0; i < 2; i++) {
        check(client[i].closes == 1 && client[i].code == WSX_CLOSE_GOING_AWAY && client[i].was_clean);
        check(client[i].by == WSX_SIDE_PEER && client[i].drops == 1);
    }
    size_t length = hear(NULL, silent, text, sizeof text, NULL);
    check(length >= 4 && (uint8_t)text[0] == 0x88 && (uint8_t)text[2] == 0x03 && (uint8_t)text[3] == 0xe9);
    close(silent);
}

static void closing_a_listener(void)
{
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    check(wsx_listener_close(pair.listener) == WSX_OK);
    check(wsx_listener_close(pair.listener) == WSX_ERR_CLOSED);
    check(wsx_send_text(pair.at_client, "still here") == WSX_OK);
    until(pair.loop, pair.server.messages == 1);
    check(pair.server.drops == 0);
    check(wsx_close(pair.at_client, WSX_CLOSE_NORMAL, NULL) == WSX_OK);
    until(pair.loop, pair.server.drops == 1 && pair.client.drops == 1);
    close_pair(&pair);
}

static void two_loops_on_one_thread(void)
{
    struct pair one, two;
    open_pair(&one, NULL, NULL);
    open_pair(&two, NULL, NULL);
    check(wsx_send_text(one.at_client, "one") == WSX_OK && wsx_send_text(two.at_client, "two") == WSX_OK);
    until(two.loop, two.server.messages == 1);
    until(one.loop, one.server.messages == 1);
    check(is_payload(&one.server, "one") && is_payload(&two.server, "two"));
    close_pair(&one);
    check(wsx_send_text(one.at_client, "gone") == WSX_ERR_CLOSED);
    check(wsx_send_text(two.at_client, "here") == WSX_OK);
    until(two.loop, two.server.messages == 2);
    close_pair(&two);
}

int main(void)
{
    printf("The loop\n");
    test("a host drives it with poll, its descriptor and its timeout", driven_by_poll);
    test("the next timeout is never, later, or now", timeouts);
    test("timers run once, in order, are cancelled, and may set others", timers);
    test("a callback can stop the loop", stopping_inside_a_callback);
    test("a shutdown closes with 1001, waits, cuts who is silent, and accepts nobody", shutting_down);
    test("a closed listener frees its address and keeps its connections", closing_a_listener);
    test("two loops live on one thread and do not meet", two_loops_on_one_thread);
    return EXIT_SUCCESS;
}
