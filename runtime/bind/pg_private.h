/* pg_private.h -- what the files pg_*.c of this folder share. Nobody else includes it.
 *
 *   pg_lua.c    handles, opening, the module table      pg_value.c  answers as Lua values     pg_param.c  Lua values as parameters
 *   pg_fence.c  the fence around every read             pg_read.c   value row rows has        pg_rows.c   each, streamed
 *   pg_turn.c   who may write on a connection           pg_write.c  exec                      pg_tx.c     transactions
 *   pg_many.c   one statement many times
 *   pg_admin.c  create, drop, terminate                 pg_lock.c   locks and holds           pg_probe.c  what became of it
 *   pg_copy_lua.c  COPY as streams                      pg_role.c   roles and their passwords
 */
#ifndef NEAP_BIND_PG_PRIVATE_H
#define NEAP_BIND_PG_PRIVATE_H

#include <lauxlib.h>
#include <lua.h>

#include "base/list.h"
#include "drive/pg.h"
#include "guard/sql.h"
#include "script/gate.h"
#include "script/raise.h"
#include "script/task.h"

enum { PG_GRACE_MS = 4000, PG_NOTICES = 200, PG_NOTICE_BYTES = 8192 };

/* What Lua holds: created closed, then opened; lives on, closed, when the connection is lost. */
typedef struct pg_handle {
    neap_pg    *pg;               /* NULL before open and after close */
    neap_loop  *loop;
    neap_pgurl  where;
    char       *given_options;    /* of the URL, before ours were added; may be NULL */
    char       *role, *application, *host, *subject;
    bool        fenced;           /* reads only, each inside the fence */
    char       *snapshot;         /* what a fence begins with instead of a moment of its own; NULL: it has its own */
    bool        keeps;            /* the transaction of `each` lasts until its rows are closed, not until the last of them came */
    bool        tunnelled;        /* through a socket that stands for `host` */
    int64_t     within_ms;        /* to connect */
    int64_t     max_rows;         /* a write that changes more is rolled back; 0: no bound */
    /* who answered, known after open */
    char       *system, *database, *user, *version, *backend_start, *address;
    int         timeline;         /* 0: not known */
    bool        recovery, superuser, pooled;
    char      **functions;        /* looked up before and harmless; NULL-terminated */
    int         function_count;
    neap_list   turns;            /* of pg_turn: the first holds the connection, the others wait */
    struct { char *severity, *message; } notices[PG_NOTICES];
    int         notice_count;
} pg_handle;

/* ---- parameters ---- */

typedef struct pg_params {
    int    count;
    char **values;
    int   *lengths, *formats;
    bool   secret;                /* one of them is: what the server says about values is kept back */
    neap_buf shown;               /* "$1 = 5, $2 = ‹secret x›", without any secret */
} pg_params;

/* [-0, +0, e] arguments first..last as parameters; raises for what cannot be one. `out` must be zeroed and belong to a userdata. */
void neap_pg_check_params(lua_State *L, int first, int last, pg_params *out);
void neap_pg_params_close(pg_params *p);

/* ---- values ---- */

/* [-0, +1, m] */
void neap_pg_push_value(lua_State *L, const PGresult *result, int row, int column);
/* What is to be known of a column for each of its fields: its type, and that of its elements when it is an array (else 0). */
typedef struct pg_column { Oid type, element; } pg_column;

/* [-0, +2, m] the columns (a userdata, which keeps what is returned) and the list of their names. */
const pg_column *neap_pg_push_columns(lua_State *L, const PGresult *result);
/* [-0, +1, m] a row as a table by column name; the list of names is at `names`. */
void neap_pg_push_row(lua_State *L, const PGresult *result, int row, const pg_column *columns, int names);
/* [-0, +1, m] the list of all rows. */
void neap_pg_push_rows(lua_State *L, const PGresult *result);

/* ---- one request of Lua ---- */

typedef struct pg_op pg_op;
struct pg_op {
    neap_gate  gate;              /* first */
    pg_handle *h;
    char      *sql, *text;        /* the statement; what people are shown */
    pg_params  params;
    neap_sql   parsed;
    PGresult  *result;
    neap_err   err;
    int        stage, answers;
    void     (*then)(struct pg_op *op);   /* what follows the look-up of functions */
    bool       cancelled, repeated;
    unsigned   cancels;           /* of this connection, when it was sent last */
    bool       masked;            /* people are shown `text` wherever they would be shown `sql` */
    int        shape;
};

