/* redis_value.c -- see redis_value.h.
 *
 * An array is announced with its length before its items come: memory is taken as they come, so that an announcement costs nothing. What
 * waits in hiredis' buffer (half a bulk string) and what was already made of it are both counted against the bound. A line
 * that does not end is cut off at 64 KiB: the parser would look through all of it again with every piece. */
#include "drive/redis_value.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LINE = 64 * 1024, MOST_HEADER = 32, NODE_COST = 96, FIRST_ITEMS = 8 };

struct neap_redis_reader {
    redisReader *codec;
    size_t most, held;            /* bytes a reply may hold, and that of the one being read */
    neap_redis_value *root;       /* the one being read: ours to free, hiredis only passes it around */
    const char *reason;           /* why a value was not made */
    bool failed;
};

/* ---- values ---- */

void neap_redis_value_free(neap_redis_value *v) {
    if (!v) return;
    for (size_t i = 0; v->items && i < v->len; i++) neap_redis_value_free(v->items[i]);
    free(v->items);
    free(v);
}

bool neap_redis_is(const neap_redis_value *v, const char *text) {
    return v && (v->type == NEAP_REDIS_STATUS || v->type == NEAP_REDIS_STRING) && v->len == strlen(text) && memcmp(v->text, text, v->len) == 0;
}

const neap_redis_value *neap_redis_item(const neap_redis_value *v, size_t i) {
    return v && v->type == NEAP_REDIS_ARRAY && i < v->len ? v->items[i] : NULL;
}

const neap_redis_value *neap_redis_member(const neap_redis_value *v, const char *name) {
    for (size_t i = 0; v && v->type == NEAP_REDIS_ARRAY && i + 1 < v->len; i += 2)
        if (neap_redis_is(v->items[i], name)) return v->items[i + 1];
    return NULL;
}

static void append(neap_redis_value *array, neap_redis_value *item) {
    if (array->len == array->cap) {
        array->cap = array->cap ? array->cap * 2 : FIRST_ITEMS;
        neap_redis_value **grown = neap_alloc(array->cap * sizeof *grown);
        if (array->len) memcpy(grown, array->items, array->len * sizeof *grown);
        free(array->items);
        array->items = grown;
    }
    array->items[array->len++] = item;
}

/* ---- what hiredis calls ---- */

static neap_redis_reader *reader_of(const redisReadTask *task) {
    while (task->parent) task = task->parent;
    return task->privdata;
}

/* NULL makes hiredis give up; `reason` then says what really was wrong. */
static neap_redis_value *make(const redisReadTask *task, neap_redis_type type, size_t len) {
    neap_redis_reader *r = reader_of(task);
    int depth = 0;
    for (const redisReadTask *t = task->parent; t; t = t->parent) depth++;
    if (depth > NEAP_REDIS_DEPTH) {
        r->reason = "a reply is nested too deeply";
        return NULL;
    }
    if (len > r->most || r->held + NODE_COST + len > r->most) {
        r->reason = "a reply is larger than allowed";
        return NULL;
    }
    r->held += NODE_COST + len;
    neap_redis_value *v = neap_alloc(sizeof *v + len + 1);
    *v = (neap_redis_value){.type = type, .len = len};
    v->text[len] = '\0';
    if (task->parent) append(task->parent->obj, v);
    else r->root = v;
    return v;
}

static neap_redis_value *refuse(const redisReadTask *task) {
    reader_of(task)->reason = "a reply is not RESP2";
    return NULL;
}

static void *make_text(const redisReadTask *task, char *text, size_t len) {
    neap_redis_type type = task->type == REDIS_REPLY_ERROR ? NEAP_REDIS_ERROR : task->type == REDIS_REPLY_STATUS ? NEAP_REDIS_STATUS : NEAP_REDIS_STRING;
    if (type == NEAP_REDIS_STRING && task->type != REDIS_REPLY_STRING) return refuse(task);
    neap_redis_value *v = make(task, type, len);
    if (v) memcpy(v->text, text, len);
    return v;
}

static void *make_integer(const redisReadTask *task, long long value) {
    neap_redis_value *v = make(task, NEAP_REDIS_INTEGER, 0);
    if (v) v->integer = value;
    return v;
}

static void *make_nil(const redisReadTask *task) { return make(task, NEAP_REDIS_NIL, 0); }

