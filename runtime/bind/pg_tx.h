/* pg_tx.h -- what pg_tx.c and pg_many.c share: a transaction that Lua holds. */
#ifndef NEAP_BIND_PG_TX_H
#define NEAP_BIND_PG_TX_H

#include "bind/pg_private.h"

typedef struct pg_tx {
    pg_handle *h;                 /* NULL once it is over */
    pg_turn   *turn;
    pg_op     *begin;             /* whose gate gets the outcome; kept alive by a user value */
    char      *xid;
    long long  changed;
    bool       secret;            /* a parameter of one of its statements was: a deferred constraint speaks at COMMIT */
    bool       failed;            /* a statement failed: nothing but a rollback is left */
} pg_tx;

/* [-0, +0, e] argument 1: open, and used by the clause that acts. */
pg_tx *neap_pg_check_tx(lua_State *L);

/* tx:exec_many(sql, list); pg_many.c. */
int neap_pg_exec_many(lua_State *L);

#endif
