/*
 * A client that answers each message with the same, for what a message costs a client.
 *
 *     client URL
 *
 * It ends on SIGTERM.
 */
#include "program.h"

static void echo(wsx_connection connection, int32_t kind, const uint8_t *payload, size_t length, void *user)
{
    (void)user;
    wsx_send(connection, kind, payload, length);
}

int main(int argc, char **argv)
{
    if (argc != 2) return EXIT_FAILURE;
    keep_signals();
    wsx_callbacks callbacks = {.size = sizeof callbacks, .on_message = echo};
    wsx_loop *loop;
    check(wsx_loop_new(NULL, &loop));
    check(wsx_connect(loop, argv[1], NULL, &callbacks, NULL, NULL));
    run(loop);
    return EXIT_SUCCESS;
}
