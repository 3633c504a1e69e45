/* gate.h -- the one way from Lua to the world. A binding describes what is about to happen and hands over the
 * function that starts it; the gate does the rest, in this order:
 *
 *   ask the guard ── REFUSE   → raise {refused}
 *                 ── WITHHELD → raise {withheld}
 *                 ── PREDICT  → record the prediction, return a withheld value
 *                 ── ALLOW    → read: start
 *                               write: [prepare] → append the intent → wait until it is durable → start … outcome … deliver
 *
 * A binding's op embeds neap_gate as its first member. `prepare`, where there is one, gathers what belongs into the intent and
 * needs the far end (a transaction id, the backend's pid) without changing anything; its deliver ends with
 * `return neap_gate_intend(L, g)`. A write's deliver calls neap_gate_outcome before it pushes anything; when the wait is stopped
 * instead, the gate records the outcome as unknown, unless the binding sets op.on_stop to something that knows better. Stopped
 * while the intent is made durable, the act was not begun, and that is its outcome: failed.
 */
#ifndef NEAP_SCRIPT_GATE_H
#define NEAP_SCRIPT_GATE_H

#include <stdint.h>
#include "base/buf.h"
#include "guard/guard.h"
#include "script/op.h"

typedef struct neap_gate neap_gate;
struct neap_gate {
    neap_op   op;                                    /* first: what the driver's wait is */
    neap_act  act;                                   /* its texts live as long as the op (the op owns them) */
    int     (*prepare)(lua_State *L, neap_gate *g);  /* may be NULL */
    int     (*start)(lua_State *L, neap_gate *g);    /* begin; ends with neap_await, or returns results */
    neap_buf  evidence;                              /* JSON members for the intent, without braces: "\"xid\":77,\"pid\":4711" */
    const char *plan;                                /* what a preview shows below the text (a diff), or NULL; owned by the op */
    int64_t   intent;                                /* seq of the intent, 0 for reads and without a journal */
    bool      declared;                              /* a read that only its author (or a superuser's restraint) vouches for */
    bool      intended, settled;                     /* intent appended; outcome appended */
};

/* [-0, +n, e] pass the gate with the op that is on the stack; always as `return neap_gate_enter(L, g)`. */
int neap_gate_enter(lua_State *L, neap_gate *g);

/* [-0, +n, e] from the deliver of a `prepare`: append the intent with g->evidence, wait, start. */
int neap_gate_intend(lua_State *L, neap_gate *g);

/* Record how a write ended: status "ok", "failed" or "unknown"; `members` (JSON members, may be NULL) as evidence.
 * Nothing for reads; the second call is ignored. */
void neap_gate_outcome(lua_State *L, neap_gate *g, const char *status, const char *members, const neap_err *err);

/* Append one more record of this kind about the act ("started": the pid of a child). From a callback too, while the op waits. */
void neap_gate_record(lua_State *L, neap_gate *g, const char *kind, const char *members);

/* [-0, +0, e] what act opened, act alone may go on with: raises {refused} where a runbook only asks. What hands out something that
 * outlives its call (a stream, a command) asks here when it is used to change something. */
void neap_gate_check_act(lua_State *L, const char *what);
/* Does an act run? (What is opened now belongs to it.) */
bool neap_gate_is_act(lua_State *L);

/* [-0, +1, m] the list of predictions {primitive,effect,target,subject,text,plan,step} made so far, which is empty afterwards. */
void neap_gate_push_predictions(lua_State *L);
/* [-0, +1, m] the same of the reads that were really asked: the first of each label. */
void neap_gate_push_reads(lua_State *L);
/* [-0, +1, m] a value nobody may read: every use raises {withheld}. */
void neap_gate_push_withheld(lua_State *L, const char *step);

#endif
