/* Statistics and the log: structs that grow, text that is cut, functions that are dropped once. */
#include "test.h"

static void counting_a_conversation(void)
{
    struct pair pair;
    open_pair(&pair, NULL, NULL);
    check(wsx_send_text(pair.at_client, "hello") == WSX_OK);
    until(pair.loop, pair.server.messages == 1);
    wsx_statistics counted = {.size = sizeof counted};
    check(wsx_loop_statistics(pair.loop, 0, &counted) == WSX_OK);
    check(counted.size == sizeof counted && counted.accepted == 1 && counted.connects == 1 && counted.opened == 2);
    check(counted.connections == 2 && counted.messages_sent == 1 && counted.messages_received == 1 && counted.turns > 0);
    check(wsx_loop_thread_statistics(pair.loop, 0, &counted) == WSX_OK && counted.accepted == 1);
    check(wsx_loop_thread_statistics(pair.loop, 1, &counted) == WSX_ERR_INVALID);
    close_pair(&pair);
}

static void older_and_newer_programs(void)
{
    wsx_loop *loop = new_loop();
    struct {
        wsx_statistics known;
        uint64_t beyond;
    } newer;
    memset(&newer, 0xff, sizeof newer);
    newer.known.size = sizeof newer;
    check(wsx_loop_statistics(loop, 0, &newer.known) == WSX_OK);
    check(newer.known.size == sizeof newer && newer.known.turns == 0 && newer.beyond == UINT64_MAX);
    wsx_statistics older;
    memset(&older, 0xff, sizeof older);
    older.size = offsetof(wsx_statistics, accepted);
    check(wsx_loop_statistics(loop, 0, &older) == WSX_OK);
    check(older.connections == 0 && older.buffered_bytes == 0 && older.accepted == UINT64_MAX);
    older.size = 0;
    check(wsx_loop_statistics(loop, 0, &older) == WSX_ERR_INVALID);
    check(wsx_loop_statistics(loop, 0, NULL) == WSX_ERR_INVALID);
    older.size = sizeof older;
    check(wsx_loop_statistics(NULL, 0, &older) == WSX_ERR_INVALID);
    check(wsx_loop_statistics(loop, 12345, &older) == WSX_ERR_CLOSED);
    wsx_loop_free(loop);
}

static void metrics_are_text(void)
{
    static char all[65536], cut[20];
    wsx_loop *loop = new_loop();
    size_t length = 0, same = 0;
    check(wsx_loop_metrics(loop, all, sizeof all, &length) == WSX_OK);
    check(length == strlen(all) && strstr(all, "# TYPE wsx_accepted_total counter\nwsx_accepted_total 0\n") != NULL);
    check(wsx_loop_metrics(loop, cut, sizeof cut, &same) == WSX_OK);
    check(same == length && strlen(cut) == sizeof cut - 1 && strncmp(cut, all, sizeof cut - 1) == 0);
    check(wsx_loop_metrics(loop, NULL, 0, &same) == WSX_OK && same == length);
    wsx_loop_free(loop);
}

static char last_record[200];
static int records;

static void keep_record(const wsx_log_record *record, void *user)
{
    (void)user;
    check(record->size >= sizeof *record && strlen(record->message) == record->message_length);
    snprintf(last_record, sizeof last_record, "%d %d %d %s", record->level, record->topic, record->listener != 0,
             record->message);
    records++;
}

static void a_log_is_told_and_dropped_once(void)
{
    struct ear ear = {0}, other = {0};
    wsx_loop *loop = new_loop();
    check(wsx_loop_set_log(loop, WSX_LOG_INFORMATION, keep_record, &ear, hear_drop) == WSX_OK);
    wsx_callbacks callbacks = {.size = sizeof callbacks};
    check(wsx_listen(loop, "127.0.0.1:0", NULL, &callbacks, NULL, NULL) == WSX_OK);
    until(loop, records == 1);
    check(strncmp(last_record, "3 1 1 listens on 127.0.0.1:", 27) == 0);
    check(wsx_loop_set_log(loop, WSX_LOG_DEBUG, keep_record, &other, hear_drop) == WSX_OK);
    until(loop, ear.drops == 1);
    check(wsx_loop_set_log(loop, 9, keep_record, &ear, hear_drop) == WSX_ERR_INVALID && ear.drops == 2);
    check(wsx_loop_set_log(loop, WSX_LOG_DEBUG, NULL, &ear, hear_drop) == WSX_ERR_INVALID && ear.drops == 3);
    check(wsx_loop_set_log(NULL, WSX_LOG_DEBUG, keep_record, &ear, hear_drop) == WSX_ERR_INVALID && ear.drops == 4);
    check(other.drops == 0);
    check(wsx_loop_set_log(loop, WSX_LOG_OFF, NULL, NULL, NULL) == WSX_OK);
    until(loop, other.drops == 1);
    check(wsx_loop_set_log(loop, WSX_LOG_DEBUG, keep_record, &ear, hear_drop) == WSX_OK);
    wsx_loop_free(loop);
    check(ear.drops == 5);
}

int main(void)
{
    printf("Statistics and the log\n");
    test("a conversation is counted, of the loop and of its thread", counting_a_conversation);
    test("a program may know less of the figures than the library, or more", older_and_newer_programs);
    test("metrics are text, cut to what fits", metrics_are_text);
    test("a log is told what happens, and its user pointer is dropped once", a_log_is_told_and_dropped_once);
    return EXIT_SUCCESS;
}
