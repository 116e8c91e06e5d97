/* TLS: certificates from files and from memory, whom both sides trust, what a request tells, a reload. */
#include "test.h"

/* The tests' certificates (tests/certificates): who is shown, by which key, and who has signed it. */
#define CERTIFICATES "build/certificates/"
static const struct certificate {
    const char *chain, *key, *issuer;
} one = {CERTIFICATES "server.pem", CERTIFICATES "server-key.pem", CERTIFICATES "ca.pem"},
  other = {CERTIFICATES "foreign.pem", CERTIFICATES "foreign-key.pem", CERTIFICATES "foreign-ca.pem"},
  ann = {CERTIFICATES "client.pem", CERTIFICATES "client-key.pem", CERTIFICATES "ca.pem"};

/* The contents of a file, to be freed. */
static char *contents(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    char *text = malloc(65536);
    check(file != NULL && text != NULL);
    *length = fread(text, 1, 65536, file);
    check(*length > 0 && fclose(file) == 0);
    return text;
}

/* What the last request told. */
static struct {
    bool is_secure;
    char server_name[64];
    uint8_t certificate[4096];
    size_t length;
} told;

static void note_request(const wsx_request *request, wsx_response *response, void *user)
{
    (void)response;
    (void)user;
    told.is_secure = wsx_request_is_secure(request);
    const char *name = wsx_request_server_name(request);
    snprintf(told.server_name, sizeof told.server_name, "%s", name ? name : "");
    const uint8_t *certificate = wsx_request_peer_certificate(request, 0, &told.length);
    check((certificate == NULL) == (told.length == 0) && told.length <= sizeof told.certificate);
    if (certificate) memcpy(told.certificate, certificate, told.length);
    size_t behind = 42;
    check(wsx_request_peer_certificate(request, 1, &behind) == NULL && behind == 0);
    check(wsx_request_peer_certificate(request, 0, NULL) == NULL);
    check(wsx_request_peer_certificate(NULL, 0, &behind) == NULL);
}

/* A server that speaks TLS. */
struct server {
    wsx_loop *loop;
    wsx_listener listener;
    wsx_options *options;
    struct ear ear;
};

static void serve(struct server *server, wsx_options *options)
{
    wsx_callbacks callbacks = hearing();
    callbacks.on_request = note_request;
    memset(server, 0, sizeof *server);
    memset(&told, 0, sizeof told);
    server->loop = new_loop();
    server->options = options;
    server->listener = listen_here(server->loop, options, &callbacks, &server->ear);
}

static wsx_options *with_certificate(const struct certificate *certificate)
{
    wsx_options *options = wsx_options_new();
    check(wsx_options_add_tls_certificate(options, certificate->chain, certificate->key) == WSX_OK);
    return options;
}

static wsx_options *trusting(const struct certificate *issued)
{
    wsx_options *options = wsx_options_new();
    check(wsx_options_set_tls_ca(options, issued->issuer) == WSX_OK);
    return options;
}

/* Connects, frees the options, and waits for what becomes of it. */
static wsx_connection visit(struct server *server, const char *host, wsx_options *options, struct ear *ear)
{
    char url[64];
    wsx_connection connection = 0;
    wsx_callbacks callbacks = hearing();
    memset(ear, 0, sizeof *ear);
    snprintf(url, sizeof url, "wss://%s:%d/", host, (int)wsx_listener_port(server->listener));
    check(wsx_connect(server->loop, url, options, &callbacks, ear, &connection) == WSX_OK);
    wsx_options_free(options);
    until(server->loop, ear->opens + ear->closes > 0);
    return connection;
}

static void end(struct server *server)
{
    check(wsx_loop_free(server->loop) == WSX_OK);
    wsx_options_free(server->options);
    free(server->ear.payload);
}

static void messages(void)
{
    struct server server;
    struct ear client;
    serve(&server, with_certificate(&one));
    wsx_connection connection = visit(&server, "localhost", trusting(&one), &client);
    check(client.opens == 1 && told.is_secure && told.length == 0);
    check(strcmp(told.server_name, "localhost") == 0);
    check(wsx_send_text(connection, "over TLS") == WSX_OK);
    until(server.loop, server.ear.messages == 1);
    check(is_payload(&server.ear, "over TLS"));
    check(wsx_close(connection, 1000, "bye") == WSX_OK);
    until(server.loop, client.closes == 1 && server.ear.closes == 1);
    check(client.was_clean && server.ear.was_clean);
    end(&server);
}

static void from_memory(void)
{
    struct server server;
    struct ear client;
    size_t chain_length, key_length, issuer_length;
    char *chain = contents(one.chain, &chain_length), *key = contents(one.key, &key_length);
    char *issuer = contents(one.issuer, &issuer_length);
    wsx_options *options = wsx_options_new(), *trust = wsx_options_new();
    check(wsx_options_add_tls_certificate_pem(options, chain, chain_length, key, key_length) == WSX_OK);
    check(wsx_options_set_tls_ca_pem(trust, issuer, issuer_length) == WSX_OK);
    memset(chain, 0, chain_length);
    memset(key, 0, key_length);
    memset(issuer, 0, issuer_length);
    free(chain);
    free(key);
    free(issuer);
    serve(&server, options);
    visit(&server, "127.0.0.1", trust, &client);
    /* An address is no name to ask for. */
    check(client.opens == 1 && told.is_secure && told.server_name[0] == '\0');
    end(&server);
}

