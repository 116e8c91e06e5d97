/* How the actor's lines spell values: constants as words, payloads and texts as hex. */
#ifndef ACTOR_H
#define ACTOR_H

#include <libwsx.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t *bytes; /* with a NUL behind it */
    size_t length;
} Bytes;

typedef struct {
    const char *word;
    int32_t value;
} Word;

static const Word errors[] = {
    {"invalid", WSX_ERR_INVALID}, {"closed", WSX_ERR_CLOSED}, {"not_open", WSX_ERR_NOT_OPEN},
    {"wrong_kind", WSX_ERR_WRONG_KIND}, {"backlog_full", WSX_ERR_BACKLOG_FULL}, {"full", WSX_ERR_FULL},
    {"wrong_thread", WSX_ERR_WRONG_THREAD}, {"reentrant", WSX_ERR_REENTRANT}, {"loop_gone", WSX_ERR_LOOP_GONE},
    {"unsupported", WSX_ERR_UNSUPPORTED}, {"message_in_progress", WSX_ERR_MESSAGE_IN_PROGRESS}, {"system", WSX_ERR_SYSTEM}, {"panic", WSX_ERR_PANIC}, {NULL, 0}};
static const Word stages[] = {{"resolve", WSX_STAGE_RESOLVE}, {"connect", WSX_STAGE_CONNECT}, {"tls", WSX_STAGE_TLS},
    {"http", WSX_STAGE_HTTP}, {"websocket", WSX_STAGE_WEBSOCKET}, {"proxy", WSX_STAGE_PROXY}, {NULL, 0}};
static const Word kinds[] = {{"protocol", WSX_FAILURE_PROTOCOL}, {"refused", WSX_FAILURE_REFUSED},
    {"limit", WSX_FAILURE_LIMIT}, {"timeout", WSX_FAILURE_TIMEOUT}, {"transport", WSX_FAILURE_TRANSPORT},
    {"shutdown", WSX_FAILURE_SHUTDOWN}, {"callback", WSX_FAILURE_CALLBACK}, {NULL, 0}};
static const Word causes[] = {{"full", WSX_REFUSED_FULL}, {"bad_request", WSX_REFUSED_BAD_REQUEST},
    {"method", WSX_REFUSED_METHOD}, {"upgrade", WSX_REFUSED_UPGRADE}, {"head_too_big", WSX_REFUSED_HEAD_TOO_BIG},
    {"path", WSX_REFUSED_PATH}, {"origin", WSX_REFUSED_ORIGIN}, {"hook", WSX_REFUSED_HOOK},
    {"hook_failed", WSX_REFUSED_HOOK_FAILED}, {"tls", WSX_REFUSED_TLS}, {"timeout", WSX_REFUSED_TIMEOUT},
    {"left", WSX_REFUSED_LEFT}, {"shutdown", WSX_REFUSED_SHUTDOWN}, {"address", WSX_REFUSED_ADDRESS}, {NULL, 0}};
static const Word give_ups[] = {{"finished", WSX_GIVE_UP_FINISHED}, {"close_code", WSX_GIVE_UP_CLOSE_CODE},
    {"http_status", WSX_GIVE_UP_HTTP_STATUS}, {"socks_refusal", WSX_GIVE_UP_SOCKS_REFUSAL},
    {"attempts", WSX_GIVE_UP_ATTEMPTS}, {"closed", WSX_GIVE_UP_CLOSED}, {"shutdown", WSX_GIVE_UP_SHUTDOWN}, {NULL, 0}};
static const Word levels[] = {{"off", WSX_LOG_OFF}, {"error", WSX_LOG_ERROR}, {"warning", WSX_LOG_WARNING},
    {"information", WSX_LOG_INFORMATION}, {"debug", WSX_LOG_DEBUG}, {NULL, 0}};
static const Word topics[] = {{"listener", WSX_TOPIC_LISTENER}, {"request", WSX_TOPIC_REQUEST}, {"tls", WSX_TOPIC_TLS},
    {"connection", WSX_TOPIC_CONNECTION}, {"backlog", WSX_TOPIC_BACKLOG}, {"callback", WSX_TOPIC_CALLBACK}, {NULL, 0}};
static const Word states[] = {{"connecting", WSX_STATE_CONNECTING}, {"open", WSX_STATE_OPEN},
    {"closing", WSX_STATE_CLOSING}, {"closed", WSX_STATE_CLOSED}, {NULL, 0}};
static const Word policies[] = {{"close", WSX_BACKLOG_CLOSE}, {"drop", WSX_BACKLOG_DROP},
    {"refuse", WSX_BACKLOG_REFUSE}, {"pause", WSX_BACKLOG_PAUSE}, {NULL, 0}};
static const Word client_auths[] = {{"none", WSX_CLIENT_AUTH_NONE}, {"optional", WSX_CLIENT_AUTH_OPTIONAL},
    {"required", WSX_CLIENT_AUTH_REQUIRED}, {NULL, 0}};
static const Word origins[] = {{"same_host", WSX_ORIGINS_SAME_HOST}, {"any", WSX_ORIGINS_ANY}, {NULL, 0}};

static const char *word_of(const Word *words, int32_t value)
{
    while (words->word && words->value != value) words++;
    return words->word ? words->word : "unknown";
}

static int32_t value_of(const Word *words, const char *word)
{
    while (words->word && strcmp(words->word, word) != 0) words++;
    return words->word ? words->value : -1;
}

/* --- Values on lines: a payload or text is hex, `.` where it is empty, `-` where there is none */

static void say_hex(const char *key, const void *bytes, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *at = bytes;
    printf("%s", key);
    if (!bytes || length == 0) putchar(bytes ? '.' : '-');
    for (size_t i = 0; i < length; i++) {
        putchar(digits[at[i] >> 4]);
        putchar(digits[at[i] & 15]);
    }
}

static void say_text(const char *key, const char *text)
{
    say_hex(key, text, text ? strlen(text) : 0);
}

static unsigned digit(char hex)
{
    return (unsigned)(hex <= '9' ? hex - '0' : hex - 'a' + 10);
}

static Bytes unhex(const char *hex)
{
    Bytes value = {NULL, 0};
    if (strcmp(hex, "-") == 0) return value;
    if (strcmp(hex, ".") == 0) hex = "";
    value.length = strlen(hex) / 2;
    value.bytes = malloc(value.length + 1);
    if (!value.bytes) abort();
    for (size_t i = 0; i < value.length; i++)
        value.bytes[i] = (uint8_t)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
    value.bytes[value.length] = 0;
    return value;
}

static const char *text(Bytes value)
{
    return (const char *)value.bytes;
}

#endif
