/*
 * libwebsockets, as its documentation asks: messages are queued in the callback for what was received, and written in
 * the one for writable, one each time. A broadcast message is shared by the queues.
 *
 *     libwebsockets [--broadcast] [--compression [--context-takeover]] [--tls-cert FILE --tls-key FILE]
 *
 * Whether context is taken over is the client's choice: the library agrees to what is offered.
 */
#include <libwebsockets.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct message {
    size_t references, length, room;
    enum lws_write_protocol kind;
    unsigned char bytes[];          /* LWS_PRE of them for the frame's header */
};

struct entry { struct message *message; struct entry *next; };

struct session {
    struct lws *socket;
    struct message *incoming;       /* of which not all fragments have come */
    struct entry *first, **last;
    struct session *next, **link;
};

static struct session *sessions;
static bool broadcasting, compressing;

static void release(struct message *message)
{
    if (message && --message->references == 0) free(message);
}

static void enqueue(struct session *session, struct message *message)
{
    struct entry *entry = malloc(sizeof *entry);
    message->references++;
    *entry = (struct entry){message, NULL};
    *session->last = entry;
    session->last = &entry->next;
    lws_callback_on_writable(session->socket);
}

static void dequeue(struct session *session)
{
    struct entry *entry = session->first;
    session->first = entry->next;
    if (!session->first) session->last = &session->first;
    release(entry->message);
    free(entry);
}

static void received(struct session *session, const void *data, size_t length)
{
    struct message *message = session->incoming;
    size_t before = message ? message->length : 0;
    /* At once as large as what is known to come, so that a large message is not moved with each piece of it. How much
       will be inflated is not known: then it doubles. */
    size_t needed = before + length + lws_remaining_packet_payload(session->socket);
    if (!message || needed > message->room) {
        size_t room = message && needed < 2 * message->room ? 2 * message->room : needed;
        message = realloc(message, sizeof *message + LWS_PRE + room);
        if (!message) exit(EXIT_FAILURE);
        message->room = room;
    }
    if (!session->incoming)
        message->kind = lws_frame_is_binary(session->socket) ? LWS_WRITE_BINARY : LWS_WRITE_TEXT;
    memcpy(message->bytes + LWS_PRE + before, data, length);
    message->length = before + length;
    session->incoming = message;
    if (lws_remaining_packet_payload(session->socket) || !lws_is_final_fragment(session->socket)) return;

    session->incoming = NULL;
    message->references = 1;
    if (!broadcasting) enqueue(session, message);
    else for (struct session *other = sessions; other; other = other->next)
        if (other != session) enqueue(other, message);
    release(message);
}

static int callback(struct lws *socket, enum lws_callback_reasons reason, void *user, void *data, size_t length)
{
    struct session *session = user;
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
        *session = (struct session){.socket = socket, .last = &session->first, .next = sessions, .link = &sessions};
        if (sessions) sessions->link = &session->next;
        sessions = session;
        if (compressing) {
            /* Its own default is the fastest level, and 1 KiB at a time. The buffers are to hold whole messages: it
               loses bytes of what it inflates in parts, and deflates in parts out of memory that it does not own. */
            lws_set_extension_option(socket, "permessage-deflate", "compression_level", "6");
            lws_set_extension_option(socket, "permessage-deflate", "rx_buf_size", "17");
            lws_set_extension_option(socket, "permessage-deflate", "tx_buf_size", "17");
        }
        break;
    case LWS_CALLBACK_RECEIVE:
        received(session, data, length);
        break;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        if (session->first) {
            struct message *message = session->first->message;
            if (lws_write(socket, message->bytes + LWS_PRE, message->length, message->kind) < 0) return -1;
            dequeue(session);
            if (session->first) lws_callback_on_writable(socket);
        }
        break;
    case LWS_CALLBACK_CLOSED:
        while (session->first) dequeue(session);
        free(session->incoming);
        *session->link = session->next;
        if (session->next) session->next->link = session->link;
        break;
    default:
        break;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct lws_protocols protocols[] = {
        {.name = "", .callback = callback, .per_session_data_size = sizeof(struct session), .rx_buffer_size = 65536},
        {0},
    };
    static const struct lws_extension extensions[] = {
        {"permessage-deflate", lws_extension_callback_pm_deflate, "permessage-deflate"},
        {0},
    };
    struct lws_context_creation_info info = {
        .port = 0, .iface = "127.0.0.1", .protocols = protocols, .options = LWS_SERVER_OPTION_VALIDATE_UTF8,
        .pt_serv_buf_size = 65536,
    };
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--broadcast") == 0) broadcasting = true;
        else if (strcmp(argv[i], "--compression") == 0) compressing = true;
        else if (strcmp(argv[i], "--context-takeover") == 0) continue;
        else if (strcmp(argv[i], "--tls-cert") == 0 && argv[i + 1]) info.ssl_cert_filepath = argv[++i];
        else if (strcmp(argv[i], "--tls-key") == 0 && argv[i + 1]) info.ssl_private_key_filepath = argv[++i];
        else return EXIT_FAILURE;
    }
    if (compressing) {
        info.extensions = extensions;
        protocols[0].rx_buffer_size = 1 << 17;      /* rx_buf_size ends there */
    }
    if (info.ssl_cert_filepath) info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
    lws_set_log_level(0, NULL);
    struct lws_context *context = lws_create_context(&info);
    if (!context) return EXIT_FAILURE;
    printf("listening on 127.0.0.1:%d\n", lws_get_vhost_listen_port(lws_get_vhost_by_name(context, "default")));
    fflush(stdout);
    while (lws_service(context, 0) >= 0) { }
    return EXIT_SUCCESS;
}
