/* pg_write.h -- what pg_write.c and pg_tx.c share: a write that may have to ask for its own end. */
#ifndef NEAP_BIND_PG_WRITE_H
#define NEAP_BIND_PG_WRITE_H

#include "bind/pg_private.h"
#include "drive/pg_fate.h"

enum { PG_FATE_MS = 60000 };

/* Evidence of this connection, and of the transaction when xid is not NULL, as JSON members. */
void neap_pg_add_evidence(neap_buf *out, const pg_handle *h, const char *xid);
/* Start asking what became of `xid`; `q` is where the inquiry is kept. */
void neap_pg_ask_fate(pg_handle *h, const char *xid, neap_pg_inquiry **q, neap_pg_fate_fn done, void *arg);
/* [-0, +1, m] {count=, rows=, tag=} of a statement's answer; NULL: it was lost, though the statement was done. */
void neap_pg_push_done(lua_State *L, const PGresult *result);
long long neap_pg_count(const PGresult *result);          /* rows changed; 0 where the tag has none */
/* False and op->err for what a write may not be: several statements, transaction control, COPY with the client, and under a
 * bound on rows what changes some that nobody counts. */
bool neap_pg_check_write(pg_op *op);
/* UPDATE, DELETE, INSERT, MERGE: what max_rows bounds. */
bool neap_pg_changes_rows(const pg_op *op);
/* op->err for a statement that changed too many rows. */
void neap_pg_too_many(pg_op *op, long long count);

/* [-0, +n, e] the whole of exec under a primitive: parameters are the arguments from `first` (0: none). The connection is
 * argument 1; `subject` NULL: its database. */
int neap_pg_exec(lua_State *L, pg_handle *h, neap_primitive primitive, const char *sql, int first, const char *subject);
/* [-0, +n, e] the same for a statement of which people, the journal among them, see `shown` instead. */
int neap_pg_exec_masked(lua_State *L, pg_handle *h, neap_primitive primitive, const char *sql, const char *shown);

#endif
