/* redis_read.c -- reads, each inside the fence (guard/redis_fence.h): read, pipeline, scan.
 *
 *   gate ─► for each command that is on no list: COMMAND INFO, once per connection ─► judged ─► all of them in one flight
 *
 * Nothing is sent before everything is judged. A scan asks page by page, each page through the gate; it keeps one page, and promises
 * what SCAN promises: what is there from beginning to end is seen, some of it twice. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "bind/redis_private.h"
#include "script/function.h"

#define SCAN_META "neap.redis.scan"

enum { STAGE_FLAGS, STAGE_READ, MOST_NAME = 64 };

/* ---- flags ---- */

/* Of anything else nobody is asked: it would be cut short where it is remembered. */
static bool is_name(const redis_command *c) { return c->lens[0] <= MOST_NAME && !memchr(c->argv[0], '\0', c->lens[0]); }

static void lower(const redis_command *c, char out[MOST_NAME + 1]) {
    for (size_t i = 0; i < c->lens[0]; i++) out[i] = (char)tolower((unsigned char)c->argv[0][i]);
    out[c->lens[0]] = '\0';
}

static bool flags_of(const redis_handle *h, const redis_command *c, unsigned *flags) {
    char name[MOST_NAME + 1];
    *flags = 0;
    if (!is_name(c)) return true;
    lower(c, name);
    for (int i = 0; i < h->known_count && i < REDIS_FLAGS; i++) {
        if (strcmp(h->known[i].name, name) != 0) continue;
        *flags = h->known[i].flags;
        return true;
    }
    return false;
}

static unsigned read_flags(const neap_redis_value *info) {
    const neap_redis_value *command = neap_redis_item(info, 0), *list = neap_redis_item(command, 2);
    unsigned flags = list ? NEAP_REDIS_KNOWN : 0;
    for (size_t i = 0; neap_redis_item(list, i); i++) {
        if (neap_redis_is(list->items[i], "readonly")) flags |= NEAP_REDIS_READONLY;
        if (neap_redis_is(list->items[i], "write")) flags |= NEAP_REDIS_WRITE;
        if (neap_redis_is(list->items[i], "module")) flags |= NEAP_REDIS_MODULE;
    }
    return flags;
}

static void remember(redis_handle *h, const redis_command *c, unsigned flags) {
    char name[MOST_NAME + 1];
    int at = h->known_count++ % REDIS_FLAGS;
    lower(c, name);
    free(h->known[at].name);
    h->known[at].name = neap_strdup(name);
    h->known[at].flags = flags;
}

static int ask_flags(lua_State *L, redis_op *op, int which) {
    const redis_command *c = &op->commands[which];
    const char *words[] = {"COMMAND", "INFO", c->argv[0]};
    size_t lens[] = {7, 4, c->lens[0]};
    op->asked = which;
    return neap_redis_op_aside(L, op, 3, words, lens, STAGE_FLAGS);
}

static int judge(lua_State *L, redis_op *op) {
    for (int i = op->asked; i < op->count; i++) {
        neap_redis_words words = neap_redis_words_of(&op->commands[i]);
        unsigned flags = NEAP_REDIS_KNOWN | NEAP_REDIS_READONLY;
        if (!neap_redis_check_read(&words, flags, &op->err)) return neap_fail(L, &op->err);
        if (neap_redis_is_vetted(&words)) continue;
        if (!flags_of(op->h, &op->commands[i], &flags)) return ask_flags(L, op, i);
        if (!neap_redis_check_read(&words, flags, &op->err)) return neap_fail(L, &op->err);
    }
    op->stage = STAGE_READ;
    if (!neap_redis_op_alive(op)) return neap_fail(L, &op->err);
    neap_redis_op_send(op);
    return neap_await(L, &op->gate.op);
}

static int learn(lua_State *L, redis_op *op) {
    if (op->err.code) return neap_fail(L, &op->err);
    if (neap_redis_refusal(&op->err, op->side)) {
        neap_err_close(&op->err);
        neap_err_set(&op->err, NEAP_E_REFUSED, "the server does not say what \"%s\" does: %s", op->commands[op->asked].argv[0], op->side->text);
        neap_err_hint(&op->err, "Allow the user COMMAND (ACL SETUSER … +command); without it only what is on neap's own list is asked.");
        return neap_fail(L, &op->err);
    }
    remember(op->h, &op->commands[op->asked], read_flags(op->side));
    return judge(L, op);
}

