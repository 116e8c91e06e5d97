/* What the programs here have in common: they tell what failed, and run until SIGTERM. */
#define _POSIX_C_SOURCE 200809L
#include <libwsx.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int32_t status)
{
    if (status >= 0) return;
    fprintf(stderr, "%s\n", wsx_last_error());
    exit(EXIT_FAILURE);
}

static sigset_t terminated(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    return signals;
}

static void *end_on_signal(void *loop)
{
    sigset_t signals = terminated();
    int signal;
    sigwait(&signals, &signal);
    wsx_loop_stop(loop);
    return NULL;
}

/* Before there is any thread: only the one that waits for the signal is to get it. */
static void keep_signals(void)
{
    sigset_t signals = terminated();
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
}

/* Runs the loop until SIGTERM, and frees it. */
static void run(wsx_loop *loop)
{
    pthread_t waiting;
    if (pthread_create(&waiting, NULL, end_on_signal, loop) != 0) exit(EXIT_FAILURE);
    check(wsx_loop_run(loop));
    pthread_join(waiting, NULL);
    check(wsx_loop_free(loop));
}
