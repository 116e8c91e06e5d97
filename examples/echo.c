/*
 * An echo server: text comes back as text, binary as binary. With --broadcast a message goes to everybody else instead.
 *
 *     echo [--host HOST] [--port PORT] [--broadcast] [--compression [--context-takeover]] [--max-message BYTES]
 *          [--max-fragments N] [--origin any] [--threads N] [--busy-poll MICROSECONDS] [--tls-cert FILE --tls-key FILE [--tls-ca FILE]]
 *
 * With a certificate and its key, in PEM, it speaks TLS; with --tls-ca clients must show a certificate of these issuers.
 * It pauses a peer that does not read its echoes, and ends in order on SIGINT and SIGTERM.
 */
#define _POSIX_C_SOURCE 200809L
#include <libwsx.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { GRACE_MS = 1000, USAGE = 2 };

static void echo(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user)
{
    (void)user;
    wsx_send(connection, kind, payload, length);
}

static void broadcast(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *loop)
{
    wsx_broadcast(loop, 0, kind, payload, length, connection);
}

static sigset_t ending_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    return signals;
}

/* A thread that waits for a signal and ends the loop from there: any thread may. */
static void *end_on_signal(void *loop)
{
    sigset_t signals = ending_signals();
    int signal;
    sigwait(&signals, &signal);
    wsx_loop_shutdown(loop, GRACE_MS);
    return NULL;
}

static void usage(const char *what, const char *argument)
{
    fprintf(stderr, "echo: %s%s\n"
            "usage: echo [--host HOST] [--port PORT] [--broadcast] [--compression [--context-takeover]]"
            " [--max-message BYTES] [--max-fragments N] [--origin any] [--threads N] [--busy-poll MICROSECONDS]"
            " [--tls-cert FILE --tls-key FILE [--tls-ca FILE]]\n",
            what, argument);
    exit(USAGE);
}

static unsigned long long number(const char *option, const char *text, unsigned long long largest)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || value > largest) {
        fprintf(stderr, "echo: %s takes a number from 0 to %llu, not '%s'\n", option, largest, text);
        exit(USAGE);
    }
    return value;
}

static void check(int32_t status)
{
    if (status >= 0) return;
    fprintf(stderr, "echo: %s\n", wsx_last_error());
    exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    const char *host = "127.0.0.1", *tls_cert = NULL, *tls_key = NULL, *tls_ca = NULL;
    unsigned port = 9001;
    wsx_callbacks callbacks = {.size = sizeof callbacks, .on_message = echo};
    wsx_options *options = wsx_options_new();
    wsx_options_set_backlog_policy(options, WSX_BACKLOG_PAUSE);

    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
        if (strcmp(option, "--broadcast") == 0) {
            callbacks.on_message = broadcast;
            continue;
        }
        if (strcmp(option, "--compression") == 0) {
            wsx_options_set_compression(options, 1);
            continue;
        }
        if (strcmp(option, "--context-takeover") == 0) {
            wsx_options_set_compression_server_no_context_takeover(options, 0);
            wsx_options_set_compression_client_no_context_takeover(options, 0);
            continue;
        }
        const char *value = argv[++i];
        if (!value) usage("unknown option, or its value is missing: ", option);
        else if (strcmp(option, "--host") == 0) host = value;
        else if (strcmp(option, "--port") == 0) port = (unsigned)number(option, value, 65535);
        else if (strcmp(option, "--max-message") == 0)
            wsx_options_set_max_message(options, (size_t)number(option, value, SIZE_MAX));
        else if (strcmp(option, "--max-fragments") == 0)
            wsx_options_set_max_fragments(options, (uint32_t)number(option, value, UINT32_MAX));
        else if (strcmp(option, "--threads") == 0)
            wsx_options_set_threads(options, (size_t)number(option, value, 1024));
        else if (strcmp(option, "--busy-poll") == 0)
            wsx_options_set_busy_poll(options, number(option, value, 1000000));
        else if (strcmp(option, "--tls-cert") == 0) tls_cert = value;
        else if (strcmp(option, "--tls-key") == 0) tls_key = value;
        else if (strcmp(option, "--tls-ca") == 0) tls_ca = value;
        else if (strcmp(option, "--origin") == 0 && strcmp(value, "any") == 0)
            wsx_options_set_origins(options, WSX_ORIGINS_ANY);
        else if (strcmp(option, "--origin") == 0) usage("--origin takes 'any', not ", value);
        else usage("unknown option: ", option);
    }

    if (!tls_cert != !tls_key || (tls_ca && !tls_cert)) usage("--tls-cert and --tls-key belong together", "");
    if (tls_cert) check(wsx_options_add_tls_certificate(options, tls_cert, tls_key));
    if (tls_ca) {
        check(wsx_options_set_tls_ca(options, tls_ca));
        check(wsx_options_set_tls_client_auth(options, WSX_CLIENT_AUTH_REQUIRED));
    }

    /* Each connection is a descriptor: as many as the system allows. */
    struct rlimit descriptors;
    if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
        descriptors.rlim_cur = descriptors.rlim_max;
        setrlimit(RLIMIT_NOFILE, &descriptors);
    }

    /* Blocked before there are other threads, so that only the one that waits for them gets them. */
    sigset_t signals = ending_signals();
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    char address[300];
    snprintf(address, sizeof address, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);

    wsx_loop *loop;
    wsx_listener listener;
    check(wsx_loop_new(options, &loop));
    check(wsx_listen(loop, address, options, &callbacks, loop, &listener));
    check(wsx_listener_address(listener, address, sizeof address, NULL));
    wsx_options_free(options);

    pthread_t waiting;
    if (pthread_create(&waiting, NULL, end_on_signal, loop) != 0) return EXIT_FAILURE;
    printf("listening on %s://%s\n", tls_cert ? "wss" : "ws", address);
    fflush(stdout);

    check(wsx_loop_run(loop));
    pthread_join(waiting, NULL);
    check(wsx_loop_free(loop));
    return EXIT_SUCCESS;
}
