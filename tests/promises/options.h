/* The options of the engine as the actor's lines spell them: KEY=VALUE. */
#include "actor.h"

#define NUMBER(name) \
    if (strcmp(key, #name) == 0) return wsx_options_set_##name(options, number)
#define SWITCH(name) \
    if (strcmp(key, #name) == 0) return wsx_options_set_##name(options, is_on)

static int32_t set_number(wsx_options *options, const char *key, const char *value)
{
    unsigned number = (unsigned)strtoul(value, NULL, 10);
    NUMBER(max_message);
    NUMBER(max_fragments);
    NUMBER(max_head);
    NUMBER(max_headers);
    NUMBER(handshake_timeout);
    NUMBER(ping_interval);
    NUMBER(pong_timeout);
    NUMBER(close_timeout);
    NUMBER(progress_timeout);
    NUMBER(backlog_limit);
    NUMBER(max_topics);
    NUMBER(max_topic_name);
    NUMBER(max_redirects);
    NUMBER(connect_timeout);
    NUMBER(keep_alive_idle);
    NUMBER(keep_alive_interval);
    NUMBER(keep_alive_count);
    NUMBER(max_connections);
    NUMBER(max_connections_per_address);
    NUMBER(listen_backlog);
    NUMBER(max_commands);
    NUMBER(max_command_bytes);
    NUMBER(receive_buffer);
    NUMBER(reconnect_base_delay);
    NUMBER(reconnect_max_delay);
    NUMBER(reconnect_reset_after);
    NUMBER(reconnect_max_attempts);
    NUMBER(reconnect_offline_limit);
    NUMBER(compression_level);
    NUMBER(compression_threshold);
    NUMBER(compression_server_max_window_bits);
    NUMBER(compression_client_max_window_bits);
    if (strcmp(key, "reconnect") == 0) return WSX_OK;
    int32_t is_on = value[0] == '1';
    SWITCH(deliver_fragments);
    SWITCH(no_delay);
    SWITCH(reuse_port);
    SWITCH(measure_callbacks);
    SWITCH(proxy_from_environment);
    SWITCH(compression);
    SWITCH(compression_server_no_context_takeover);
    SWITCH(compression_client_no_context_takeover);
    SWITCH(tls_danger_accept_invalid_certificates);
    if (strcmp(key, "backlog_policy") == 0)
        return wsx_options_set_backlog_policy(options, value_of(policies, value));
    if (strcmp(key, "origins") == 0) return wsx_options_set_origins(options, value_of(origins, value));
    if (strcmp(key, "tls_client_auth") == 0)
        return wsx_options_set_tls_client_auth(options, value_of(client_auths, value));
    abort();
}

typedef struct {
    const char *key;
    int32_t (*set)(wsx_options *, const char *);
} Text;

typedef struct {
    const char *key;
    int32_t (*add)(wsx_options *, const char *, const char *);
} Pair;

static const Text texts[] = {{"subprotocol", wsx_options_add_subprotocol}, {"origin", wsx_options_add_origin},
    {"path", wsx_options_set_path}, {"proxy", wsx_options_set_proxy}, {"tls_ca", wsx_options_set_tls_ca}, {"tls_alpn", wsx_options_add_tls_alpn},
    {"tls_server_name", wsx_options_set_tls_server_name}};
static const Pair pairs[] = {{"header", wsx_options_add_header}, {"tls_certificate", wsx_options_add_tls_certificate}};

static int32_t set_option(wsx_options *options, const char *key, char *value)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(key, texts[i].key) != 0) continue;
        Bytes content = unhex(value);
        int32_t status = texts[i].set(options, text(content));
        free(content.bytes);
        return status;
    }
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (strcmp(key, pairs[i].key) != 0) continue;
        char *colon = strchr(value, ':');
        *colon = 0;
        Bytes first = unhex(value), second = unhex(colon + 1);
        int32_t status = pairs[i].add(options, text(first), text(second));
        free(first.bytes);
        free(second.bytes);
        return status;
    }
    return set_number(options, key, value);
}
