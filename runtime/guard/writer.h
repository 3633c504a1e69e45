/* writer.h -- a journal on the loop: many tasks wait for durability, one commit runs at a time on the work pool.
 *
 * Whoever flushes while a commit runs joins the next one, so a hundred tasks cost two commits, not a hundred. What nobody
 * flushes is committed after NEAP_WRITER_LAG_MS, so that views lag at most that. After a commit failed nothing becomes durable
 * quietly: every flush answers JOURNAL from then on. */
#ifndef NEAP_GUARD_WRITER_H
#define NEAP_GUARD_WRITER_H

#include "guard/journal.h"
#include "guard/recorder.h"
#include "loop/loop.h"

enum { NEAP_WRITER_LAG_MS = 5 };

typedef struct neap_writer neap_writer;
typedef void (*neap_writer_done)(void *arg, const neap_err *err);   /* err NULL: it is done; read it, do not close it */

/* Takes the journal over. `on_durable` is called on the loop for every durable record, in order, whose texts it may keep (neap_record_heir), and
 * after those of one commit once more with NULL; it may be NULL. */
neap_writer *neap_writer_new(neap_loop *loop, neap_journal *j, void (*on_durable)(void *arg, neap_record *r), void *arg);

/* The seq; 0 when nothing can be recorded any more. */
int64_t neap_writer_append(neap_writer *w, const char *kind, const char *step, const char *body);
/* `done` exactly once, maybe before this returns: all that was appended so far is durable, or never will be. */
void neap_writer_flush(neap_writer *w, neap_writer_done done, void *arg);
/* Flush, then seal. Only `done` may follow, then free; appending afterwards records nothing. */
void neap_writer_seal(neap_writer *w, const char *status, neap_writer_done done, void *arg);
/* Close without sealing. A commit that runs is finished first, on its own; nobody is called back any more, except
 * those who wait: they are told JOURNAL at once. NULL allowed. */
void neap_writer_free(neap_writer *w);

/* The gate's view of it; good until the writer is freed. */
neap_recorder neap_writer_recorder(neap_writer *w);
/* Did it come from there? */
bool neap_writer_is_recorder(const neap_recorder *r);

#endif