static int read_deliver(lua_State *L, neap_op *o) {
    redis_op *op = (redis_op *)o;
    return op->stage == STAGE_FLAGS ? learn(L, op) : neap_redis_op_push(L, op);
}

static const neap_op_class read_class = {"an answer from Redis", neap_redis_op_cancel, read_deliver, neap_redis_op_drop};

static int read_start(lua_State *L, neap_gate *g) {
    redis_op *op = (redis_op *)g;
    if (!neap_redis_op_alive(op)) return neap_fail(L, &op->err);
    return judge(L, op);
}

static redis_op *new_read(lua_State *L, const neap_op_class *class, size_t size) {
    redis_handle *h = neap_redis_check_handle(L, 1);
    redis_op *op = neap_redis_op_new(L, size, class, h, NEAP_P_REDIS_READ);
    op->gate.declared = !h->enforced;
    op->gate.start = read_start;
    return op;
}

/* conn:read(word, …) -> the answer | nil, err. Effect: read. */
static int conn_read(lua_State *L) {
    redis_op *op = new_read(L, &read_class, sizeof *op);
    neap_redis_op_words(L, op, 2);
    return neap_gate_enter(L, &op->gate);
}

/* conn:pipeline{ {word, …}, … } -> list of answers, errors among them | nil, err. Effect: read. */
static int conn_pipeline(lua_State *L) {
    lua_settop(L, 2);
    redis_op *op = new_read(L, &read_class, sizeof *op);
    neap_redis_op_list(L, op, 2);
    return neap_gate_enter(L, &op->gate);
}

/* ---- INFO ---- */

static void push_line(lua_State *L, const char *line, size_t len) {
    const char *colon = memchr(line, ':', len);
    size_t value = colon ? len - (size_t)(colon - line) - 1 : 0;
    if (!colon || *line == '#') return;
    lua_pushlstring(L, line, (size_t)(colon - line));
    lua_pushlstring(L, colon + 1, value);
    if (value < 19 && value > 0 && strspn(colon + 1, "0123456789") >= value) {
        lua_Integer number = lua_tointeger(L, -1);
        lua_pop(L, 1);
        lua_pushinteger(L, number);
    }
    lua_rawset(L, -3);
}

static int info_deliver(lua_State *L, neap_op *o) {
    redis_op *op = (redis_op *)o;
    if (op->err.code || neap_redis_refusal(&op->err, op->values[0])) return neap_fail(L, &op->err);
    lua_newtable(L);
    for (const char *line = op->values[0]->text; *line;) {
        size_t len = strcspn(line, "\r\n");
        push_line(L, line, len);
        line += len;
        line += strspn(line, "\r\n");
    }
    return 1;
}

static const neap_op_class info_class = {"INFO from Redis", neap_redis_op_cancel, info_deliver, neap_redis_op_drop};

/* conn:info(section?) -> {name = text or integer} | nil, err. Effect: read. */
static int conn_info(lua_State *L) {
    bool section = !lua_isnoneornil(L, 2);
    if (section) luaL_checkstring(L, 2);
    lua_settop(L, section ? 2 : 1);
    lua_pushliteral(L, "INFO");
    lua_insert(L, 2);
    redis_op *op = new_read(L, &info_class, sizeof *op);
    neap_redis_op_words(L, op, 2);
    return neap_gate_enter(L, &op->gate);
}

/* ---- scan ---- */

typedef struct redis_scan {
    redis_handle *h;
    char   *match, *type;
    char    count[16], cursor[24];
    bool    begun;
    neap_redis_value *page;
    size_t  next;
} redis_scan;

typedef struct scan_op { redis_op base; redis_scan *scan; } scan_op;

static const neap_redis_value *keys_of(const redis_scan *s) { return neap_redis_item(s->page, 1); }

static int ask_page(lua_State *L, redis_op *op, redis_scan *s) {
    const char *words[9] = {"SCAN", s->cursor, "MATCH", s->match, "COUNT", s->count};
    size_t lens[9];
    int count = 6;
    if (!s->h) {
        neap_err_set(&op->err, NEAP_E_CLOSED, "the scan was closed while a page was awaited");
        return neap_fail(L, &op->err);
    }
    if (s->type) words[count++] = "TYPE", words[count++] = s->type;
    for (int i = 0; i < count; i++) lens[i] = strlen(words[i]);
    return neap_redis_op_aside(L, op, count, words, lens, STAGE_READ);
}

