/* pg_fate.c -- see pg_fate.h.
 *
 *   connect -> one flight of questions -> decided? done : wait -> ask again (or connect again, when the connection broke)
 *
 * The server is first proved to be the same one: same system identifier, same timeline. On another timeline the answer is
 * no evidence, because the transaction may have been committed on the branch that was left. pg_xact_status is believed only once it
 * leaves "in progress": the backend may not yet have noticed that nobody listens, and still commit.
 * Rejected: guessing from the backend's absence (it commits, then ends).
 */
#include "drive/pg_fate.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "loop/timer.h"

enum { PAUSE_MS = 200, CONNECT_MS = 5000 };
enum { ASK_SYSTEM, ASK_TIMELINE, ASK_BACKEND, ASK_XID, QUESTIONS };

struct neap_pg_inquiry {
    neap_loop  *loop;
    neap_pg    *pg;
    neap_timer *timer;
    neap_pgurl  where;                        /* pairs copied */
    char *application, *xid, *system, *start, *reason;
    int   pid, timeline;
    bool  end_it;
    int64_t until;
    neap_pg_fate_fn done;
    void *arg;
    int   answers;
    bool  same, other, running, decided;      /* proved to be the same server and timeline, a primary; another server; the backend works; the transaction's end is known */
    neap_pg_fate fate;
};

static char *copy(const char *text) { return text ? neap_strdup(text) : NULL; }

static void say(neap_pg_inquiry *q, const char *reason) {
    free(q->reason);
    q->reason = neap_strdup(reason);
}

static void finish(neap_pg_inquiry *q, neap_pg_fate fate) {
    neap_pg_fate_fn done = q->done;
    q->done = NULL;
    neap_timer_stop(q->timer);
    if (done) done(q->arg, fate, q->reason ? q->reason : "");
}

static void ask(neap_pg_inquiry *q);

static void decide(neap_pg_inquiry *q) {
    bool late = neap_clock_mono_ms() >= q->until;
    if (q->other) finish(q, NEAP_PG_FATELESS);
    else if (q->decided) finish(q, q->fate);
    else if (!q->xid && !q->running && q->answers >= QUESTIONS) finish(q, NEAP_PG_GONE);
    else if (late) finish(q, q->answers >= QUESTIONS ? NEAP_PG_RUNNING : NEAP_PG_FATELESS);
    else neap_timer_start(q->timer, PAUSE_MS);
}

static void on_system(neap_pg_inquiry *q, const PGresult *r) {
    q->same = q->system && strcmp(PQgetvalue(r, 0, 0), q->system) == 0;
    if (!q->system || q->same) return;
    q->other = true;
    say(q, "another server answers at this address");
}

static void on_timeline(neap_pg_inquiry *q, const PGresult *r) {
    bool known = q->timeline && !PQgetisnull(r, 0, 0), same = known && atoi(PQgetvalue(r, 0, 0)) == q->timeline;
    q->same = q->same && same;
    if (!known || same) return;
    q->other = true;
    say(q, "the server is on another timeline, so its answer is no evidence");
}

static void on_xid(neap_pg_inquiry *q, const PGresult *r) {
    const char *status = PQgetisnull(r, 0, 0) ? NULL : PQgetvalue(r, 0, 0);
    if (!q->xid) return;
    if (status && strcmp(status, "in progress") == 0) return;
    q->decided = true;
    if (!status) say(q, "the transaction is too old for the server to remember");
    q->fate = !status ? NEAP_PG_FATELESS : strcmp(status, "committed") == 0 ? NEAP_PG_COMMITTED : NEAP_PG_ABORTED;
}

/* A transaction "in the future" (22023) of the very server that gave its id: a crash took all of it, the id included. */
static void on_refusal(neap_pg_inquiry *q, int answer, const neap_err *err) {
    bool remote = err->code == NEAP_E_REMOTE, knew = (answer == ASK_SYSTEM && q->system) || (answer == ASK_TIMELINE && q->timeline);
    say(q, err->message ? err->message : "no answer");
    if (knew && remote) {                          /* it told before: what tells no longer may be another one */
        q->other = true;
        say(q, "the server does not say any more which one it is, so its answer is no evidence");
    }
    if (answer != ASK_XID) return;
    if (!remote) q->answers = 0;                   /* nothing was learnt */
    q->decided = q->decided || remote;
    if (remote) q->fate = q->same && strcmp(err->sqlstate, "22023") == 0 ? NEAP_PG_ABORTED : NEAP_PG_FATELESS;
}

