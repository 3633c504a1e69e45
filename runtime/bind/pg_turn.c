/* pg_turn.c -- whose turn it is to write on a connection.
 *
 * A write takes several flights with waits between them (its transaction id, its intent, its statement), and another task
 * of a parallel step must not slip its own in there. So a writer queues for a turn and gives it back when it is through, by
 * whatever way: a turn is a to-be-closed value of the C function that runs the verb, or lives in the transaction handle that Lua
 * closes. Giving back a turn whose transaction is open rolls it back; the ROLLBACK is queued before anybody else is let on.
 */
#include "bind/pg_private.h"
#include "script/function.h"

#define TURN_META "neap.pg.turn"

static pg_turn *first_turn(pg_handle *h) {
    return neap_list_is_empty(&h->turns) ? NULL : NEAP_LIST_OF(h->turns.next, pg_turn, node);
}

bool neap_pg_turn_has(const pg_turn *t) { return t->h && first_turn(t->h) == t; }

static void on_rolled_back(void *arg, PGresult *result, const neap_err *err) {
    pg_handle *h = arg;
    (void)result;
    if (err && err->code != NEAP_E_CLOSED && err->code != NEAP_E_CANCELLED && h->pg)
        neap_pg_kill(h->pg, NEAP_E_CLOSED, "a transaction could not be rolled back");
}

void neap_pg_turn_end(pg_turn *t) {
    pg_handle *h = t->h;
    if (!h) return;
    bool held = neap_pg_turn_has(t);
    t->h = NULL;
    t->waiter = NULL;
    neap_list_remove(&t->node);
    if (t->open && neap_pg_is_alive(h->pg)) {
        neap_pg_query q = neap_pg_plain("ROLLBACK", true);
        neap_pg_send(h->pg, &q, on_rolled_back, h);
    }
    t->open = false;
    pg_turn *next = held ? first_turn(h) : NULL;
    if (next && next->waiter) neap_op_finish(next->waiter);
}

static int turn_close(lua_State *L) {
    neap_pg_turn_end(luaL_checkudata(L, 1, TURN_META));
    return 0;
}

pg_turn *neap_pg_turn_new(lua_State *L, int index, pg_handle *h, bool scoped) {
    index = lua_absindex(L, index);
    pg_turn *t = lua_newuserdatauv(L, sizeof *t, 1);
    *t = (pg_turn){.h = NULL};
    luaL_setmetatable(L, TURN_META);
    lua_pushvalue(L, index);
    lua_setiuservalue(L, -2, 1);
    t->h = h;                                      /* queued only when its finalizer can take it out again */
    neap_list_append(&h->turns, &t->node);
    if (scoped) lua_toclose(L, -1);
    return t;
}

pg_turn *neap_pg_turn_move(lua_State *L, int index, pg_turn *from) {
    pg_turn *t = neap_pg_turn_new(L, index, from->h, false);
    neap_list_remove(&t->node);
    neap_list_append(&from->node, &t->node);       /* appending to a node puts it right before that node: in its place */
    neap_list_remove(&from->node);
    t->open = from->open;
    from->h = NULL;
    from->open = false;
    return t;
}

void neap_pg_turn_wait(pg_turn *t, neap_op *op) { t->waiter = op; }

void neap_pg_open_turn(lua_State *L) {
    luaL_newmetatable(L, TURN_META);
    neap_function_push(L, "pg.turn:close", turn_close, 0);
    lua_setfield(L, -2, "__close");
    neap_function_push(L, "pg.turn:close", turn_close, 0);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
