/*
 * A server that listens and pings, for the wake-ups of a loop: connections come, answer pings, and say nothing else.
 *
 *     heartbeat INTERVAL_MS     (0: no heartbeat; a pong is awaited for four fifths of the interval, as by default)
 *
 * It ends on SIGTERM.
 */
#define _POSIX_C_SOURCE 200809L
#include <libwsx.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static void check(int32_t status)
{
    if (status >= 0) return;
    fprintf(stderr, "heartbeat: %s\n", wsx_last_error());
    exit(EXIT_FAILURE);
}

static void *end_on_signal(void *loop)
{
    sigset_t signals;
    int signal;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigwait(&signals, &signal);
    wsx_loop_stop(loop);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 2) return EXIT_FAILURE;
    uint64_t interval = strtoull(argv[1], NULL, 10);

    struct rlimit descriptors;
    if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
        descriptors.rlim_cur = descriptors.rlim_max;
        setrlimit(RLIMIT_NOFILE, &descriptors);
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    wsx_options *options = wsx_options_new();
    wsx_options_set_ping_interval(options, interval);
    wsx_options_set_pong_timeout(options, interval / 5 * 4);
    wsx_callbacks callbacks = {.size = sizeof callbacks};
    wsx_loop *loop;
    wsx_listener listener;
    check(wsx_loop_new(NULL, &loop));
    check(wsx_listen(loop, "127.0.0.1:0", options, &callbacks, NULL, &listener));
    wsx_options_free(options);

    pthread_t waiting;
    if (pthread_create(&waiting, NULL, end_on_signal, loop) != 0) return EXIT_FAILURE;
    printf("listening on ws://127.0.0.1:%d\n", wsx_listener_port(listener));
    fflush(stdout);
    check(wsx_loop_run(loop));
    pthread_join(waiting, NULL);
    check(wsx_loop_free(loop));
    return EXIT_SUCCESS;
}
