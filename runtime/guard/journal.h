/* journal.h -- the evidence of one run: an SQLite file with exactly one writer.
 *
 * What it promises
 *   - A record that neap_journal_commit has taken and reported durable survives kill -9 and power loss
 *     (WAL, synchronous=FULL; one process writes the file: with two, SQLite before 3.51.3 may lose pages when it resets the WAL).
 *   - Records form a chain: hash(n) = SHA-256(hash(n-1) ‖ seq ‖ at ‖ kind ‖ step ‖ body). Any flipped byte is found.
 *   - Appending is memory only and never waits; committing blocks and belongs on the work pool. Records
 *     appended while a commit runs belong to the next one. Adjacent records share a commit.
 *   - Before and after each commit the file is still the one that was opened, ours and 0600, else the run must stop.
 *   - On a full disk a ballast file is given up, so that the failure itself is recorded.
 *   - Sealed at the end: checkpointed, no longer in WAL mode, one plain file; its SHA-256 goes into the anchor and the index.
 *   - No body is written that has not passed neap_redact.
 *
 * Layout of the state directory (0700; files 0600):
 *   runs/<run id>/evidence.db    runs/<run id>/anchor (chain.h)    runs/<run id>/ballast    runs/<run id>/watch.sock    index.db
 */
#ifndef NEAP_GUARD_JOURNAL_H
#define NEAP_GUARD_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

typedef struct neap_journal neap_journal;

typedef struct neap_record {
    int64_t     seq;              /* from 1, without holes */
    int64_t     at_ms;            /* wall clock */
    const char *kind;             /* "run", "step", "intent", "outcome", … see stdlib/engine/record.lua */
    const char *step;             /* step id, "" outside one */
    const char *body;             /* canonical JSON object */
    bool        redacted;         /* one just appended: the body had a secret in it */
} neap_record;

typedef bool (*neap_record_fn)(void *arg, const neap_record *r);   /* false: enough */
typedef bool (*neap_record_heir)(void *arg, neap_record *r);      /* the same, and may keep a text: it is NULL then, and to be freed */

/* Make runs/<run>/ under `state` and a new evidence file in it. NULL and err (JOURNAL); nothing is left then. */
neap_journal *neap_journal_create(const char *state, const char *run, neap_err *err);
/* Open an existing one to go on writing it (resume). Verifies the chain; takes an flock on the run's directory: BUSY when
 * another process writes it. A sealed file is unsealed. */
neap_journal *neap_journal_resume(const char *state, const char *run, neap_err *err);

/* [loop thread] queue one record; returns its seq. Never fails, never waits. */
int64_t neap_journal_append(neap_journal *j, const char *kind, const char *step, const char *body);
/* Can it never write again? (False while the ballast still serves.) */
bool neap_journal_is_dead(const neap_journal *j);
/* Is there anything that is not durable yet? */
bool neap_journal_is_dirty(const neap_journal *j);
/* [loop thread] move what is queued into the batch to be committed. */
void neap_journal_take(neap_journal *j);
/* [any thread, one at a time] make the taken batch durable. False and err (JOURNAL): the run must stop.
 * After a full disk the batch and what still fits into the ballast are written all the same, and every commit answers
 * false; after any other failure the journal is dead. neap_journal_durable tells what was written. */
bool neap_journal_commit(neap_journal *j, neap_err *err);
/* [loop thread, after a commit] hand out the batch's records that are durable, then forget the batch. */
void neap_journal_settle(neap_journal *j, neap_record_heir each, void *arg);
/* seq of the newest durable record. */
int64_t neap_journal_durable(const neap_journal *j);

/* [any thread, one at a time] commit what was taken and seal; `status` ("ok", "failed", "held", "unknown", "cancelled") goes
 * with the file's hash into the index. BUSY when a reader will not let go of the file: it is then whole, but open. */
bool neap_journal_seal(neap_journal *j, const char *status, neap_err *err);
void neap_journal_free(neap_journal *j);                   /* closes without sealing; NULL allowed */

/* Read a run's records in order, without writing or checkpointing anything (also while it is being written). */
bool neap_journal_read(const char *state, const char *run, int64_t after_seq, neap_record_fn each, void *arg, neap_err *err);

/* Is a process writing this run now? A run that nobody writes and that has no end died. */
bool neap_journal_is_written(const char *state, const char *run);

/* Prove the chain and its end; for a sealed run also the file's hash against anchor and index. `head` gets the hex hash of
 * the last record. False and err (INVALID) naming the first bad record. */
bool neap_journal_verify(const char *state, const char *run, char head[65], int64_t *records, neap_err *err);

#endif
