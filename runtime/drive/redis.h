/* redis.h -- one Redis connection on the loop, over whatever stream a dialer gives. No Lua, no sockets.
 *
 *   NEW --connect--> DIALING -> GREETING -> OPEN | DEAD        DEAD is final
 *
 * Promises: commands queue, are sent ahead and answered in order; every command has a deadline and ends with exactly one `done`; after a
 * deadline passed the connection is dead, because a late answer would belong to the next question (the protocol has no ids).
 * A far end that has vanished is noticed within 30 s even while a command may take longer: a second dial asks whether it is still there
 * (a PING on the same connection would wait behind the command). No reply is larger or deeper than redis_value.h allows.
 *
 * Rejected: hiredis' own contexts and its async half, which own the socket, know no TLS and no deadlines, never report a refused
 * connection, and free themselves inside callbacks. */
#ifndef NEAP_DRIVE_REDIS_H
#define NEAP_DRIVE_REDIS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "drive/redis_value.h"
#include "loop/dial.h"
#include "loop/loop.h"

enum { NEAP_REDIS_PROBE_AFTER_MS = 8000, NEAP_REDIS_PROBE_MS = 8000 };

typedef struct neap_redis neap_redis;

/* Either value (an error of the server is a value too: neap_redis_refusal) or err. Borrowed for the call; neap_redis_keep takes it. May
 * call anything of this header, neap_redis_free too. */
typedef void (*neap_redis_done_fn)(void *arg, const neap_redis_value *value, const neap_err *err);
typedef void (*neap_redis_ready_fn)(void *arg, const neap_err *err);

typedef struct neap_redis_login {
    const char *user, *password;  /* NULL: none; a password alone is the one-argument AUTH */
    const char *application;      /* CLIENT SETNAME */
    int     db;
    int64_t within_ms;            /* for all of it, the dial too */
} neap_redis_login;

/* Who answered. What the server would not tell this user stays NULL, 0 or -1. */
typedef struct neap_redis_identity {
    char *run_id, *version, *mode, *user;
    char *role;                   /* "master", "slave", "sentinel" */
    long long keys;               /* of the database */
    bool asked;                   /* the server let us ask */
} neap_redis_identity;

neap_redis *neap_redis_new(neap_loop *loop);
/* The dialer is held as long as the connection; `login` is read before this returns. */
void neap_redis_connect(neap_redis *c, neap_dialer *dialer, const neap_redis_login *login, neap_redis_ready_fn ready, void *arg);
const neap_redis_identity *neap_redis_who(const neap_redis *c);

/* Send one command; everything is copied. */
void neap_redis_send(neap_redis *c, int argc, const char *const *argv, const size_t *lens, int64_t within_ms, neap_redis_done_fn done, void *arg);
/* The same of words that end with NUL; the list ends with NULL. */
void neap_redis_ask(neap_redis *c, const char *const *words, int64_t within_ms, neap_redis_done_fn done, void *arg);
/* Within a `done`: keep its value, which is the caller's from now on. */
neap_redis_value *neap_redis_keep(neap_redis *c);

/* Give the connection up now: everything outstanding ends with this code before the call returns. NULL allowed. */
void neap_redis_kill(neap_redis *c, neap_code code, const char *message);
bool neap_redis_is_alive(const neap_redis *c);              /* OPEN; false for NULL */
bool neap_redis_is_idle(const neap_redis *c);               /* alive, nothing outstanding */
const char *neap_redis_label(const neap_redis *c);          /* the dialer's */
/* Close and free; outstanding commands end with CANCELLED first. NULL allowed. */
void neap_redis_free(neap_redis *c);

/* redis_error.c: what the server said with "-CODE message", as an error. False when the value is no error. */
bool neap_redis_refusal(neap_err *err, const neap_redis_value *value);

#endif