static void on_answer(void *arg, PGresult *r, const neap_err *err) {
    neap_pg_inquiry *q = arg;
    int answer = q->answers++;
    if (!q->done) return;
    if (err) {
        on_refusal(q, answer, err);
    } else if (PQntuples(r) == 1) {
        switch (answer) {
        case ASK_SYSTEM: on_system(q, r); break;
        case ASK_TIMELINE: on_timeline(q, r); break;
        case ASK_BACKEND: q->running = atoi(PQgetvalue(r, 0, 0)) > 0, q->end_it = false; break;
        default: on_xid(q, r);
        }
    }
    if (answer == ASK_XID) decide(q);
}

#define SAME_BACKEND "FROM pg_stat_activity WHERE pid = $1::int AND pid <> pg_backend_pid()" \
    " AND to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') = $2::text"

static void send(neap_pg_inquiry *q) {
    char pid[16];
    snprintf(pid, sizeof pid, "%d", q->pid);
    const char *backend[2] = {pid, q->start ? q->start : ""}, *xid = q->xid;
    neap_pg_query questions[QUESTIONS] = {
        {"SELECT system_identifier::text FROM pg_control_system()", 0, NULL, NULL, NULL, true},
        {"SELECT CASE WHEN NOT pg_is_in_recovery() THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END",
         0, NULL, NULL, NULL, true},
        {q->end_it ? "SELECT count(pg_terminate_backend(pid)) " SAME_BACKEND : "SELECT count(*) " SAME_BACKEND, 2, backend, NULL, NULL, true},
        {"SELECT pg_xact_status($1::text::xid8)", 1, &xid, NULL, NULL, true}};
    void *args[QUESTIONS] = {q, q, q, q};
    q->answers = 0;
    q->same = false;
    neap_pg_flight(q->pg, questions, QUESTIONS, on_answer, args);
}

static void on_ready(void *arg, const neap_err *err) {
    neap_pg_inquiry *q = arg;
    if (!q->done) return;
    if (err) {
        say(q, err->message ? err->message : "the server does not answer");
        decide(q);
    } else {
        send(q);
    }
}

static void ask(neap_pg_inquiry *q) {
    if (q->pg && neap_pg_is_alive(q->pg)) {
        send(q);
        return;
    }
    neap_pg_free(q->pg);
    q->pg = neap_pg_new(q->loop);
    neap_pg_connect(q->pg, &q->where, q->application, CONNECT_MS, on_ready, q);
}

static void on_time(void *arg) { ask(arg); }

neap_pg_inquiry *neap_pg_inquire(neap_loop *loop, const neap_pgurl *where, const char *application, const neap_pg_evidence *evidence,
                                 int64_t within_ms, neap_pg_fate_fn done, void *arg) {
    neap_pg_inquiry *q = neap_zalloc(sizeof *q);
    q->loop = loop;
    for (int i = 0; i < where->count; i++) neap_pgurl_set(&q->where, where->keys[i], where->values[i]);
    q->application = neap_strdup(application);
    q->xid = copy(evidence->xid);
    q->system = copy(evidence->system);
    q->start = copy(evidence->backend_start);
    q->pid = evidence->pid;
    q->timeline = evidence->timeline;
    q->end_it = evidence->end_it;
    q->until = neap_clock_mono_ms() + within_ms;
    q->done = done;
    q->arg = arg;
    q->timer = neap_timer_new(loop, on_time, q);
    neap_timer_start(q->timer, 0);                /* never calls back before it has returned */
    return q;
}

void neap_pg_inquiry_free(neap_pg_inquiry *q) {
    if (!q) return;
    q->done = NULL;
    neap_pg_free(q->pg);
    neap_timer_free(q->timer);
    neap_pgurl_close(&q->where);
    free(q->application);
    free(q->xid);
    free(q->system);
    free(q->start);
    free(q->reason);
    free(q);
}
