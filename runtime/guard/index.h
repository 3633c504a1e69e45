/* index.h -- the list of runs. One small SQLite file that several runs write (journal_mode=TRUNCATE,
 * synchronous=EXTRA: never WAL with several writers below SQLite 3.51.3), and that can be thrown away: neap_index_rebuild
 * reads it back from the evidence files. Unfinished runs are found through a partial index, so start-up stays flat.
 *
 * Unfinished are the statuses "running", "held" and "unknown": those keep their targets. */
#ifndef NEAP_GUARD_INDEX_H
#define NEAP_GUARD_INDEX_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

typedef struct neap_index_row {
    const char *run, *runbook, *environment, *user, *host, *status;   /* status "running" until it is sealed or left in debt;
                                                                         "damaged" when a rebuild could not read the evidence */
    const char *targets;          /* JSON list of the targets' lock keys */
    int64_t started_ms, ended_ms; /* ended 0: not yet */
    const char *hash;             /* of the sealed file, "" before */
    const char *head;             /* hash of the last record, "" before */
    int64_t records;
} neap_index_row;

typedef bool (*neap_index_fn)(void *arg, const neap_index_row *row);     /* false: enough */

bool neap_index_put(const char *state, const neap_index_row *row, neap_err *err);        /* insert or replace */
/* What sealing says: status, end, hash, head and records, the others are not looked at. `listed` false: the run is not there, and nothing was written. */
bool neap_index_end(const char *state, const neap_index_row *row, bool *listed, neap_err *err);
/* The same of a run that is listed; else the whole row. */
bool neap_index_note(const char *state, const neap_index_row *row, neap_err *err);
/* Newest first; limit 0: all. */
bool neap_index_each(const char *state, bool unfinished_only, int limit, neap_index_fn each, void *arg, neap_err *err);
bool neap_index_find(const char *state, const char *prefix, neap_index_fn each, void *arg, neap_err *err);   /* run id or prefix of it */
bool neap_index_remove(const char *state, const char *run, neap_err *err);
bool neap_index_rebuild(const char *state, int *runs, neap_err *err);
/* The query that neap_index_each runs, so that a test can ask SQLite for its plan. */
const char *neap_index_query(bool unfinished_only);

#endif
