/* Several threads that serve as one loop, and a loop that stays awake. */
#define _GNU_SOURCE /* RUSAGE_THREAD */
#include "test.h"

#include <inttypes.h>
#include <sys/resource.h>

enum { SERVING = 3, FEW = 12, MOST = 500, NOBODY = -1 };

/* What the callbacks of all threads have seen. */
struct crowd {
    pthread_mutex_t lock;
    wsx_loop *loop;
    struct member {
        wsx_connection connection;
        pthread_t thread;
        int closes;
    } members[MOST];
    int count, closes, drops, closes_at_drop;
};

/* Under the lock. */
static struct member *member(struct crowd *crowd, wsx_connection connection)
{
    for (int i = 0; i < crowd->count; i++) {
        if (crowd->members[i].connection == connection) return &crowd->members[i];
    }
    fail(__FILE__, __LINE__, "every connection was opened");
    return NULL;
}

/* A callback runs: on the same thread as all those of its connection. */
static struct member *arrive(struct crowd *crowd, wsx_connection connection)
{
    struct member *it = member(crowd, connection);
    check(pthread_equal(it->thread, pthread_self()));
    return it;
}

/* Everybody is in one room, and hears its own number. */
static void enter(wsx_connection connection, const wsx_opening *opening, void *user)
{
    struct crowd *crowd = user;
    char text[32];
    (void)opening;
    pthread_mutex_lock(&crowd->lock);
    check(crowd->count < MOST);
    crowd->members[crowd->count++] = (struct member){connection, pthread_self(), 0};
    pthread_mutex_unlock(&crowd->lock);
    check(wsx_subscribe(connection, "all") == WSX_OK);
    snprintf(text, sizeof text, "%" PRIu64, connection);
    check(wsx_send_text(connection, text) == WSX_OK);
}

/* "publish", "broadcast" and "tell NUMBER" pass themselves on; "count" is answered. */
static void obey(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user)
{
    struct crowd *crowd = user;
    char text[32];
    wsx_connection other;
    size_t total;
    pthread_mutex_lock(&crowd->lock);
    arrive(crowd, connection);
    pthread_mutex_unlock(&crowd->lock);
    snprintf(text, sizeof text, "%.*s", (int)length, (const char *)payload);
    if (strcmp(text, "publish") == 0) {
        check(wsx_publish(crowd->loop, "all", kind, payload, length, connection) == WSX_OK);
    } else if (strcmp(text, "broadcast") == 0) {
        check(wsx_broadcast(crowd->loop, 0, kind, payload, length, 0) == WSX_OK);
    } else if (sscanf(text, "tell %" SCNu64, &other) == 1) {
        check(wsx_send(other, kind, payload, length) == WSX_OK);
    } else {
        check(wsx_connection_count(crowd->loop, 0, &total) == WSX_OK);
        snprintf(text, sizeof text, "%zu", total);
        check(wsx_send_text(connection, text) == WSX_OK);
    }
}

static void part(wsx_connection connection, const wsx_close_info *close, void *user)
{
    struct crowd *crowd = user;
    (void)close;
    pthread_mutex_lock(&crowd->lock);
    arrive(crowd, connection)->closes++;
    crowd->closes++;
    pthread_mutex_unlock(&crowd->lock);
}

static void note_drop(void *user)
{
    struct crowd *crowd = user;
    pthread_mutex_lock(&crowd->lock);
    crowd->drops++;
    crowd->closes_at_drop = crowd->closes;
    pthread_mutex_unlock(&crowd->lock);
}

/* Several threads serve the crowd; its clients are on a loop of the main thread. */
struct show {
    struct crowd crowd;
    wsx_listener listener;
    int port;
    pthread_t first;
    wsx_loop *loop;
    struct client {
        struct ear ear;
        wsx_connection at_server;
    } clients[MOST];
    int count;
};

static void *run(void *user)
{
    struct crowd *crowd = user;
    check(wsx_loop_run(crowd->loop) == WSX_OK);
    return crowd;
}

static void *run_and_free(void *user)
{
    struct crowd *crowd = run(user);
    /* Whoever has stopped it must be out of that call. */
    pthread_mutex_lock(&crowd->lock);
    pthread_mutex_unlock(&crowd->lock);
    check(wsx_loop_free(crowd->loop) == WSX_OK);
    return NULL;
}

static pthread_t thread_of(struct show *show, int client)
{
    pthread_t thread;
    pthread_mutex_lock(&show->crowd.lock);
    thread = member(&show->crowd, show->clients[client].at_server)->thread;
    pthread_mutex_unlock(&show->crowd.lock);
    return thread;
}

