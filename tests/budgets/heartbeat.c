/*
 * A server that listens and pings, for the wake-ups of a loop: connections come, answer pings, and say nothing else.
 *
 *     heartbeat INTERVAL_MS     (0: no heartbeat; a pong is awaited for four fifths of the interval, as by default)
 *
 * It ends on SIGTERM.
 */
#include "program.h"

#include <sys/resource.h>

int main(int argc, char **argv)
{
    if (argc != 2) return EXIT_FAILURE;
    uint64_t interval = strtoull(argv[1], NULL, 10);

    struct rlimit descriptors;
    if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
        descriptors.rlim_cur = descriptors.rlim_max;
        setrlimit(RLIMIT_NOFILE, &descriptors);
    }
    keep_signals();

    wsx_options *options = wsx_options_new();
    wsx_options_set_ping_interval(options, interval);
    wsx_options_set_pong_timeout(options, interval / 5 * 4);
    wsx_callbacks callbacks = {.size = sizeof callbacks};
    wsx_loop *loop;
    wsx_listener listener;
    check(wsx_loop_new(NULL, &loop));
    check(wsx_listen(loop, "127.0.0.1:0", options, &callbacks, NULL, &listener));
    wsx_options_free(options);

    printf("listening on ws://127.0.0.1:%d\n", wsx_listener_port(listener));
    fflush(stdout);
    run(loop);
    return EXIT_SUCCESS;
}
