/* job.c -- see job.h. */
#include "bind/job.h"

#include "loop/work.h"

static void run(void *arg) {
    neap_job *j = arg;
    j->run(j);
}

static void done(void *arg) {
    neap_job *j = arg;
    j->running = false;
    if (j->op) neap_op_finish(j->op);
    else j->free(j);
}

void neap_job_start(neap_loop *loop, neap_job *j, neap_op *op) {
    j->op = op;
    j->running = true;
    neap_err_close(&j->err);
    neap_work_start(loop, run, done, j);
}

void neap_job_cancel(neap_job *j, bool force) {
    atomic_store(&j->stop, true);
    if (force && j->op) neap_op_finish(j->op);
}

void neap_job_drop(neap_job *j) {
    if (!j) return;
    j->op = NULL;
    if (!j->running) j->free(j);
}
