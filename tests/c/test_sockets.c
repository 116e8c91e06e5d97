/* The system side: kinds of sockets, adopted ones, failures, signals, descriptors. */
#include "test.h"

#include <dirent.h>
#include <netinet/in.h>

static void unix_socket(void)
{
    char path[64], address[80], url[96], text[80];
    struct ear server = {0}, client = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    wsx_listener listener;
    wsx_connection connection;
    snprintf(path, sizeof path, "/tmp/wsx-test-%ld", (long)getpid());
    snprintf(address, sizeof address, "unix:%s", path);
    snprintf(url, sizeof url, "ws+unix:%s:/chat", path);
    check(wsx_listen(loop, address, NULL, &callbacks, &server, &listener) == WSX_OK);
    check(wsx_listener_address(listener, text, sizeof text, NULL) == WSX_OK && strcmp(text, address) == 0);
    check(wsx_listener_port(listener) == 0);
    check(wsx_connect(loop, url, NULL, &callbacks, &client, &connection) == WSX_OK);
    until(loop, server.opens == 1 && client.opens == 1);
    check(wsx_peer_address(server.connection, text, sizeof text, NULL) == WSX_OK && strcmp(text, "unix:") == 0);
    check(wsx_send_text(connection, "over a file") == WSX_OK);
    until(loop, server.messages == 1);
    check(is_payload(&server, "over a file"));
    wsx_loop_free(loop);
    free(server.payload);
    unlink(path);
}

static void ipv6(void)
{
    char text[64], url[96];
    struct ear server = {0}, client = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    wsx_listener listener;
    wsx_connection connection;
    int32_t status = wsx_listen(loop, "[::1]:0", NULL, &callbacks, &server, &listener);
    if (status == WSX_ERR_SYSTEM && (wsx_last_os_error() == EADDRNOTAVAIL || wsx_last_os_error() == EAFNOSUPPORT)) {
        printf("    (this system has no IPv6)\n");
        wsx_loop_free(loop);
        return;
    }
    check(status == WSX_OK);
    check(wsx_listener_address(listener, text, sizeof text, NULL) == WSX_OK && strncmp(text, "[::1]:", 6) == 0);
    snprintf(url, sizeof url, "ws://%s/", text);
    check(wsx_connect(loop, url, NULL, &callbacks, &client, &connection) == WSX_OK);
    until(loop, server.opens == 1 && client.opens == 1);
    check(wsx_peer_address(server.connection, text, sizeof text, NULL) == WSX_OK && strncmp(text, "[::1]:", 6) == 0);
    wsx_loop_free(loop);
}

static void adopted(void)
{
    struct ear server = {0}, client = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    wsx_listener listener;
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 16) == 0);
    check(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    check(wsx_listen_fd(loop, fd, NULL, &callbacks, &server, &listener) == WSX_OK);
    check(wsx_listener_port(listener) == ntohs(address.sin_port));
    connect_to(loop, listener, NULL, &client);
    until(loop, server.opens == 1 && client.opens == 1);
    check(wsx_loop_free(loop) == WSX_OK);
    check(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
}

static void adopting_nonsense(void)
{
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    int pipes[2];
    check(pipe(pipes) == 0);
    check(wsx_listen_fd(loop, pipes[0], NULL, &callbacks, &ear, NULL) < 0);
    check(fcntl(pipes[0], F_GETFD) < 0 && ear.drops == 1);
    close(pipes[1]);
    int idle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(wsx_listen_fd(loop, idle, NULL, &callbacks, &ear, NULL) < 0);
    check(fcntl(idle, F_GETFD) < 0 && ear.drops == 2);
    wsx_loop_free(loop);
}

static void address_in_use(void)
{
    char address[32];
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &ear);
    snprintf(address, sizeof address, "127.0.0.1:%d", (int)wsx_listener_port(listener));
    check(wsx_listen(loop, address, NULL, &callbacks, &ear, NULL) == WSX_ERR_SYSTEM);
    check(wsx_last_os_error() == EADDRINUSE && strstr(wsx_last_error(), address));
    wsx_options *options = wsx_options_new();
    wsx_options_set_reuse_port(options, 1);
    check(wsx_listen(loop, "127.0.0.1:0", options, &callbacks, &ear, &listener) == WSX_OK);
    snprintf(address, sizeof address, "127.0.0.1:%d", (int)wsx_listener_port(listener));
    check(wsx_listen(loop, address, options, &callbacks, &ear, NULL) == WSX_OK);
    wsx_options_free(options);
    wsx_loop_free(loop);
}