/* [-0, +1, m] an op of `size` for this handle with sql, text and parameters from the arguments at `first`.. */
pg_op *neap_pg_op_new(lua_State *L, size_t size, const neap_op_class *class, pg_handle *h, neap_primitive primitive,
                      const char *sql, int first);
/* Delivered: the answer goes now, not with the next collection, which does not know how much memory it holds. */
void neap_pg_op_done(pg_op *op);
void neap_pg_op_drop(neap_op *op);            /* frees all of the above */
void neap_pg_op_cancel(neap_op *op, bool force);
void neap_pg_op_error(pg_op *op, const neap_err *err);   /* keep the first */
/* [-0, +2, m] nil and the op's error, with the statement in its hint. */
int neap_pg_op_fail(lua_State *L, pg_op *op);

pg_handle *neap_pg_check_handle(lua_State *L, int index);   /* raises when closed */
pg_handle *neap_pg_check_fenced(lua_State *L, int index);
pg_handle *neap_pg_check_acting(lua_State *L, int index);
/* A query without parameters. */
neap_pg_query neap_pg_plain(const char *sql, bool sync);
/* False and op->err when the connection is gone. */
bool neap_pg_op_alive(pg_op *op);

/* ---- the fence ---- */

/* Parse the op's statement and check it; false and op->err. */
bool neap_pg_fence_parse(pg_op *op);
/* Start: look functions up, then the flight. Ends with neap_op_finish. */
void neap_pg_fence_start(pg_op *op);
/* Only the second part: `then` is called when every function is known to be harmless; else the op has its error and finishes. */
void neap_pg_fence_functions(pg_op *op, void (*then)(pg_op *op));
extern const char neap_pg_fence_begin[];
/* What follows it: from then on the mode cannot be changed. */
const char *neap_pg_fence_freeze(const pg_handle *h);
const char *neap_pg_tripwire(const pg_handle *h);
/* [-0, +n, m] the answer in the shape asked for; pg_read.c. */
int neap_pg_push_shape(lua_State *L, pg_op *op);
/* The shape of "value", "row", "rows" or "has". */
int neap_pg_shape(const char *verb);
/* Is the tripwire's answer harmless? Else op->err. */
void neap_pg_check_tripwire(pg_op *op, const PGresult *result);
bool neap_pg_was_hit_by_accident(pg_op *op, const neap_err *err);

/* ---- turns ---- */

typedef struct pg_turn {
    neap_list  node;
    pg_handle *h;                 /* NULL: given back */
    neap_op   *waiter;            /* finished when the turn comes */
    bool       open;              /* a transaction of this turn is open: giving back rolls it back */
} pg_turn;

/* [-0, +1, m] a turn, queued; to be closed with its function when `scoped`. The handle at `index` stays referenced. */
pg_turn *neap_pg_turn_new(lua_State *L, int index, pg_handle *h, bool scoped);
/* [-0, +1, m] another turn, not scoped, that stands where `from` stood; `from` is given back without a trace. */
pg_turn *neap_pg_turn_move(lua_State *L, int index, pg_turn *from);
bool neap_pg_turn_has(const pg_turn *t);
void neap_pg_turn_wait(pg_turn *t, neap_op *op);
void neap_pg_turn_end(pg_turn *t);            /* roll back what is open, let the next one go */

/* ---- methods, by file ---- */

extern const luaL_Reg neap_pg_read_methods[], neap_pg_rows_methods[], neap_pg_write_methods[], neap_pg_tx_methods[], neap_pg_admin_methods[], neap_pg_role_methods[],
    neap_pg_lock_methods[], neap_pg_copy_methods[];
int neap_pg_probe(lua_State *L);
int neap_pg_orphan(lua_State *L);
/* [-0, +0, m] the metatables of what these files hand out. */
void neap_pg_open_rows(lua_State *L);
void neap_pg_open_turn(lua_State *L);
void neap_pg_open_tx(lua_State *L);

#endif