/* A client on another thread than the first one; 0 if there is none. */
static int further(struct show *show)
{
    for (int i = 1; i < show->count; i++) {
        if (!pthread_equal(thread_of(show, i), thread_of(show, 0))) return i;
    }
    return 0;
}

static void join_in(struct show *show)
{
    char url[64];
    wsx_callbacks callbacks = hearing();
    check(show->count < MOST);
    struct client *client = &show->clients[show->count++];
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/", show->port);
    check(wsx_connect(show->loop, url, NULL, &callbacks, &client->ear, NULL) == WSX_OK);
    until(show->loop, client->ear.messages == 1);
    check(sscanf((char *)client->ear.payload, "%" SCNu64, &client->at_server) == 1);
    client->ear.messages = 0;
}

/* Clients on at least two threads, each of which has heard its number. */
static struct show *begin(void *(*body)(void *), uint64_t busy_poll_us)
{
    struct show *show = calloc(1, sizeof *show);
    check(show != NULL);
    pthread_mutex_init(&show->crowd.lock, NULL);
    wsx_options *options = wsx_options_new();
    check(wsx_options_set_threads(options, SERVING) == WSX_OK);
    check(wsx_options_set_busy_poll(options, busy_poll_us) == WSX_OK);
    check(wsx_loop_new(options, &show->crowd.loop) == WSX_OK);
    wsx_options_free(options);
    wsx_callbacks callbacks = {
        .size = sizeof callbacks, .on_open = enter, .on_message = obey, .on_close = part, .drop = note_drop};
    show->listener = listen_here(show->crowd.loop, NULL, &callbacks, &show->crowd);
    show->port = wsx_listener_port(show->listener);
    check(pthread_create(&show->first, NULL, body, &show->crowd) == 0);
    show->loop = new_loop();
    while (show->count < FEW || !further(show)) join_in(show);
    return show;
}

static void clear(struct show *show)
{
    check(wsx_loop_free(show->loop) == WSX_OK);
    for (int i = 0; i < show->count; i++) {
        check(show->clients[i].ear.closes == 1 && show->clients[i].ear.drops == 1);
        free(show->clients[i].ear.payload);
    }
    pthread_mutex_destroy(&show->crowd.lock);
    free(show);
}

/* All threads are gone: each connection has had its one close, and behind them all the table was dropped, once. */
static void end(struct show *show)
{
    struct crowd *crowd = &show->crowd;
    check(crowd->count == show->count && crowd->closes == show->count);
    for (int i = 0; i < crowd->count; i++) check(crowd->members[i].closes == 1);
    check(crowd->drops == 1 && crowd->closes_at_drop == crowd->count);
    clear(show);
}

static void stop(struct show *show)
{
    pthread_mutex_lock(&show->crowd.lock);
    check(wsx_loop_stop(show->crowd.loop) == WSX_OK);
    pthread_mutex_unlock(&show->crowd.lock);
    check(pthread_join(show->first, NULL) == 0);
}

static void ask(struct show *show, int client, const char *text)
{
    check(wsx_send_text(show->clients[client].ear.connection, text) == WSX_OK);
}

static void expect(struct show *show, int client, const char *text)
{
    struct ear *ear = &show->clients[client].ear;
    until(show->loop, ear->messages > 0);
    check(ear->messages == 1 && is_payload(ear, text));
    ear->messages = 0;
}

/* What comes to somebody that is not meant is found by the next check. */
static void all_expect(struct show *show, const char *text, int except)
{
    for (int i = 0; i < show->count; i++) {
        if (i != except) expect(show, i, text);
    }
}

static void publishing(void)
{
    struct show *show = begin(run_and_free, 0);
    for (int i = 0; i < show->count; i++) {
        ask(show, i, "publish");
        all_expect(show, "publish", i);
    }
    ask(show, 0, "broadcast");
    all_expect(show, "broadcast", NOBODY);
    /* From a thread that serves none of them. */
    check(wsx_publish(show->crowd.loop, "all", WSX_TEXT, "elsewhere", 9, 0) == WSX_OK);
    all_expect(show, "elsewhere", NOBODY);
    check(wsx_broadcast(show->crowd.loop, show->listener, WSX_TEXT, "the end", 7, 0) == WSX_OK);
    all_expect(show, "the end", NOBODY);
    stop(show);
    end(show);
}

