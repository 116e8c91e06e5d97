/*
 * The client under test: asks the Autobahn server how many cases there are, echoes through each of them, and has the
 * report written.
 *
 *     autobahn-client [--tls-ca FILE] ws://HOST:PORT AGENT
 */
#define _POSIX_C_SOURCE 200809L
#include <libwsx.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct run {
    wsx_loop *loop;
    wsx_options *options;
    const char *server, *agent;
    char answer[16];
    bool is_over;
    bool was_open;
};

static void on_open(wsx_connection connection, const wsx_opening *opening, void *user)
{
    (void)connection, (void)opening;
    ((struct run *)user)->was_open = true;
}

static void keep(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user)
{
    struct run *run = user;
    (void)connection, (void)kind;
    snprintf(run->answer, sizeof run->answer, "%.*s", (int)(length < sizeof run->answer ? length : 0), (const char *)payload);
}

static void echo(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user)
{
    (void)user;
    wsx_send(connection, kind, payload, length);
}

static void on_close(wsx_connection connection, const wsx_close_info *close, void *user)
{
    struct run *run = user;
    (void)connection;
    if (!run->was_open) fprintf(stderr, "autobahn-client: %s\n", close->text);
    run->is_over = true;
}

static void fail(void)
{
    fprintf(stderr, "autobahn-client: %s\n", wsx_last_error());
    exit(EXIT_FAILURE);
}

/* One connection from its begin to its end. */
static void visit(struct run *run, const wsx_callbacks *callbacks, const char *target)
{
    char url[512];
    bool running = true;
    snprintf(url, sizeof url, "%s%s", run->server, target);
    run->is_over = run->was_open = false;
    if (wsx_connect(run->loop, url, run->options, callbacks, run, NULL)) fail();
    while (!run->is_over && running)
        if (wsx_loop_turn(run->loop, -1, &running)) fail();
    if (!run->was_open) exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    const char *ca = argc == 5 && strcmp(argv[1], "--tls-ca") == 0 ? argv[2] : NULL;
    if (argc != 3 && !ca) {
        fprintf(stderr, "usage: autobahn-client [--tls-ca FILE] ws://HOST:PORT AGENT\n");
        return 2;
    }
    struct run run = {.server = argv[argc - 2], .agent = argv[argc - 1], .options = wsx_options_new()};
    wsx_options_set_compression(run.options, true);
    if (ca) wsx_options_set_tls_ca(run.options, ca);
    wsx_options_set_max_message(run.options, 32 * 1024 * 1024);
    wsx_options_set_max_fragments(run.options, 0);
    wsx_options_set_backlog_policy(run.options, WSX_BACKLOG_PAUSE);
    if (wsx_loop_new(NULL, &run.loop)) fail();

    const wsx_callbacks asking = {.size = sizeof asking, .on_open = on_open, .on_message = keep, .on_close = on_close};
    const wsx_callbacks echoing = {.size = sizeof echoing, .on_open = on_open, .on_message = echo, .on_close = on_close};
    char target[256];
    visit(&run, &asking, "/getCaseCount");
    int cases = atoi(run.answer);
    for (int number = 1; number <= cases; number++) {
        snprintf(target, sizeof target, "/runCase?case=%d&agent=%s", number, run.agent);
        visit(&run, &echoing, target);
    }
    snprintf(target, sizeof target, "/updateReports?agent=%s", run.agent);
    visit(&run, &asking, target);

    wsx_options_free(run.options);
    wsx_loop_free(run.loop);
    return cases > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
