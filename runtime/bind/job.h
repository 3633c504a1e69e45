/* job.h -- a blocking call of a binding: run on the pool, waited for by an op, able to outlive it.
 *
 * A pool thread cannot be stopped, but an op must let go when its grace has passed. So the job owns everything the
 * thread touches, and is freed by whoever comes last: the op that drops it or the thread that finishes it. */
#ifndef NEAP_BIND_JOB_H
#define NEAP_BIND_JOB_H

#include "base/err.h"
#include "drive/disk.h"
#include "loop/loop.h"
#include "script/op.h"

typedef struct neap_job neap_job;
struct neap_job {
    void (*run)(neap_job *j);     /* on the pool; fills err */
    void (*free)(neap_job *j);    /* on the loop, once */
    neap_op *op;                  /* who waits; NULL: nobody any more */
    neap_disk_flag stop;          /* asks `run` to give up at its next piece */
    bool running;
    neap_err err;
};

/* Start `run`; the op is finished after it. A job may be started again when it has come back. */
void neap_job_start(neap_loop *loop, neap_job *j, neap_op *op);
/* For an op's cancel: ask it to stop; with `force` leave it alone and finish the op. */
void neap_job_cancel(neap_job *j, bool force);
/* For an op's drop; NULL allowed. */
void neap_job_drop(neap_job *j);

#endif
