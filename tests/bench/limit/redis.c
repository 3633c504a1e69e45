/* redis.c -- the least that deleting keys by a pattern can cost: hiredis, blocking, and nothing else.
 *
 *     redis PORT PATTERN COUNT            SCAN in pages of COUNT, one UNLINK a page, the next SCAN sent ahead of it
 *     redis PORT PATTERN COUNT again      and then counts what matches now, because keys may have come meanwhile
 *
 * Prints how many were deleted, and "seconds: S" without the connecting. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CURSOR = 32 };

static redisContext *conn;

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static redisReply *answer(void) {
    void *reply = NULL;
    if (redisGetReply(conn, &reply) != REDIS_OK) fail(conn->errstr);
    if (((redisReply *)reply)->type == REDIS_REPLY_ERROR) fail(((redisReply *)reply)->str);
    return reply;
}

static void unlink_page(const redisReply *keys) {
    const char **words = malloc((keys->elements + 1) * sizeof *words);
    size_t *lens = malloc((keys->elements + 1) * sizeof *lens);
    words[0] = "UNLINK", lens[0] = 6;
    for (size_t i = 0; i < keys->elements; i++) words[i + 1] = keys->element[i]->str, lens[i + 1] = keys->element[i]->len;
    redisAppendCommandArgv(conn, (int)keys->elements + 1, words, lens);
    free(words);
    free(lens);
}

/* How many were deleted, or match. */
static long sweep(const char *pattern, const char *count, int removes) {
    char cursor[CURSOR] = "0";
    long found = 0;
    redisAppendCommand(conn, "SCAN 0 MATCH %s COUNT %s", pattern, count);
    redisReply *page = answer();
    do {
        size_t keys = page->element[1]->elements;
        snprintf(cursor, sizeof cursor, "%s", page->element[0]->str);
        if (strcmp(cursor, "0") != 0) redisAppendCommand(conn, "SCAN %s MATCH %s COUNT %s", cursor, pattern, count);
        if (keys && removes) unlink_page(page->element[1]);
        if (!removes) found += (long)keys;
        freeReplyObject(page);
        page = strcmp(cursor, "0") != 0 ? answer() : NULL;
        if (!keys || !removes) continue;
        redisReply *gone = answer();
        found += (long)gone->integer;
        freeReplyObject(gone);
    } while (page);
    return found;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc < 4) return 64;
    conn = redisConnect("127.0.0.1", atoi(argv[1]));
    if (!conn || conn->err) fail("connect");
    double begun = now();
    long deleted = sweep(argv[2], argv[3], 1);
    if (argc > 4 && sweep(argv[2], argv[3], 0) != 0) fail("keys came");
    printf("deleted: %ld\nseconds: %.6f\n", deleted, now() - begun);
    redisFree(conn);
    return 0;
}
