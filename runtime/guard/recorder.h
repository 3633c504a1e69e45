/* recorder.h -- where intents and outcomes go: the small interface between the gate and a journal.
 *
 * Appending is memory only. Flushing is a wait like any other, because a journal may be remote; the SQLite journal of
 * guard/journal.h is the first implementation. An empty recorder (append NULL) is a run without a journal: a
 * preview, which has nothing to record because it does nothing. */
#ifndef NEAP_GUARD_RECORDER_H
#define NEAP_GUARD_RECORDER_H

#include <stdint.h>
#include "base/err.h"

typedef struct neap_recorder {
    /* Queue one record; its seq. */
    int64_t (*append)(void *self, const char *kind, const char *step, const char *body);
    /* Call `done` on the loop when everything appended so far is durable (err NULL) or cannot be (JOURNAL). */
    void (*flush)(void *self, void (*done)(void *arg, const neap_err *err), void *arg);
    void *self;
} neap_recorder;

#endif
