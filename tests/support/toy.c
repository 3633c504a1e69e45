/* toy.c -- T.touch: a primitive of the tests' own that passes the real gate and then does nothing, so that the engine can be
 * tried on a world of Lua tables with the real guard, intents and outcomes. It borrows rows of effects.def. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "script/function.h"
#include "script/gate.h"
#include "script/raise.h"
#include "testlib.h"
#include "toy.h"

typedef struct toy { neap_gate gate; char *target, *subject, *text, *host; } toy;

static int toy_start(lua_State *L, neap_gate *g) {
    neap_gate_outcome(L, g, "ok", NULL, NULL);
    lua_pushboolean(L, 1);
    return 1;
}

static void toy_cancel(neap_op *op, bool force) {
    (void)force;
    neap_op_finish(op);
}

static int toy_deliver(lua_State *L, neap_op *op) {
    (void)L, (void)op;
    return 0;
}

static void toy_drop(neap_op *op) {
    toy *t = (toy *)op;
    free(t->target);
    free(t->subject);
    free(t->text);
    free(t->host);
    neap_buf_close(&t->gate.evidence);
}

static const neap_op_class toy_class = {"a toy", toy_cancel, toy_deliver, toy_drop};

/* T.touch(primitive, target, subject, text[, host]) -> true, or a withheld value in a preview. */
int neap_test_touch(lua_State *L) {
    int primitive = neap_primitive_of(luaL_checkstring(L, 1));
    luaL_argcheck(L, primitive >= 0, 1, "no such row in effects.def");
    lua_settop(L, 5);
    neap_function_push(L, "native.file.remove", neap_test_touch, 0);     /* at the gate it may be any primitive */
    lua_pop(L, 1);
    toy *t = (toy *)neap_op_new(L, sizeof *t, &toy_class);
    t->target = neap_strdup(luaL_checkstring(L, 2));
    t->subject = neap_strdup(luaL_checkstring(L, 3));
    t->text = neap_strdup(luaL_checkstring(L, 4));
    t->host = lua_isnoneornil(L, 5) ? NULL : neap_strdup(luaL_checkstring(L, 5));
    t->gate.act = (neap_act){(neap_primitive)primitive, t->target, t->host, t->subject, t->text, NULL};
    t->gate.start = toy_start;
    return neap_gate_enter(L, &t->gate);
}

static const luaL_Reg functions[] = {{"touch", neap_test_touch}, {NULL, NULL}};
NEAP_TEST_LIBRARY(functions)
