/* index.h -- the list of runs. One small SQLite file that several runs write (journal_mode=TRUNCATE,
 * synchronous=EXTRA: never WAL with several writers below SQLite 3.51.3), and that can be thrown away: neap_index_rebuild
 * reads it back from the evidence files. Unfinished runs are found through a partial index, so start-up stays flat. */
#ifndef NEAP_GUARD_INDEX_H
#define NEAP_GUARD_INDEX_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

typedef struct neap_index_row {
    const char *run, *runbook, *environment, *user, *host, *status;   /* status "running" until it is sealed or left in debt */
    const char *targets;          /* JSON list of the targets' lock keys */
    int64_t started_ms, ended_ms; /* ended 0: not yet */
    const char *hash;             /* of the sealed file, "" before */
    const char *head;             /* hash of the last record, "" before */
    int64_t records;
} neap_index_row;

bool neap_index_put(const char *state, const neap_index_row *row, neap_err *err);        /* insert or replace */
bool neap_index_each(const char *state, bool unfinished_only, int limit,                 /* newest first */
                     bool (*each)(void *arg, const neap_index_row *row), void *arg, neap_err *err);
bool neap_index_find(const char *state, const char *prefix,                              /* run id or unique prefix of it */
                     bool (*each)(void *arg, const neap_index_row *row), void *arg, neap_err *err);
bool neap_index_remove(const char *state, const char *run, neap_err *err);
bool neap_index_rebuild(const char *state, int *runs, neap_err *err);

#endif
