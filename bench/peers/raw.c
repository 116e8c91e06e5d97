/*
 * The limit: a plain TCP loop that knows no protocol. Whatever a WebSocket server does costs something on top of this.
 *
 *     raw [--broadcast | --handshake]
 *
 * What comes goes back; with --broadcast to everybody else. With --handshake the HTTP head that comes first is answered
 * with a constant 101, and what follows is taken for the Close: it is echoed, and the connection ended.
 *
 * As cheap as such a loop can be made: registered once, edge-triggered; one recv and one send for each readiness; first
 * what is readable is read into one buffer, then it is sent (interleaved, it costs some percent more). Only what the
 * kernel does not take is kept, and then nothing more is read from that peer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    RECEIVE = 512 * 1024,
    STAGED = 64 * 1024,        /* sent early beyond this, while it is still in the cache */
    EVENTS = 1024,
    TURN = 8192,
    BACKLOG_LIMIT = 1 << 20,   /* of a peer that does not read what others broadcast */
};

struct peer {
    int fd;
    bool readable, ended, open, closing;
    unsigned head;             /* how much of "\r\n\r\n" was seen */
    char *rest;                /* what the kernel did not take */
    size_t rest_start, rest_length;
    struct peer *next, *previous, *next_dead;
};

static struct peer peers = {.next = &peers, .previous = &peers}, *dead;
static char staged[STAGED + RECEIVE];
static struct { struct peer *from; char *data; size_t length; } turn[TURN];
static size_t staged_length, turn_length;
static bool broadcasting, handshaking;

static void check(bool good, const char *what)
{
    if (good) return;
    perror(what);
    exit(EXIT_FAILURE);
}

/* Freed at the end of the turn: events and staged bytes may still name it. */
static void end(struct peer *peer)
{
    if (peer->fd < 0) return;
    close(peer->fd);
    peer->fd = -1;
    peer->previous->next = peer->next;
    peer->next->previous = peer->previous;
    peer->next_dead = dead;
    dead = peer;
}

static size_t write_some(struct peer *peer, const char *data, size_t length)
{
    ssize_t written = send(peer->fd, data, length, MSG_NOSIGNAL);
    if (written >= 0) return (size_t)written;
    if (errno != EAGAIN) end(peer);
    return 0;
}

static void put(struct peer *peer, const char *data, size_t length)
{
    if (peer->fd < 0) return;
    size_t written = peer->rest_length ? 0 : write_some(peer, data, length);
    if (written == length || peer->fd < 0) return;
    size_t left = length - written;
    if (broadcasting && peer->rest_length + left > BACKLOG_LIMIT) { end(peer); return; }
    peer->rest = realloc(peer->rest, peer->rest_start + peer->rest_length + left);
    check(peer->rest, "raw: memory");
    memcpy(peer->rest + peer->rest_start + peer->rest_length, data + written, left);
    peer->rest_length += left;
}

static void send_staged(void)
{
    for (size_t i = 0; i < turn_length; i++) {
        struct peer *from = turn[i].from;
        if (!broadcasting) {
            put(from, turn[i].data, turn[i].length);
            if (from->closing) end(from);
        } else for (struct peer *peer = peers.next, *next; peer != &peers; peer = next) {
            next = peer->next;
            if (peer != from) put(peer, turn[i].data, turn[i].length);
        }
    }
    staged_length = turn_length = 0;
}

/* Takes the HTTP head off the first bytes; the answer goes out with what follows it, in order. */
static size_t answer_head(struct peer *peer, const char *data, size_t length)
{
    static const char end_of_head[] = "\r\n\r\n";
    /* As long as the right one, which would take a hash; of this server the load generator checks the status alone. */
    static char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    for (size_t i = 0; i < length; i++) {
        if (data[i] == end_of_head[peer->head]) peer->head++;
        else peer->head = data[i] == '\r';
        if (peer->head < 4) continue;
        peer->open = true;
        turn[turn_length].from = peer;
        turn[turn_length].data = answer;
        turn[turn_length++].length = sizeof answer - 1;
        return i + 1;
    }
    return length;
}

static void read_from(struct peer *peer)
{
    while (peer->fd >= 0) {
        if (staged_length > STAGED || turn_length + 2 > TURN) send_staged();
        peer->readable = peer->rest_length > 0;
        if (peer->readable) return;
        char *data = staged + staged_length;
        ssize_t got = recv(peer->fd, data, RECEIVE, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) {
            send_staged();
            end(peer);
            return;
        }
        size_t length = (size_t)got, head = peer->open ? 0 : answer_head(peer, data, length);
        staged_length += length;
        if (length > head) {
            turn[turn_length].from = peer;
            turn[turn_length].data = data + head;
            turn[turn_length++].length = length - head;
            peer->closing = handshaking;
        }
        /* A short read has emptied the socket, unless its end is there as well: data and FIN come as one edge. */
        if (length < RECEIVE && !peer->ended) return;
        if (length == RECEIVE) send_staged();
    }
}

static void write_rest(struct peer *peer)
{
    size_t written = write_some(peer, peer->rest + peer->rest_start, peer->rest_length);
    peer->rest_start += written;
    peer->rest_length -= written;
    if (peer->rest_length) return;
    free(peer->rest);
    peer->rest = NULL;
    peer->rest_start = 0;
    if (peer->readable) read_from(peer);
}

static void accept_all(int listener, int epoll)
{
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct peer *peer = calloc(1, sizeof *peer);
        check(peer, "raw: memory");
        peer->fd = fd;
        peer->open = !handshaking;
        peer->next = &peers;
        peer->previous = peers.previous;
        peers.previous->next = peer;
        peers.previous = peer;
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = peer};
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "raw: epoll_ctl");
    }
}

int main(int argc, char **argv)
{
    broadcasting = argc > 1 && strcmp(argv[1], "--broadcast") == 0;
    handshaking = argc > 1 && strcmp(argv[1], "--handshake") == 0;

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);   /* inherited by what is accepted */
    check(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1024) == 0, "raw: listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}, events[EVENTS];
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) == 0, "raw: epoll_ctl");
    printf("listening on 127.0.0.1:%u\n", ntohs(address.sin_port));
    fflush(stdout);

    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (!peer) { accept_all(listener, epoll); continue; }
            if (peer->fd < 0) continue;
            peer->ended |= (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
            if (peer->rest_length && (events[i].events & EPOLLOUT)) write_rest(peer);
            if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) read_from(peer);
        }
        send_staged();
        while (dead) {
            struct peer *gone = dead;
            dead = gone->next_dead;
            free(gone->rest);
            free(gone);
        }
    }
}
