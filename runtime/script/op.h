/* op.h -- one pending wait of one task, and the only place that yields.
 *
 * An op is the head of a full userdata that the binding makes with neap_op_new *before* it starts
 * anything; the waiting thread's stack keeps it alive. A binding ends with
 * `return neap_await(L, op)`; the driver's callback ends with neap_op_finish. Results are pushed
 * by `deliver` when the task runs again, also on the immediate path.
 *
 *     NEW --start--> PENDING --neap_op_finish--> deliver
 *                       |  cancel(op, false)       (deadline passed, operator, sibling failed)
 *                       v
 *                   STOPPING --neap_op_finish--> on_stop, raise {timeout|cancelled}
 *                       |  grace passes: cancel(op, true), which must call neap_op_finish before it returns
 *
 * So a driver always lets go before Lua goes on: nothing points into a dead userdata.
 */
#ifndef NEAP_SCRIPT_OP_H
#define NEAP_SCRIPT_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <lua.h>

struct neap_task;
typedef struct neap_op neap_op;

typedef struct neap_op_class {
    const char *name;                           /* "pg.query": shown as what a task waits for */
    void (*cancel)(neap_op *op, bool force);
    int  (*deliver)(lua_State *L, neap_op *op); /* [-0, +n, m] pushes and counts results; may itself return neap_await(next op) */
    void (*drop)(neap_op *op);                  /* frees what the op owns; called once, by __gc; may be NULL */
} neap_op_class;

struct neap_op {
    const neap_op_class *class;
    struct neap_task *task;                     /* who waits; NULL before await and after the wait */
    void (*on_stop)(lua_State *L, neap_op *op); /* the wait was stopped: record how it ended; may not wait or raise; may be NULL */
    bool finished, stopping;
};

/* [-0, +1, m] a zeroed userdata of `size` bytes (size >= sizeof(neap_op), op first) with the class set. */
neap_op *neap_op_new(lua_State *L, size_t size, const neap_op_class *class);

/* [-0, +n, e] wait for the op; always as `return neap_await(L, op)`. The op's userdata must be on
 * the stack of L. Raises {timeout} or {cancelled}; else returns what deliver returns. An op that was delivered may be
 * awaited again for its next stage after neap_op_rearm. */
int neap_await(lua_State *L, neap_op *op);

/* The op waits once more (a protocol with several stages). */
void neap_op_rearm(neap_op *op);

/* From loop callbacks: the wait is over. Idempotent; never resumes, only queues the task. */
void neap_op_finish(neap_op *op);

#endif