static void refused_with_the_reason(void)
{
    struct server server;
    struct ear client;
    serve(&server, with_certificate(&one));
    visit(&server, "localhost", trusting(&other), &client);
    check(client.errors == 1 && client.stage == WSX_STAGE_TLS && client.failure == WSX_FAILURE_REFUSED);
    check(strstr(client.text, "issuer"));
    wsx_options *renamed = trusting(&one);
    check(wsx_options_set_tls_server_name(renamed, "example.org") == WSX_OK);
    visit(&server, "localhost", renamed, &client);
    check(client.errors == 1 && client.stage == WSX_STAGE_TLS && strstr(client.text, "example.org"));
    wsx_options *blind = wsx_options_new();
    check(wsx_options_set_tls_danger_accept_invalid_certificates(blind, 1) == WSX_OK);
    visit(&server, "localhost", blind, &client);
    check(client.opens == 1);
    end(&server);
}

static void certificates_of_clients(void)
{
    struct server server;
    struct ear client;
    wsx_options *options = with_certificate(&one);
    check(wsx_options_set_tls_ca(options, ann.issuer) == WSX_OK);
    check(wsx_options_set_tls_client_auth(options, WSX_CLIENT_AUTH_REQUIRED) == WSX_OK);
    serve(&server, options);
    wsx_options *known = trusting(&one);
    check(wsx_options_add_tls_certificate(known, ann.chain, ann.key) == WSX_OK);
    visit(&server, "localhost", known, &client);
    check(client.opens == 1 && told.length > 0 && told.certificate[0] == 0x30);
    visit(&server, "localhost", trusting(&one), &client);
    check(client.errors == 1 && client.stage == WSX_STAGE_TLS && strstr(client.text, "certificate_required"));
    end(&server);
}

static void reloaded(void)
{
    struct server server;
    struct ear old, renewed, refused;
    serve(&server, with_certificate(&one));
    wsx_connection connection = visit(&server, "localhost", trusting(&one), &old);
    check(old.opens == 1);
    wsx_options *next = with_certificate(&other), *bad = wsx_options_new();
    check(wsx_options_add_tls_certificate(bad, other.chain, one.key) == WSX_OK);
    check(wsx_listener_reload_tls(server.listener, bad) == WSX_ERR_INVALID);
    check(strstr(wsx_last_error(), "does not belong"));
    check(wsx_listener_reload_tls(server.listener, NULL) == WSX_ERR_INVALID);
    check(wsx_listener_reload_tls(server.listener + 1, next) == WSX_ERR_CLOSED);
    check(wsx_listener_reload_tls(server.listener, next) == WSX_OK);
    wsx_options_free(next);
    wsx_options_free(bad);
    visit(&server, "localhost", trusting(&other), &renewed);
    check(renewed.opens == 1);
    visit(&server, "localhost", trusting(&one), &refused);
    check(refused.opens == 0 && refused.errors == 1);
    check(wsx_send_text(connection, "still here") == WSX_OK);
    until(server.loop, server.ear.messages == 1);
    end(&server);
}

static void wrong_choices(void)
{
    struct ear ear = {0};
    wsx_loop *loop = new_loop();
    wsx_callbacks callbacks = hearing();
    const struct {
        const char *chain, *key, *says;
        int32_t status;
    } cases[] = {
        {"/does/not/exist.pem", one.key, "cannot read the file /does/not/exist.pem", WSX_ERR_SYSTEM},
        {one.key, one.key, "holds no certificate in PEM", WSX_ERR_INVALID},
        {one.chain, one.chain, "holds no private key in PEM", WSX_ERR_INVALID},
        {one.chain, other.key, "does not belong to the certificate", WSX_ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        wsx_options *options = wsx_options_new();
        check(wsx_options_add_tls_certificate(options, cases[i].chain, cases[i].key) == WSX_OK);
        check(wsx_listen(loop, "127.0.0.1:0", options, &callbacks, &ear, NULL) == cases[i].status);
        check(strstr(wsx_last_error(), cases[i].says));
        wsx_options_free(options);
    }
    check(ear.drops == 4);
    wsx_loop_free(loop);
}

int main(void)
{
    printf("TLS\n");
    test("messages go over TLS, and the end is clean", messages);
    test("certificates are taken from memory, and copied", from_memory);
    test("a certificate that is not trusted is refused in stage tls, with the reason", refused_with_the_reason);
    test("a server that requires certificates of clients shows them to the hook", certificates_of_clients);
    test("a reload is for new connections, and a bad one changes nothing", reloaded);
    test("wrong files are told when listening", wrong_choices);
    return EXIT_SUCCESS;
}
