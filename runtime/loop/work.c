/* work.c -- the pool: calls that block, and names that must be looked up.
 *
 * One thing may block per job, bounded by itself; the loop goes on serving streams, deadlines and Ctrl-C. A job owns
 * its little record; whoever starts it owns the argument and keeps it alive until `done`.
 *
 * Names go through getaddrinfo of the system on the same pool, so /etc/hosts and nsswitch count. Every answer, a
 * refusal too, arrives from the loop, so that a caller is never called back before its own start returned.
 */
#include "loop/work.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/buf.h"

typedef struct job {
    uv_work_t uv;
    void (*run)(void *arg);
    void (*done)(void *arg);
    void *arg;
} job;

static void on_run(uv_work_t *uv) {
    job *j = uv->data;
    j->run(j->arg);
}

static void on_done(uv_work_t *uv, int status) {
    (void)status;                                   /* never cancelled: there is no cancel */
    job *j = uv->data;
    void (*done)(void *) = j->done;
    void *arg = j->arg;
    free(j);
    done(arg);
}

void neap_work_start(neap_loop *loop, void (*run)(void *arg), void (*done)(void *arg), void *arg) {
    job *j = neap_zalloc(sizeof *j);
    j->uv.data = j;
    j->run = run;
    j->done = done;
    j->arg = arg;
    uv_queue_work(neap_loop_uv(loop), &j->uv, on_run, on_done);
}

/* Names ------------------------------------------------------------------------------------ */

enum { ADDRESSES_MOST = 64 };

typedef struct question {
    uv_getaddrinfo_t uv;
    neap_resolve_fn done;
    void *arg;
    int refused;                                    /* libuv's error when it would not even ask */
} question;

static void add_address(char **list, int *count, const struct addrinfo *a) {
    char text[NI_MAXHOST];
    if (*count == ADDRESSES_MOST) return;
    if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) != 0) return;
    for (int i = 0; i < *count; i++)
        if (strcmp(list[i], text) == 0) return;
    list[(*count)++] = neap_strdup(text);
}

static void on_answer(uv_getaddrinfo_t *uv, int status, struct addrinfo *found) {
    question *q = uv->data;
    char *list[ADDRESSES_MOST + 1];
    int count = 0;
    for (struct addrinfo *a = found; a; a = a->ai_next) add_address(list, &count, a);
    list[count] = NULL;
    uv_freeaddrinfo(found);
    if (count) q->done(q->arg, list, NULL);
    else q->done(q->arg, NULL, status < 0 ? uv_strerror(status) : "it has no address");
    while (count) free(list[--count]);
    free(q);
}

static void no_run(void *arg) { (void)arg; }

static void refuse(void *arg) {
    question *q = arg;
    q->done(q->arg, NULL, uv_strerror(q->refused));
    free(q);
}

void neap_resolve_start(neap_loop *loop, const char *host, neap_resolve_fn done, void *arg) {
    question *q = neap_zalloc(sizeof *q);
    q->uv.data = q;
    q->done = done;
    q->arg = arg;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    q->refused = uv_getaddrinfo(neap_loop_uv(loop), &q->uv, on_answer, host, NULL, &hints);
    if (q->refused) neap_work_start(loop, no_run, refuse, q);
}
