/* task_private.h -- the body of a task, shared by task.c (life) and op.c (waiting). */
#ifndef NEAP_SCRIPT_TASK_PRIVATE_H
#define NEAP_SCRIPT_TASK_PRIVATE_H

#include "loop/timer.h"
#include "script/task.h"

struct neap_task {
    neap_list   link;             /* in host->ready while READY */
    neap_host  *host;
    lua_State  *thread;
    int         anchor;           /* registry reference that keeps the thread (and with it the op) alive */
    int         references;       /* handles in Lua, joiners, and 1 while it is not done */
    int         arguments;        /* values on the thread's stack for the first resume */
    neap_scope  scope;
    neap_op    *op;               /* what it waits for */
    neap_timer *timer;            /* deadline, later grace */
    int64_t     deadlines[NEAP_TASK_DEADLINES];
    int         depth;
    neap_code   stop;             /* why the wait is being stopped: TIMEOUT, CANCELLED, or OK */
    char       *reason;           /* of a cancel that was asked for and not yet raised */
    bool        done, failed;
    neap_list   joiners;          /* join ops that wait for the end */
};

void neap_task_ready(neap_task *task);
/* The join op behind a node of `joiners`. */
neap_op *neap_task_joiner(neap_list *link);
/* The nearest deadline in loop milliseconds, 0 when there is none. */
int64_t neap_task_nearest(const neap_task *task);
/* It is told now that it must stop. What unwinds may wait, but not for ever: deadlines that have passed move to the end of the
 * grace, and a cancelled task gets the grace as one more. */
void neap_task_grant_grace(neap_task *task, neap_code why);

#endif
