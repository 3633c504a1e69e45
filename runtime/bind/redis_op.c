/* redis_op.c -- one request of one task: some commands and their answers.
 *
 * The op owns the words, the answers and the error, all freed by its finalizer. While it waits the driver holds a pointer to it; every
 * way of stopping ends with the driver having answered for each command, because Redis cannot take a command back: the
 * connection is given up instead. */
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "bind/redis_private.h"
#include "bind/secret_lua.h"

enum { MOST_WORDS = 1 << 20, MOST_COMMANDS = 100000, MOST_TEXT = 16 * 1024, MOST_WORD = 200, MOST_SPELLED = 4096 };
#define MOST_BYTES ((size_t)512 << 20)               /* of one word: Redis takes no longer one (proto-max-bulk-len) */

redis_op *neap_redis_op_new(lua_State *L, size_t size, const neap_op_class *class, redis_handle *h, neap_primitive primitive) {
    redis_op *op = (redis_op *)neap_op_new(L, size, class);
    op->h = h;
    op->err = (neap_err)NEAP_ERR_INIT;
    op->gate.act = (neap_act){.primitive = primitive, .target = h->role, .host = h->host, .subject = h->subject};
    return op;
}

static void wipe_free(char *text) {
    explicit_bzero(text, strlen(text));
    free(text);
}

static void command_close(redis_command *c) {
    for (int i = 0; i < c->argc; i++) {
        if (c->argv[i]) explicit_bzero(c->argv[i], c->lens[i]);
        free(c->argv[i]);
    }
    free(c->argv);
    free(c->lens);
}

void neap_redis_op_drop(neap_op *o) {
    redis_op *op = (redis_op *)o;
    for (int i = 0; i < op->count; i++) {
        command_close(&op->commands[i]);
        neap_redis_value_free(op->values[i]);
    }
    free(op->commands);
    free(op->values);
    for (char **at = op->spelled; at && *at; at++) wipe_free(*at);
    free(op->spelled);
    free(op->text);
    free(op->subject);
    neap_redis_value_free(op->side);
    neap_buf_close(&op->plan);
    neap_buf_close(&op->gate.evidence);
    neap_err_close(&op->err);
}

/* ---- words ---- */

static void take_word(lua_State *L, redis_command *c, int at, int index) {
    size_t len;
    neap_secret *secret = neap_to_secret(L, index);
    const char *text = NULL;
    if (secret) text = neap_secret_bytes(secret, &len);
    else if (lua_type(L, index) == LUA_TSTRING || lua_type(L, index) == LUA_TNUMBER) {
        lua_pushvalue(L, index);                   /* a number must not be converted where it is */
        text = lua_tolstring(L, -1, &len);
    }
    if (!text) neap_raisef(L, NEAP_E_USAGE, "a word of a Redis command is a string, a number or a secret, not a %s", luaL_typename(L, index));
    if (len > MOST_BYTES) neap_raisef(L, NEAP_E_USAGE, "a word of a Redis command has at most 512 MiB");
    c->argv[at] = neap_alloc(len + 1);
    memcpy(c->argv[at], text, len);
    c->argv[at][len] = '\0';
    c->lens[at] = len;
    c->argc = at + 1;
    if (!secret) lua_pop(L, 1);
}

static redis_command *add_command(lua_State *L, redis_op *op, lua_Integer words) {
    if (words < 1) neap_raisef(L, NEAP_E_USAGE, "a Redis command has at least one word");
    if (words > MOST_WORDS) neap_raisef(L, NEAP_E_USAGE, "a Redis command has at most %d words", MOST_WORDS);
    redis_command *c = &op->commands[op->count++];
    c->argv = neap_zalloc((size_t)words * sizeof *c->argv);
    c->lens = neap_zalloc((size_t)words * sizeof *c->lens);
    return c;
}

static void make_room(redis_op *op, size_t commands) {
    op->commands = neap_zalloc(commands * sizeof *op->commands);
    op->values = neap_zalloc(commands * sizeof *op->values);
}

