/* redis_private.h -- what the files redis*.c of this folder share. Nobody else includes it.
 *
 *   redis.c  the connection: life, queue, deadlines     redis_open.c  the greeting      redis_watch.c  is the far end still there?
 */
#ifndef NEAP_DRIVE_REDIS_PRIVATE_H
#define NEAP_DRIVE_REDIS_PRIVATE_H

#include "base/list.h"
#include "drive/redis.h"
#include "loop/timer.h"

typedef enum { REDIS_NEW, REDIS_DIALING, REDIS_GREETING, REDIS_OPEN, REDIS_DEAD } redis_state;

/* One command between `send` and its `done`. */
typedef struct redis_request {
    neap_list node;
    neap_redis_done_fn done;
    void *arg;
    int64_t since_ms, until_ms;   /* monotonic */
    const char *name;             /* the command's, for messages; owned */
} redis_request;

struct neap_redis {
    neap_loop    *loop;
    neap_dialer  *dialer;
    neap_dialing *dialing;        /* the connection's own dial */
    neap_stream  *stream;
    neap_redis_reader *reader;
    redis_state   state;
    neap_list     waiting;        /* of redis_request: sent or to be sent, in the order of their answers */
    neap_buf      out, leaving;   /* to be written, and what the stream is writing */
    bool          writing, reading;
    neap_timer   *timer;          /* the nearest deadline or probe */
    int64_t       timer_ms;       /* when it fires; 0: it is off */
    neap_redis_value *current;    /* the answer a callback is looking at */
    neap_dialing *probe;          /* a second dial under way */
    int64_t       probe_since_ms, probed_ms;
    int64_t       heard_ms;       /* when bytes last came */
    int           pings;          /* of those that wait, ours */
    neap_redis_identity who;
    int           db, answers;    /* greeting */
    neap_err      greeting;       /* why it was turned away */
    char         *user, *password, *application;
    int64_t       until_ms;       /* the greeting's deadline */
    bool          secret;         /* what is being written holds a password */
    neap_redis_ready_fn ready;
    void         *ready_arg;
    int           busy;           /* depth of our own calls: freeing is put off until 0 */
    bool          doomed;
};

/* redis.c */
void neap_redis_enter(neap_redis *c);
void neap_redis_leave(neap_redis *c);                        /* may free c */
void neap_redis_die(neap_redis *c, const neap_err *err);
void neap_redis_wake_at(neap_redis *c, int64_t at_ms);       /* the timer fires then, or before */
void neap_redis_start_reading(neap_redis *c);
/* redis_open.c */
void neap_redis_dial_late(neap_redis *c);                   /* the deadline passed while dialing */
void neap_redis_tell_ready(neap_redis *c, const neap_err *err);
void neap_redis_identity_close(neap_redis_identity *who);
/* redis_watch.c */
void neap_redis_watch(neap_redis *c, int64_t now_ms);        /* due: probe the far end, or find it gone */
void neap_redis_rest(neap_redis *c, int64_t now_ms);         /* nobody waits: ask, when the way has no keepalive of its own */
void neap_redis_watch_stop(neap_redis *c);

#endif
