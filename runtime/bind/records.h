/* records.h -- lists of records of the journal, and of rows of its index, for Lua. */
#ifndef NEAP_BIND_RECORDS_H
#define NEAP_BIND_RECORDS_H

#include <lua.h>
#include "guard/index.h"
#include "guard/journal.h"

/* Of records or of rows; all zero is an empty one. */
typedef struct neap_records {
    neap_record    *records;
    neap_index_row *rows;
    size_t          count, room;
} neap_records;

/* [-0, +1, m] one that the collector frees. */
neap_records *neap_records_new(lua_State *L);
void neap_records_clear(neap_records *l);

/* Callbacks of the journal and of the index: `list` gets a copy, or what was the journal's. */
bool neap_records_keep(void *list, const neap_record *r);
bool neap_records_take(void *list, neap_record *r);
bool neap_records_keep_row(void *list, const neap_index_row *r);

/* [-0, +1, e] as a list of {seq, at, kind, step, body}. Bodies that the table at `bodies` (0: none) has under their seq are taken out of it. */
void neap_records_push(lua_State *L, const neap_records *l, int bodies);
/* [-0, +1, e] */
void neap_records_push_rows(lua_State *L, const neap_records *l);

#endif
