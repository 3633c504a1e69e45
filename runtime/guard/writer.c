/* writer.c -- group commit; writer.h says what it promises.
 *
 *     IDLE ──flush, or the lag has passed──► COMMITTING (on the pool) ──► settle, call back ──waiters left──► COMMITTING
 *                                                                                           └─else──► IDLE
 *     seal: waits for IDLE, then SEALING (on the pool) ──► the end
 *     free: at IDLE at once; else the running job's end frees
 *
 * Callbacks may flush, seal or free again; so the list of those to be called is cut off first, and
 * `calling` keeps the writer alive until the last of them has returned.
 *
 * Rejected: committing on every append (a step would cost four syncs instead of two), and a thread of our own (the pool's
 * is as good, and libuv already knows how to wait for it). */
#include "guard/writer.h"

#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "loop/timer.h"
#include "loop/work.h"

typedef struct waiter {
    struct waiter   *next;
    int64_t          seq;         /* durable from here on is enough */
    neap_writer_done done;
    void            *arg;
} waiter;

struct neap_writer {
    neap_loop    *loop;
    neap_journal *journal;
    neap_timer   *lag;
    bool          lagging;        /* the timer runs */
    bool          busy;           /* a job is on the pool */
    bool          freed;          /* somebody called free meanwhile */
    int           calling;
    int64_t       last;           /* seq of the newest record */
    waiter       *waiters;        /* oldest first */
    void        (*on_durable)(void *arg, neap_record *r);
    void         *arg;
    neap_err      failed;         /* of the first commit that failed */
    neap_err      job_err;        /* of the job on the pool */
    char         *seal_status;    /* seal as soon as idle; NULL: no */
    waiter        sealer;
    bool          sealing;        /* the job on the pool is the seal */
    bool          sealed;
};

static const char SEALED_ALREADY[] = "the journal is sealed already";

static void start(neap_writer *w);

static void release(neap_writer *w) {
    if (w->busy || w->calling) return;
    neap_journal_free(w->journal);
    neap_err_close(&w->failed);
    neap_err_close(&w->job_err);
    free(w->seal_status);
    free(w);
}

/* ---- calling back ---- */

static void call_all(neap_writer *w, waiter *list, const neap_err *err) {
    w->calling++;
    for (waiter *next; list; list = next) {
        next = list->next;
        list->done(list->arg, err);
        free(list);
    }
    w->calling--;
}

/* Cut off those whose records are durable; all of them once the journal has failed. */
static waiter *cut_ready(neap_writer *w) {
    waiter *first = w->waiters, **p = &first;
    int64_t durable = neap_journal_durable(w->journal);
    while (*p && (w->failed.code || (*p)->seq <= durable)) p = &(*p)->next;
    w->waiters = *p;
    *p = NULL;
    return first;
}

static bool tell_record(void *arg, neap_record *r) {
    neap_writer *w = arg;
    if (!w->freed) w->on_durable(w->arg, r);
    return !w->freed;
}

static void settle(neap_writer *w) {
    bool news = w->on_durable && !w->freed;
    w->calling++;
    neap_journal_settle(w->journal, news ? tell_record : NULL, w);
    if (news && !w->freed) w->on_durable(w->arg, NULL);
    w->calling--;
}

/* ---- the job ---- */

static void run_job(void *arg) {
    neap_writer *w = arg;
    if (w->sealing) neap_journal_seal(w->journal, w->seal_status, &w->job_err);
    else neap_journal_commit(w->journal, &w->job_err);
}

static void refuse_sealed(neap_writer *w, neap_writer_done done, void *arg) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_JOURNAL, SEALED_ALREADY);
    done(arg, w->failed.code ? &w->failed : &err);
    neap_err_close(&err);
}

/* Whoever waits for what was appended meanwhile waits for nothing, and is told so. */
static void finish_seal(neap_writer *w, const neap_err *err) {
    waiter *late = w->waiters;
    neap_err sealed = NEAP_ERR_INIT;
    neap_err_set(&sealed, NEAP_E_JOURNAL, SEALED_ALREADY);
    w->waiters = NULL;
    w->sealed = true;
    w->calling++;
    if (!w->freed) w->sealer.done(w->sealer.arg, err);
    call_all(w, late, err ? err : &sealed);
    w->calling--;
    neap_err_close(&sealed);
}