static int push_key(lua_State *L, redis_scan *s) {
    neap_redis_push_value(L, keys_of(s)->items[s->next++]);
    return 1;
}

static int page_deliver(lua_State *L, neap_op *o) {
    redis_op *op = (redis_op *)o;
    redis_scan *s = ((scan_op *)op)->scan;
    if (op->err.code || neap_redis_refusal(&op->err, op->side)) return neap_fail(L, &op->err);
    const neap_redis_value *cursor = neap_redis_item(op->side, 0);
    if (!cursor || cursor->len >= sizeof s->cursor || !neap_redis_item(op->side, 1)) {
        neap_err_set(&op->err, NEAP_E_PROTOCOL, "Redis answered SCAN with something else than a cursor and keys");
        return neap_fail(L, &op->err);
    }
    neap_redis_value_free(s->page);
    s->page = op->side;
    op->side = NULL;
    s->next = 0;
    s->begun = true;
    strcpy(s->cursor, cursor->text);
    if (keys_of(s)->len) return push_key(L, s);
    if (strcmp(s->cursor, "0") == 0) return 0;
    if (!neap_redis_op_alive(op)) return neap_fail(L, &op->err);
    return ask_page(L, op, s);
}

static const neap_op_class page_class = {"a page of keys from Redis", neap_redis_op_cancel, page_deliver, neap_redis_op_drop};

static int page_start(lua_State *L, neap_gate *g) {
    redis_op *op = (redis_op *)g;
    if (!neap_redis_op_alive(op)) return neap_fail(L, &op->err);
    return ask_page(L, op, ((scan_op *)op)->scan);
}

/* scan() -> the next key | nothing at the end | nil, err. Effect: read. */
static int scan_call(lua_State *L) {
    redis_scan *s = luaL_checkudata(L, 1, SCAN_META);
    if (keys_of(s) && s->next < keys_of(s)->len) return push_key(L, s);
    if (s->begun && strcmp(s->cursor, "0") == 0) return 0;
    if (!s->h || !s->h->redis) neap_raisef(L, NEAP_E_USAGE, "the connection is closed");
    scan_op *op = (scan_op *)neap_redis_op_new(L, sizeof *op, &page_class, s->h, NEAP_P_REDIS_READ);
    op->scan = s;
    op->base.gate.act.text = "SCAN";
    op->base.gate.declared = !s->h->enforced;
    op->base.gate.start = page_start;
    return neap_gate_enter(L, &op->base.gate);
}

static int scan_gc(lua_State *L) {
    redis_scan *s = luaL_checkudata(L, 1, SCAN_META);
    free(s->match);
    free(s->type);
    neap_redis_value_free(s->page);
    *s = (redis_scan){.cursor = "0"};
    return 0;
}

static char *text_field(lua_State *L, const char *name, const char *otherwise) {
    lua_getfield(L, 2, name);
    const char *text = lua_isnil(L, -1) ? otherwise : luaL_checkstring(L, -1);
    char *copy = text ? neap_strdup(text) : NULL;
    lua_pop(L, 1);
    return copy;
}

/* conn:scan{match=, count=1000, type=} -> iterator over keys. Effect: read, when it is called. */
static int conn_scan(lua_State *L) {
    redis_handle *h = neap_redis_check_handle(L, 1);
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) lua_newtable(L), lua_replace(L, 2);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_getfield(L, 2, "count");
    lua_Integer count = luaL_optinteger(L, -1, 1000);
    luaL_argcheck(L, count > 0 && count <= 1000000, 2, "count is from 1 to 1000000");
    redis_scan *s = lua_newuserdatauv(L, sizeof *s, 1);
    *s = (redis_scan){.h = h, .cursor = "0"};
    luaL_setmetatable(L, SCAN_META);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    snprintf(s->count, sizeof s->count, "%lld", (long long)count);
    s->match = text_field(L, "match", "*");
    s->type = text_field(L, "type", NULL);
    return 1;
}

static const luaL_Reg scan_meta[] = {{"__call", scan_call}, {"__gc", scan_gc}, {"__close", scan_gc}, {NULL, NULL}};

void neap_redis_open_scan(lua_State *L) {
    luaL_newmetatable(L, SCAN_META);
    neap_function_set(L, "redis.scan:", scan_meta, 0);
    lua_pop(L, 1);
}

const luaL_Reg neap_redis_read_methods[] = {
    {"read", conn_read}, {"pipeline", conn_pipeline}, {"info", conn_info}, {"scan", conn_scan}, {NULL, NULL}};
