/* gate.h -- the one way from Lua to the world. A binding describes what is about to happen and hands over the
 * function that starts it; the gate does the rest, in this order:
 *
 *   ask the guard ── REFUSE   → raise {refused}
 *                 ── WITHHELD → raise {withheld}
 *                 ── PREDICT  → record the prediction, return a withheld value
 *                 ── ALLOW    → read: start
 *                               write: append intent ─ wait until durable ─ start … outcome ─ deliver
 *
 * A binding's op embeds neap_gate as its first member. Its deliver calls neap_gate_outcome before it pushes anything.
 */
#ifndef NEAP_SCRIPT_GATE_H
#define NEAP_SCRIPT_GATE_H

#include "guard/guard.h"
#include "base/buf.h"
#include "script/op.h"

typedef struct neap_gate neap_gate;
struct neap_gate {
    neap_op   op;                         /* first: what the driver's wait is */
    neap_act  act;                        /* texts must live as long as the op (the op owns them) */
    int     (*start)(lua_State *L, neap_gate *g);   /* begin; ends with neap_await, or returns results */
    neap_buf  evidence;                   /* JSON members for the intent, without braces: "\"xid\":77,\"pid\":4711" */
    long long intent;                     /* seq of the intent, 0 for reads */
};

/* [-0, +n, e] pass the gate with the op that is on the stack; always as `return neap_gate_enter(L, g)`. */
int neap_gate_enter(lua_State *L, neap_gate *g);

/* Record how a write ended: status "ok", "failed" or "unknown", `members` as evidence (may be NULL). Nothing for reads. */
void neap_gate_outcome(lua_State *L, neap_gate *g, const char *status, const char *members, const neap_err *err);

/* [-0, +n, e] a wait until everything appended so far is durable, then `next(L, op)`. For protocols that must record in the middle. */
int neap_gate_flush(lua_State *L, int (*next)(lua_State *L, void *arg), void *arg);

#endif
