/* started.h -- the handle of a command that lives beside the task, wherever it runs: here, on a host, in a container.
 *
 *     new ──► open ──► over ──► closed            wait, stop and the end of the scope wait for `over`
 *              └───────────────► closed           collected, or its end not waited for: what runs is let go
 *
 * The outcome belongs to the intent of start and is written when the end is seen: by wait, by stop, or at the end of the scope. A handle that is
 * collected lets go without a word; the intent then stays open, and that is the truth. What differs between the places is a
 * neap_started_class; a handle embeds neap_started first. */
#ifndef NEAP_BIND_STARTED_H
#define NEAP_BIND_STARTED_H

#include "bind/stream_lua.h"
#include "script/gate.h"

typedef struct neap_started neap_started;

typedef struct neap_started_class {
    const char *meta, *prefix;                /* the name of the metatable; what its functions are called by in functions.def */
    neap_stream *(*stream)(neap_started *s, int n);
    void (*end)(neap_started *s, lua_Integer grace_ms);          /* TERM to its group, the grace, KILL */
    int  (*result)(lua_State *L, neap_started *s);               /* [-0, +n, e] how it ended: into the journal, and onto the stack */
    void (*pid)(lua_State *L, neap_started *s);                  /* [-0, +1, m] */
    void (*tell)(lua_State *L, neap_started *s);                 /* [-0, +1, m] what it is: "pg_dump on hermes" */
    void (*let_go)(neap_started *s);          /* of what runs, or ran */
    void (*drop)(neap_started *s);            /* what the handle has beside that; NULL: nothing */
    bool closes;                              /* the end of the scope lets go at once, not the collector later */
} neap_started_class;

struct neap_started {
    const neap_started_class *class;
    neap_gate *gate;                          /* of start, kept by a user value of the handle */
    neap_op *waiter;
    bool open, over, on_request;              /* on_request: it was asked to end while it ran */
};

enum { NEAP_STARTED_GRACE_MS = 5000, NEAP_STARTED_VALUES = 4 };

/* [-0, +1, m] a handle of `size` bytes, zeroed, of the op at `op_index`; `more` user values of its own follow NEAP_STARTED_VALUES. */
void *neap_started_new(lua_State *L, size_t size, const neap_started_class *class, neap_gate *gate, int op_index, int more);
/* [-0, +0, m] it runs: its three streams become user values of the handle at `index`. */
void neap_started_open_streams(lua_State *L, int index);
/* It is over: whoever waits is told. */
void neap_started_end(neap_started *s);
/* Let go of it; closed already: nothing. */
void neap_started_close(neap_started *s);

#endif