static void on_job(void *arg) {
    neap_writer *w = arg;
    bool sealing = w->sealing;                       /* whoever is called may begin the next job */
    neap_err err = NEAP_ERR_INIT;
    neap_err_move(&err, &w->job_err);
    w->busy = false;
    if (err.code) neap_err_keep(&w->failed, &err);
    settle(w);
    if (!w->freed) call_all(w, cut_ready(w), w->failed.code ? &w->failed : NULL);
    if (sealing) finish_seal(w, err.code ? &err : NULL);
    neap_err_close(&err);
    if (w->freed) release(w);
    else start(w);
}

static void submit(neap_writer *w) {
    neap_timer_stop(w->lag);
    w->lagging = false;
    w->busy = true;
    neap_journal_take(w->journal);
    neap_work_start(w->loop, run_job, on_job, w);
}

/* What is to be done next, if anything may be done now. */
static void start(neap_writer *w) {
    if (w->busy || w->sealed) return;
    w->sealing = w->seal_status != NULL;
    if (w->sealing || w->waiters) {
        submit(w);
    } else if (neap_journal_is_dirty(w->journal) && !w->lagging) {
        w->lagging = true;
        neap_timer_start(w->lag, NEAP_WRITER_LAG_MS);
    }
}

static void on_lag(void *arg) {
    neap_writer *w = arg;
    w->lagging = false;
    if (!w->busy && !w->sealed && neap_journal_is_dirty(w->journal)) submit(w);
}

/* ---- what writer.h offers ---- */

neap_writer *neap_writer_new(neap_loop *loop, neap_journal *j, void (*on_durable)(void *arg, neap_record *r), void *arg) {
    neap_writer *w = neap_zalloc(sizeof *w);
    w->loop = loop;
    w->journal = j;
    w->last = neap_journal_durable(j);
    w->on_durable = on_durable;
    w->arg = arg;
    w->failed = w->job_err = (neap_err)NEAP_ERR_INIT;
    w->lag = neap_timer_new(loop, on_lag, w);
    return w;
}

int64_t neap_writer_append(neap_writer *w, const char *kind, const char *step, const char *body) {
    if (w->sealed || w->freed || neap_journal_is_dead(w->journal)) return 0;
    w->last = neap_journal_append(w->journal, kind, step, body);
    start(w);
    return w->last;
}

void neap_writer_flush(neap_writer *w, neap_writer_done done, void *arg) {
    bool done_already = !w->failed.code && neap_journal_durable(w->journal) >= w->last;
    if (done_already || (w->failed.code && !neap_journal_is_dirty(w->journal))) {
        done(arg, w->failed.code ? &w->failed : NULL);
        return;
    }
    if (w->sealed) {                                 /* appended while it was being sealed: that was the last commit */
        refuse_sealed(w, done, arg);
        return;
    }
    waiter *me = neap_zalloc(sizeof *me), **p = &w->waiters;
    *me = (waiter){.seq = w->last, .done = done, .arg = arg};
    while (*p) p = &(*p)->next;
    *p = me;
    start(w);
}

void neap_writer_seal(neap_writer *w, const char *status, neap_writer_done done, void *arg) {
    if (w->sealed || w->seal_status) {
        refuse_sealed(w, done, arg);
        return;
    }
    w->sealer = (waiter){.done = done, .arg = arg};
    w->seal_status = neap_strdup(status);
    start(w);
}

void neap_writer_free(neap_writer *w) {
    if (!w || w->freed) return;
    neap_err err = NEAP_ERR_INIT;
    waiter *list = w->waiters;
    w->freed = true;
    w->waiters = NULL;
    neap_timer_free(w->lag);
    neap_err_set(&err, NEAP_E_JOURNAL, "the journal was closed before this was durable");
    call_all(w, list, &err);
    if (w->seal_status && !w->sealed) {
        w->calling++;
        w->sealer.done(w->sealer.arg, &err);
        w->calling--;
    }
    neap_err_close(&err);
    release(w);
}

static int64_t recorder_append(void *self, const char *kind, const char *step, const char *body) {
    return neap_writer_append(self, kind, step, body);
}

static void recorder_flush(void *self, neap_writer_done done, void *arg) { neap_writer_flush(self, done, arg); }

neap_recorder neap_writer_recorder(neap_writer *w) { return (neap_recorder){recorder_append, recorder_flush, w}; }
bool neap_writer_is_recorder(const neap_recorder *r) { return r->append == recorder_append; }
