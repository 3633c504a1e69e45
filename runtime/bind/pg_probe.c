/* pg_probe.c -- what became of a write whose run died: asked by resume, from the evidence of the intent, before anything is done again.
 *
 *   native.pg.probe(conn, evidence)               "done" | "not begun" | "running" | "ended" | nil, reason
 *   native.pg.orphan(conn, evidence, {end_it=})   the same, after the backend that was left working has ended (or was ended)
 *
 * The connection may be closed: the inquiry opens its own, since what is asked about may be what keeps the old one busy.
 */
#include <stdlib.h>
#include <string.h>

#include "bind/pg_handle.h"
#include "drive/pg_fate.h"

typedef struct probe_op {
    pg_op base;
    neap_pg_evidence evidence;
    char *xid, *system, *start, *reason;
    int64_t within_ms;
    neap_pg_inquiry *inquiry;
    neap_pg_fate fate;
} probe_op;

static void on_fate(void *arg, neap_pg_fate fate, const char *reason) {
    probe_op *p = arg;
    p->fate = fate;
    p->reason = neap_strdup(reason);
    neap_op_finish(&p->base.gate.op);
}

static int probe_deliver(lua_State *L, neap_op *o) {
    probe_op *p = (probe_op *)o;
    neap_pg_inquiry_free(p->inquiry);              /* its session goes now, not when the garbage is collected: it would stand in a rename's way */
    p->inquiry = NULL;
    switch (p->fate) {
    case NEAP_PG_COMMITTED: lua_pushliteral(L, "done"); break;
    case NEAP_PG_ABORTED: lua_pushliteral(L, "not begun"); break;
    case NEAP_PG_RUNNING: lua_pushliteral(L, "running"); break;
    case NEAP_PG_GONE: lua_pushliteral(L, "ended"); break;
    default: lua_pushnil(L);
    }
    lua_pushstring(L, p->fate == NEAP_PG_GONE ? "its session has ended, and without a transaction id nobody can say how" : p->reason);
    return 2;
}

static void probe_cancel(neap_op *o, bool force) {
    probe_op *p = (probe_op *)o;
    (void)force;
    neap_pg_inquiry_free(p->inquiry);
    p->inquiry = NULL;
    neap_op_finish(o);
}

static void probe_drop(neap_op *o) {
    probe_op *p = (probe_op *)o;
    neap_pg_inquiry_free(p->inquiry);
    free(p->xid), free(p->system), free(p->start), free(p->reason);
    neap_pg_op_drop(o);
}

static const neap_op_class probe_class = {"what became of a write", probe_cancel, probe_deliver, probe_drop};

static int probe_start(lua_State *L, neap_gate *g) {
    probe_op *p = (probe_op *)g;
    p->evidence.xid = p->xid, p->evidence.system = p->system, p->evidence.backend_start = p->start;
    p->inquiry = neap_pg_inquire(p->base.h->loop, &p->base.h->where, p->base.h->application, &p->evidence, p->within_ms, on_fate, p);
    return neap_await(L, &g->op);
}

/* Numbers too: a transaction id was written as one. */
static char *text_field(lua_State *L, const char *name) {
    lua_getfield(L, 2, name);
    const char *text = lua_isnil(L, -1) ? NULL : luaL_tolstring(L, -1, NULL);
    char *copy = text ? neap_strdup(text) : NULL;
    lua_settop(L, 3);
    return copy;
}

static int inquire(lua_State *L, bool end_it, int64_t within_ms) {
    pg_handle *h = neap_pg_to_handle(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    probe_op *p = (probe_op *)neap_pg_op_new(L, sizeof *p, &probe_class, h, NEAP_P_PG_CARD, "what became of a write", 0);
    p->xid = text_field(L, "xid");
    p->system = text_field(L, "system");
    p->start = text_field(L, "backend_start");
    lua_getfield(L, 2, "pid");
    p->evidence.pid = (int)lua_tointeger(L, -1);
    lua_getfield(L, 2, "timeline");
    p->evidence.timeline = (int)lua_tointeger(L, -1);
    lua_settop(L, 3);
    p->evidence.end_it = end_it;
    p->within_ms = within_ms;
    p->base.gate.act.subject = NULL;
    p->base.gate.start = probe_start;
    return neap_gate_enter(L, &p->base.gate);
}

/* probe(conn, evidence) -> "done" | "not begun" | "running" | "ended" (without a transaction id nobody can say how) | nil, reason.
 * Effect: read. */
int neap_pg_probe(lua_State *L) { return inquire(L, false, 0); }

/* orphan(conn, evidence, {end_it=false, within_ms=60000}) -> as probe, waiting until it is decided; with end_it the backend is
 * terminated if it is still the same one. Effect: read (the resuming human's decision, asked for by the engine). */
int neap_pg_orphan(lua_State *L) {
    bool end_it = false;
    int64_t within_ms = 60000;
    if (lua_istable(L, 3)) {
        lua_getfield(L, 3, "end_it");
        end_it = lua_toboolean(L, -1);
        if (lua_getfield(L, 3, "within_ms") != LUA_TNIL) within_ms = luaL_checkinteger(L, -1);
    }
    return inquire(L, end_it, within_ms);
}