static void refused(void)
{
    char url[64];
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    wsx_listener listener = listen_here(loop, NULL, &callbacks, &ear);
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/", (int)wsx_listener_port(listener));
    check(wsx_listener_close(listener) == WSX_OK);
    memset(&ear, 0, sizeof ear);
    check(wsx_connect(loop, url, NULL, &callbacks, &ear, NULL) == WSX_OK);
    check(ear.errors == 0 && ear.closes == 0);
    until(loop, ear.closes == 1);
    check(ear.opens == 0 && ear.errors == 1 && ear.stage == WSX_STAGE_CONNECT && ear.os_error == ECONNREFUSED);
    check(ear.failure == WSX_FAILURE_TRANSPORT && ear.http_status == 0);
    check(ear.code == WSX_CLOSE_ABNORMAL && !ear.was_clean && ear.had_failure);
    wsx_loop_free(loop);
    check(ear.closes == 1);
}

/* SIGPIPE would end this program. */
static void no_sigpipe(void)
{
    static char large[256 * 1024];
    char text[1024];
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    wsx_options *options = wsx_options_new();
    check(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    wsx_options_set_backlog_limit(options, 0);
    wsx_listener listener = listen_here(loop, options, &callbacks, &ear);
    wsx_options_free(options);
    int fd = dial(listener);
    say(fd, UPGRADE);
    hear(loop, fd, text, sizeof text, "\r\n\r\n");
    until(loop, ear.opens == 1);
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    check(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
    close(fd);
    for (int i = 0; i < 4 && wsx_send(ear.connection, WSX_BINARY, large, sizeof large) == WSX_OK; i++)
        check(wsx_loop_flush(loop) == WSX_OK);
    until(loop, ear.closes == 1);
    check(ear.code == WSX_CLOSE_ABNORMAL && !ear.was_clean);
    wsx_loop_free(loop);
}

/* Marks the descriptors that are open now; counts those that came since and are kept over exec. */
static int inspect(bool *known, size_t capacity, int *fresh)
{
    int kept = 0;
    struct dirent *entry;
    DIR *directory = opendir("/proc/self/fd");
    check(directory != NULL);
    while ((entry = readdir(directory))) {
        char path[300], line[128];
        unsigned flags = 0;
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(directory) || (size_t)fd >= capacity) continue;
        if (fresh == NULL) known[fd] = true;
        if (known[fd]) continue;
        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
        FILE *info = fopen(path, "r");
        check(info != NULL);
        while (fgets(line, sizeof line, info)) sscanf(line, "flags: %o", &flags);
        fclose(info);
        check(flags != 0);
        ++*fresh;
        if (!(flags & 02000000)) kept++;
    }
    closedir(directory);
    return kept;
}

static void close_on_exec(void)
{
    static bool known[4096];
    int fresh = 0;
    char path[64], address[80], url[96];
    struct pair pair;
    struct ear server = {0}, client = {0}, named = {0};
    wsx_callbacks callbacks = hearing();
    inspect(known, sizeof known, NULL);
    open_pair(&pair, NULL, NULL);
    snprintf(path, sizeof path, "/tmp/wsx-exec-%ld", (long)getpid());
    snprintf(address, sizeof address, "unix:%s", path);
    snprintf(url, sizeof url, "ws+unix:%s:/", path);
    check(wsx_listen(pair.loop, address, NULL, &callbacks, &server, NULL) == WSX_OK);
    check(wsx_connect(pair.loop, url, NULL, &callbacks, &client, NULL) == WSX_OK);
    snprintf(url, sizeof url, "ws://localhost:%d/", (int)wsx_listener_port(pair.listener));
    check(wsx_connect(pair.loop, url, NULL, &callbacks, &named, NULL) == WSX_OK);
    until(pair.loop, client.opens == 1 && server.opens == 1 && named.opens == 1 && pair.server.opens == 2);
    check(inspect(known, sizeof known, &fresh) == 0);
    check(fresh >= 10);
    unlink(path);
    close_pair(&pair);
    /* The thread that looked the name up may be about to end. */
    do {
        fresh = 0;
        sched_yield();
        inspect(known, sizeof known, &fresh);
    } while (fresh > 0);
}

int main(void)
{
    printf("Sockets\n");
    test("a Unix socket serves and connects", unix_socket);
    test("IPv6 serves and connects", ipv6);
    test("a socket that listens already is adopted", adopted);
    test("what cannot be adopted is an error, and closed", adopting_nonsense);
    test("an address in use is told with its errno; SO_REUSEPORT shares it", address_in_use);
    test("a refused connect is an error of stage connect with its errno, then one close", refused);
    test("writing to a peer that is gone raises no SIGPIPE", no_sigpipe);
    test("every descriptor is closed on exec, and none is left over", close_on_exec);
    return EXIT_SUCCESS;
}