static void free_nothing(void *object) { (void)object; }      /* the tree is freed from its root */

#if HIREDIS_MAJOR >= 1
static void *make_array(const redisReadTask *task, size_t count) {
    (void)count;
    return task->type == REDIS_REPLY_ARRAY ? make(task, NEAP_REDIS_ARRAY, 0) : refuse(task);
}

static void *make_double(const redisReadTask *task, double value, char *text, size_t len) {
    (void)value, (void)text, (void)len;
    return refuse(task);
}

static void *make_bool(const redisReadTask *task, int value) {
    (void)value;
    return refuse(task);
}

static redisReplyObjectFunctions functions = {.createString = make_text, .createArray = make_array, .createInteger = make_integer,
    .createDouble = make_double, .createNil = make_nil, .createBool = make_bool, .freeObject = free_nothing};
#else
static void *make_array(const redisReadTask *task, int count) {
    (void)count;
    return make(task, NEAP_REDIS_ARRAY, 0);
}

static redisReplyObjectFunctions functions = {.createString = make_text, .createArray = make_array, .createInteger = make_integer,
    .createNil = make_nil, .freeObject = free_nothing};
#endif

/* ---- the reader ---- */

neap_redis_reader *neap_redis_reader_new(size_t most_bytes) {
    neap_redis_reader *r = neap_zalloc(sizeof *r);
    r->codec = redisReaderCreateWithFunctions(&functions);
    if (!r->codec) abort();
    r->codec->privdata = r;
    r->most = most_bytes;
    return r;
}

static bool give_up(neap_redis_reader *r, neap_err *err, const char *what) {
    r->failed = true;
    neap_err_set(err, NEAP_E_PROTOCOL, "%s", what);
    return false;
}

static size_t unread(const neap_redis_reader *r) { return r->codec->len - r->codec->pos; }

bool neap_redis_reader_feed(neap_redis_reader *r, const char *data, size_t len, neap_err *err) {
    if (r->failed) return give_up(r, err, "the reader has given up");
    if (unread(r) + len > r->most + MOST_LINE) return give_up(r, err, "a reply is larger than allowed");
    if (redisReaderFeed(r->codec, data, len) == REDIS_OK) return true;
    return give_up(r, err, r->codec->errstr);
}

/* What is left begins an item that is not whole, its type already taken: a bulk string's length ends soon, a line ends by now. */
static bool is_endless(const neap_redis_reader *r) {
    return unread(r) > MOST_LINE && memmem(r->codec->buf + r->codec->pos, MOST_HEADER, "\r\n", 2) == NULL;
}

/* A bulk string that is not whole stands there with its length in front: one that is too long is not waited for. */
static bool is_announced_too_large(const neap_redis_reader *r) {
    const char *at = r->codec->buf + r->codec->pos;
    char *end = NULL;
    if (unread(r) < MOST_HEADER || *at < '0' || *at > '9') return false;
    unsigned long long len = strtoull(at, &end, 10);
    return end[0] == '\r' && end[1] == '\n' && len > r->most;
}

bool neap_redis_reader_next(neap_redis_reader *r, neap_redis_value **out, neap_err *err) {
    void *found = NULL;
    *out = NULL;
    if (r->failed) return give_up(r, err, "the reader has given up");
    if (redisReaderGetReply(r->codec, &found) != REDIS_OK) return give_up(r, err, r->reason ? r->reason : r->codec->errstr);
    if (!found && is_announced_too_large(r)) return give_up(r, err, "a reply is larger than allowed");
    if (!found) return !is_endless(r) || give_up(r, err, "a line of a reply does not end");
    *out = r->root;
    r->root = NULL;
    r->held = 0;
    return true;
}

void neap_redis_reader_free(neap_redis_reader *r) {
    if (!r) return;
    redisReaderFree(r->codec);
    neap_redis_value_free(r->root);
    free(r);
}

/* ---- commands ---- */

void neap_redis_format(neap_buf *out, int argc, const char *const *argv, const size_t *lens) {
    char *bytes = NULL;
    int len = (int)redisFormatCommandArgv(&bytes, argc, (const char **)(size_t)argv, lens);
    if (len < 0) abort();                          /* out of memory, as in buf.h */
    neap_buf_add(out, bytes, (size_t)len);
    explicit_bzero(bytes, (size_t)len);            /* AUTH passes here */
    redisFreeCommand(bytes);
}