static void sending(void)
{
    char text[32];
    struct show *show = begin(run_and_free, 0);
    int other = further(show);
    snprintf(text, sizeof text, "tell %" PRIu64, show->clients[other].at_server);
    ask(show, 0, text);
    expect(show, other, text);
    snprintf(text, sizeof text, "tell %" PRIu64, show->clients[0].at_server);
    ask(show, other, text);
    expect(show, 0, text);
    stop(show);
    end(show);
}

static void counting(void)
{
    char text[32];
    struct show *show = begin(run_and_free, 0);
    snprintf(text, sizeof text, "%d", show->count);
    for (int i = 0; i < show->count; i++) {
        ask(show, i, "count");
        expect(show, i, text);
    }
    stop(show);
    end(show);
}

static void shutting_down(void)
{
    struct show *show = begin(run, 0);
    struct crowd *crowd = &show->crowd;
    check(wsx_loop_shutdown(crowd->loop, 5000) == WSX_OK);
    for (int i = 0; i < show->count; i++) {
        struct ear *ear = &show->clients[i].ear;
        until(show->loop, ear->closes == 1);
        check(ear->code == WSX_CLOSE_GOING_AWAY && ear->was_clean);
    }
    check(pthread_join(show->first, NULL) == 0);
    check(crowd->closes == show->count);
    check(wsx_loop_free(crowd->loop) == WSX_OK);
    check(wsx_send_text(show->clients[0].at_server, "too late") == WSX_ERR_CLOSED);
    end(show);
}

/* The first thread's end tells nobody; the further ones end with the loop, and tell theirs. */
static void freeing_elsewhere(void)
{
    struct show *show = begin(run, 0);
    struct crowd *crowd = &show->crowd;
    int told = 0;
    for (int i = 0; i < show->count; i++) told += !pthread_equal(thread_of(show, i), show->first);
    stop(show);
    check(wsx_loop_free(crowd->loop) == WSX_OK);
    check(crowd->closes == told && crowd->drops == 1 && crowd->closes_at_drop == told);
    for (int i = 0; i < show->count; i++) until(show->loop, show->clients[i].ear.closes == 1);
    clear(show);
}

static void never_started(void)
{
    struct ear ear = {0};
    wsx_callbacks callbacks = hearing();
    wsx_loop *loop = NULL;
    wsx_options *options = wsx_options_new();
    wsx_options_set_threads(options, SERVING);
    check(wsx_loop_new(options, &loop) == WSX_OK);
    listen_here(loop, NULL, &callbacks, &ear);
    check(wsx_loop_free(loop) == WSX_OK);
    check(ear.drops == 1 && ear.opens == 0);
    wsx_options_set_threads(options, 1025);
    check(wsx_loop_new(options, &loop) == WSX_ERR_INVALID && strstr(wsx_last_error(), "1024"));
    wsx_options_free(options);
}

static void staying_awake(void)
{
    struct show *show = begin(run_and_free, 200);
    for (int i = 0; i < show->count; i++) {
        ask(show, i, "publish");
        all_expect(show, "publish", i);
    }
    stop(show);
    end(show);
}

/* Each of these turns gives up the processor once at least: it waits longer than it stays awake. */
static void idling(void)
{
    enum { TURNS = 10 };
    struct rusage before, after;
    wsx_loop *loop = NULL;
    wsx_options *options = wsx_options_new();
    wsx_options_set_busy_poll(options, 1000);
    check(wsx_loop_new(options, &loop) == WSX_OK);
    wsx_options_free(options);
    check(getrusage(RUSAGE_THREAD, &before) == 0);
    for (int i = 0; i < TURNS; i++) check(wsx_loop_turn(loop, 10, NULL) == WSX_OK);
    check(getrusage(RUSAGE_THREAD, &after) == 0);
    check(after.ru_nvcsw - before.ru_nvcsw >= TURNS);
    wsx_loop_free(loop);
}

int main(void)
{
    printf("Several threads that serve as one\n");
    test("what any thread publishes reaches the connections of all", publishing);
    test("a callback sends to a connection of another thread", sending);
    test("every thread counts the connections of all", counting);
    test("a shutdown ends all threads, with one close for each connection", shutting_down);
    test("freed where its own thread has ended, it ends the further ones", freeing_elsewhere);
    test("what was never started is freed, and too many threads are refused", never_started);
    printf("A loop that stays awake\n");
    test("messages flow, on several threads", staying_awake);
    test("it sleeps when it is idle", idling);
    return EXIT_SUCCESS;
}