/* The op is on top of the stack, the words below it. */
void neap_redis_op_words(lua_State *L, redis_op *op, int first) {
    int last = lua_gettop(L) - 1;
    make_room(op, 1);
    redis_command *c = add_command(L, op, last - first + 1);
    for (int i = first; i <= last; i++) take_word(L, c, i - first, i);
    neap_redis_op_show(op);
}

void neap_redis_op_list(lua_State *L, redis_op *op, int index) {
    luaL_checktype(L, index, LUA_TTABLE);
    lua_Integer count = (lua_Integer)lua_rawlen(L, index);
    if (count < 1 || count > MOST_COMMANDS) neap_raisef(L, NEAP_E_USAGE, "a list has from 1 to %d commands", MOST_COMMANDS);
    op->listed = true;
    make_room(op, (size_t)count);
    for (lua_Integer i = 1; i <= count; i++) {
        if (lua_rawgeti(L, index, i) != LUA_TTABLE) neap_raisef(L, NEAP_E_USAGE, "a command in a list is a list of words");
        lua_Integer words = (lua_Integer)lua_rawlen(L, -1);
        redis_command *c = add_command(L, op, words);
        for (lua_Integer w = 1; w <= words; w++) {
            lua_rawgeti(L, -1, w);
            take_word(L, c, (int)w - 1, lua_gettop(L));
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    neap_redis_op_show(op);
}

neap_redis_words neap_redis_words_of(const redis_command *c) {
    return (neap_redis_words){c->argc, (const char *const *)c->argv, c->lens};
}

/* ---- what people are shown ---- */

static bool is_plain(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == '"' || text[i] == '\\' || text[i] == 0x7f) return false;
    return len > 0;
}

static void show_word(neap_buf *out, const char *text, size_t len) {
    size_t most = len > MOST_WORD ? MOST_WORD : len;
    bool quote = !is_plain(text, most);
    if (out->len && out->data[out->len - 1] != ' ') neap_buf_addc(out, ' ');
    if (quote) neap_buf_addc(out, '"');
    neap_buf shown = NEAP_BUF_INIT;
    neap_redact(&shown, text, most);
    neap_escape_terminal(out, shown.data ? shown.data : "", shown.len, false);
    neap_buf_close(&shown);
    if (quote) neap_buf_addc(out, '"');
    if (len > most) neap_buf_addf(out, "… (%zu bytes)", len);
}

void neap_redis_op_show(redis_op *op) {
    neap_buf out = NEAP_BUF_INIT;
    int left = 0;
    for (int i = 0; i < op->count; i++) {
        if (i) neap_buf_adds(&out, "; ");
        for (int w = 0; w < op->commands[i].argc; w++) {
            if (out.len > MOST_TEXT) left++;
            else show_word(&out, op->commands[i].argv[w], op->commands[i].lens[w]);
        }
    }
    if (left) neap_buf_addf(&out, " … and %d more words", left);
    free(op->text);
    op->text = neap_buf_take(&out);
    op->gate.act.text = op->text;
}

static char *spell(const redis_command *c) {
    neap_buf out = NEAP_BUF_INIT;
    for (int i = 0; i < c->argc; i++) {
        size_t len = c->lens[i] > MOST_SPELLED ? MOST_SPELLED : c->lens[i];
        if (i) neap_buf_addc(&out, ' ');
        for (size_t at = 0; at < len; at++) neap_buf_addc(&out, c->argv[i][at] ? c->argv[i][at] : '?');
    }
    return neap_buf_take(&out);
}

void neap_redis_op_spell(lua_State *L, redis_op *op) {
    if (!neap_guard_has_never(neap_host_of(L)->guard)) return;
    op->spelled = neap_zalloc(((size_t)op->count + 1) * sizeof *op->spelled);
    for (int i = 0; i < op->count; i++) op->spelled[i] = spell(&op->commands[i]);
    op->gate.act.spelled = (const char *const *)op->spelled;
}

/* ---- errors ---- */

void neap_redis_op_error(redis_op *op, const neap_err *err) { neap_err_keep(&op->err, err); }

bool neap_redis_op_alive(redis_op *op) {
    if (neap_redis_is_alive(op->h->redis)) return true;
    if (!op->err.code) neap_err_set(&op->err, NEAP_E_CLOSED, "the connection to \"%s\" was lost", op->h->role);
    op->err.retry = true;
    return false;
}

void neap_redis_op_cancel(neap_op *o, bool force) {
    redis_op *op = (redis_op *)o;
    (void)force;
    neap_redis_kill(op->h->redis, NEAP_E_CLOSED, "the connection was given up with a command that was stopped");
    neap_op_finish(o);
}

void neap_redis_op_cancel_write(neap_op *o, bool force) {
    if (force) neap_redis_op_cancel(o, true);
}

/* ---- sending ---- */

static void on_answer(void *arg, const neap_redis_value *v, const neap_err *err) {
    redis_op *op = arg;
    int answer = op->answers++;
    if (err) neap_redis_op_error(op, err);
    (void)v;                                       /* kept, not copied */
    if (!op->atomic && !err) op->values[answer] = neap_redis_keep(op->h->redis);
    if (op->atomic && !err && answer == op->count + 1) op->side = neap_redis_keep(op->h->redis);
    if (op->answers == op->count + (op->atomic ? 2 : 0)) neap_op_finish(&op->gate.op);
}

void neap_redis_op_send(redis_op *op) {
    static const char *const multi[] = {"MULTI", NULL}, *const exec[] = {"EXEC", NULL};
    neap_redis *redis = op->h->redis;
    neap_redis_value_free(op->side);
    op->side = NULL;
    op->answers = 0;
    neap_op_rearm(&op->gate.op);
    if (op->atomic) neap_redis_ask(redis, multi, op->h->within_ms, on_answer, op);
    for (int i = 0; i < op->count; i++) {
        const redis_command *c = &op->commands[i];
        neap_redis_send(redis, c->argc, (const char *const *)c->argv, c->lens, op->h->within_ms, on_answer, op);
    }
    if (op->atomic) neap_redis_ask(redis, exec, op->h->within_ms, on_answer, op);
}

static void on_aside(void *arg, const neap_redis_value *v, const neap_err *err) {
    redis_op *op = arg;
    (void)v;
    if (err) neap_redis_op_error(op, err);
    else op->side = neap_redis_keep(op->h->redis);
    neap_op_finish(&op->gate.op);
}

int neap_redis_op_aside(lua_State *L, redis_op *op, int argc, const char *const *argv, const size_t *lens, int stage) {
    if (!neap_redis_op_alive(op)) return neap_fail(L, &op->err);       /* another task closed it before this one went on */
    neap_redis_value_free(op->side);
    op->side = NULL;
    op->stage = stage;
    neap_op_rearm(&op->gate.op);
    neap_redis_send(op->h->redis, argc, argv, lens, op->h->within_ms, on_aside, op);
    return neap_await(L, &op->gate.op);
}

/* ---- the answers ---- */

/* EXEC's answer, spread over the commands; or why there is none: the first command that was not queued, an abort. */
static void unwrap(redis_op *op) {
    if (!op->side || op->err.code) return;
    if (neap_redis_refusal(&op->err, op->side)) return;
    if (op->side->type != NEAP_REDIS_ARRAY || (int)op->side->len != op->count) {
        neap_err_set(&op->err, NEAP_E_PROTOCOL, "Redis answered EXEC with something else than %d answers", op->count);
        return;
    }
    for (int i = 0; i < op->count; i++) op->values[i] = op->side->items[i];
    op->side->len = 0;
}

int neap_redis_op_push(lua_State *L, redis_op *op) {
    if (op->atomic) unwrap(op);
    if (op->err.code) return neap_fail(L, &op->err);
    if (!op->listed) {
        if (neap_redis_refusal(&op->err, op->values[0])) return neap_fail(L, &op->err);
        neap_redis_push_value(L, op->values[0]);
        return 1;
    }
    lua_createtable(L, op->count, 0);
    for (int i = 0; i < op->count; i++) {
        neap_redis_push_item(L, op->values[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}
