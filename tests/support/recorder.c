/* recorder.c -- a journal in memory for the specs: what the gate records while T.run runs.
 *
 * Flushing completes on the loop, never at once, because that is what a real journal does.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "loop/timer.h"
#include "recorder.h"
#include "testlib.h"

typedef struct record { char *kind, *step, *body; } record;
typedef struct flush { neap_timer *timer; void (*done)(void *, const neap_err *); void *arg; } flush;

static record *records;
static int64_t count, capacity;
static int64_t flush_ms;           /* how long flushing takes */
static bool fails, failed;         /* it is to fail; it did, and says so at once from now on */

static int64_t append(void *self, const char *kind, const char *step, const char *body) {
    (void)self;
    if (count == capacity) {
        capacity = capacity ? 2 * capacity : 64;
        records = realloc(records, sizeof *records * (size_t)capacity);
        if (!records) abort();
    }
    if (fails && strcmp(kind, "started") == 0) failed = true;
    records[count] = (record){neap_strdup(kind), neap_strdup(step ? step : ""), neap_strdup(body ? body : "")};
    return ++count;
}

static void on_flushed(void *arg) {
    flush *f = arg;
    flush copy = *f;
    neap_timer_free(f->timer);
    free(f);
    copy.done(copy.arg, NULL);
}

static void start_flush(void *self, void (*done)(void *arg, const neap_err *err), void *arg) {
    if (failed) {
        neap_err err = NEAP_ERR_INIT;
        neap_err_set(&err, NEAP_E_JOURNAL, "the disk is full");
        done(arg, &err);
        neap_err_close(&err);
        return;
    }
    flush *f = neap_zalloc(sizeof *f);
    f->done = done;
    f->arg = arg;
    f->timer = neap_timer_new(self, on_flushed, f);
    neap_timer_start(f->timer, flush_ms);
}

neap_recorder neap_test_recorder(neap_loop *loop) { return (neap_recorder){append, start_flush, loop}; }

/* T.records() -> list of {kind, step, body}, body as JSON text, since the test began */
static int list(lua_State *L) {
    lua_createtable(L, (int)count, 0);
    for (int64_t i = 0; i < count; i++) {
        lua_createtable(L, 0, 3);
        lua_pushstring(L, records[i].kind);
        lua_setfield(L, -2, "kind");
        lua_pushstring(L, records[i].step);
        lua_setfield(L, -2, "step");
        lua_pushstring(L, records[i].body);
        lua_setfield(L, -2, "body");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* T.forget_records() */
static int forget(lua_State *L) {
    (void)L;
    while (count > 0) {
        count--;
        free(records[count].kind), free(records[count].step), free(records[count].body);
    }
    return 0;
}

/* T.open_intents() -> number of intents without outcome since the test began */
static int open_intents(lua_State *L) {
    int64_t open = 0;
    for (int64_t i = 0; i < count; i++) open += strcmp(records[i].kind, "intent") == 0 ? 1 : strcmp(records[i].kind, "outcome") == 0 ? -1 : 0;
    lua_pushinteger(L, open);
    return 1;
}

/* T.flush_ms(ms): from now on flushing takes so long */
static int set_flush_ms(lua_State *L) {
    flush_ms = luaL_checkinteger(L, 1);
    return 0;
}

/* T.flush_fails(fails): from now on a journal that has failed answers, at once, where a "started" is to be durable */
static int set_flush_fails(lua_State *L) {
    fails = lua_toboolean(L, 1);
    failed = false;
    return 0;
}

static const luaL_Reg recording[] = {{"flush_fails", set_flush_fails}, {"flush_ms", set_flush_ms}, {"records", list}, {"forget_records", forget},
                                     {"open_intents", open_intents}, {NULL, NULL}};
NEAP_TEST_LIBRARY(recording)
