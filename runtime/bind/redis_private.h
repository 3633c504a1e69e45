/* redis_private.h -- what the files redis_*.c of this folder share. Nobody else includes it.
 *
 *   redis_lua.c    handles, opening, the module table     redis_op.c     one request of Lua: its words, its answers
 *   redis_value_lua.c  answers as Lua values              redis_read.c   read, pipeline, scan
 *   redis_write.c  write, remove, transaction             redis_sweep_lua.c  remove_matching
 *   redis_lock.c   locks and holds
 */
#ifndef NEAP_BIND_REDIS_PRIVATE_H
#define NEAP_BIND_REDIS_PRIVATE_H

#include <lauxlib.h>
#include <lua.h>

#include "drive/redis.h"
#include "drive/redis_lease.h"
#include "drive/redis_sweep.h"
#include "guard/redis_fence.h"
#include "script/gate.h"
#include "script/raise.h"
#include "script/task.h"

enum { REDIS_STAGE_ROLE = 1, REDIS_FLAGS = 128, REDIS_WITHIN_MS = 30000, REDIS_CONNECT_MS = 15000 };

/* What Lua holds: created closed, then opened; lives on, closed, when the connection is lost. */
typedef struct redis_handle {
    neap_redis  *redis;           /* NULL before open and after close */
    neap_lease  *lease;           /* the lock, while it is held over this connection */
    neap_loop   *loop;
    neap_dialer *dialer;
    char        *role, *host, *application, *user, *acting, *subject;
    int          db;
    bool         enforced;        /* the user's own ACL keeps it from writing */
    int64_t      within_ms;       /* for one command */
    const neap_sweep_tally *sweeping;    /* of the remove_matching under way; NULL: none */
    int64_t      to_sweep;        /* keys it counted before; 0: not known */
    struct { char *name; unsigned flags; } known[REDIS_FLAGS];
    int          known_count;
} redis_handle;

typedef struct redis_command { int argc; char **argv; size_t *lens; } redis_command;

/* One request: some commands, answered in order. */
typedef struct redis_op redis_op;
struct redis_op {
    neap_gate gate;               /* first */
    redis_handle *h;
    redis_command *commands;
    neap_redis_value **values;    /* one for each */
    int       count, answers;
    char    **spelled;            /* for policy: each command whole, NULL-terminated; NULL: nobody asks */
    char     *text, *subject;     /* what people are shown; of what reaches beyond the database, or NULL */
    neap_buf  plan;
    neap_err  err;
    int       stage, asked;       /* asked: the command whose flags or permission were asked for last */
    bool      listed, atomic;     /* a list of answers is wanted; wrapped in MULTI … EXEC */
    neap_redis_value *side;       /* an answer beside the commands: ROLE, COMMAND INFO, ACL DRYRUN, EXEC */
};

/* ---- handles ---- */

redis_handle *neap_redis_to_handle(lua_State *L, int index);
redis_handle *neap_redis_check_handle(lua_State *L, int index);      /* raises when closed */
bool neap_redis_is_preview(lua_State *L);

/* ---- ops: redis_op.c ---- */

/* [-0, +1, e] an op; its commands come with the next two. Raises for words that are none. */
redis_op *neap_redis_op_new(lua_State *L, size_t size, const neap_op_class *class, redis_handle *h, neap_primitive primitive);
void neap_redis_op_words(lua_State *L, redis_op *op, int first);      /* one command: the arguments from `first` on */
void neap_redis_op_list(lua_State *L, redis_op *op, int index);       /* a list of lists */
/* Make the text that people are shown and policies are held against. */
void neap_redis_op_show(redis_op *op);
/* For policy: what people are shown is cut, and of a list only the first command begins its text. */
void neap_redis_op_spell(lua_State *L, redis_op *op);
neap_redis_words neap_redis_words_of(const redis_command *c);
void neap_redis_op_drop(neap_op *op);
/* Reads: the connection is given up at once. Writes are let finish until they are forced. */
void neap_redis_op_cancel(neap_op *op, bool force);
void neap_redis_op_cancel_write(neap_op *op, bool force);
void neap_redis_op_error(redis_op *op, const neap_err *err);         /* keep the first */
bool neap_redis_op_alive(redis_op *op);                              /* false and op->err when the connection is gone */
/* Send what is in the commands, with MULTI and EXEC around them when atomic; finishes the op. */
void neap_redis_op_send(redis_op *op);
/* Send something beside them; its answer is in op->side when the op is delivered. */
int neap_redis_op_aside(lua_State *L, redis_op *op, int argc, const char *const *argv, const size_t *lens, int stage);
/* [-0, +n, m] the answers: one value, nil and an error, or the list. */
int neap_redis_op_push(lua_State *L, redis_op *op);

/* ---- values: redis_value_lua.c ---- */

/* [-0, +1, m] the value; an error as an error table. */
void neap_redis_push_value(lua_State *L, const neap_redis_value *v);
/* [-0, +1, m] the same for a place in a list, where nil is native.null. */
void neap_redis_push_item(lua_State *L, const neap_redis_value *v);

/* ---- writes: redis_write.c, for remove_matching too ---- */

int  neap_redis_write_prepare(lua_State *L, neap_gate *g);           /* ask for the role, with REDIS_STAGE_ROLE */
int  neap_redis_write_intend(lua_State *L, redis_op *op);            /* from the deliver of that */
void neap_redis_write_lost(redis_op *op);                            /* the op's error becomes {unknown} */

/* ---- methods, by file ---- */

extern const luaL_Reg neap_redis_read_methods[], neap_redis_write_methods[], neap_redis_sweep_methods[], neap_redis_lock_methods[];
/* [-0, +0, m] the metatable of what `scan` hands out. */
void neap_redis_open_scan(lua_State *L);

#endif
