/* redis_open.c -- dial, say who we are, learn who answers.
 *
 *   dial ─► [AUTH] [SELECT] CLIENT SETNAME, INFO, ROLE, ACL WHOAMI in one flight ─► open
 *
 * AUTH and SELECT must succeed. The rest a restricted user or an old server may refuse: then that much of the identity is unknown, and
 * the card says so. PING stands in for AUTH when there is no password, so that a server that wants one says it now. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "drive/redis_private.h"

enum { ANSWER_AUTH, ANSWER_SELECT, ANSWER_NAME, ANSWER_INFO, ANSWER_ROLE, ANSWER_USER, ANSWERS };

void neap_redis_identity_close(neap_redis_identity *who) {
    free(who->run_id);
    free(who->version);
    free(who->mode);
    free(who->user);
    free(who->role);
    *who = (neap_redis_identity){.keys = -1};
}

void neap_redis_tell_ready(neap_redis *c, const neap_err *err) {
    neap_redis_ready_fn ready = c->ready;
    c->ready = NULL;
    if (c->password) explicit_bzero(c->password, strlen(c->password));
    free(c->password);
    free(c->user);
    free(c->application);
    c->password = c->user = c->application = NULL;
    if (ready) ready(c->ready_arg, err);
}

/* ---- what INFO says ---- */

static char *field(const neap_redis_value *info, const char *name) {
    size_t len = strlen(name);
    for (const char *line = info->text; line; line = strchr(line, '\n'), line += line != NULL) {
        if (strncmp(line, name, len) != 0 || line[len] != ':') continue;
        return neap_strndup(line + len + 1, strcspn(line + len + 1, "\r\n"));
    }
    return NULL;
}

static long long keys_of(const neap_redis_value *info, int db) {
    char name[24];
    snprintf(name, sizeof name, "db%d", db);
    char *text = field(info, name);
    long long keys = text && strncmp(text, "keys=", 5) == 0 ? atoll(text + 5) : 0;
    free(text);
    return keys;
}

static void learn_info(neap_redis *c, const neap_redis_value *v) {
    if (v->type != NEAP_REDIS_STRING) return;
    c->who.asked = true;
    c->who.run_id = field(v, "run_id");
    c->who.version = field(v, "redis_version");
    c->who.mode = field(v, "redis_mode");
    if (!c->who.role) c->who.role = field(v, "role");
    c->who.keys = keys_of(v, c->db);
}

static void learn_role(neap_redis *c, const neap_redis_value *v) {
    const neap_redis_value *role = neap_redis_item(v, 0);
    if (!role || role->type != NEAP_REDIS_STRING) return;
    free(c->who.role);
    c->who.role = neap_strdup(role->text);
}

/* ---- the flight ---- */

/* A user who may not even PING is let in: nothing but AUTH and SELECT must be allowed. */
static void turned_away(neap_redis *c, int answer, const neap_redis_value *v) {
    bool asked = answer == ANSWER_AUTH ? c->password != NULL : c->db != 0;
    neap_err err = NEAP_ERR_INIT;
    if (c->greeting.code || !neap_redis_refusal(&err, v)) return;
    if (!asked && err.code == NEAP_E_REFUSED && strncmp(v->text, "NOPERM", 6) == 0) neap_err_close(&err);
    else if (answer == ANSWER_SELECT && err.code == NEAP_E_REMOTE)
        neap_err_hint(&err, "The server has no database %d; a cluster has only 0.", c->db);
    else if (err.code == NEAP_E_REFUSED && answer == ANSWER_AUTH) err.code = NEAP_E_AUTH;
    neap_err_move(&c->greeting, &err);
}

static void on_answer(void *arg, const neap_redis_value *v, const neap_err *err) {
    neap_redis *c = arg;
    int answer = c->answers++;
    if (err) return;                               /* dying tells who waits */
    if (answer <= ANSWER_SELECT) turned_away(c, answer, v);
    if (answer == ANSWER_INFO) learn_info(c, v);
    if (answer == ANSWER_ROLE) learn_role(c, v);
    if (answer == ANSWER_USER && v->type == NEAP_REDIS_STRING) c->who.user = neap_strdup(v->text);
    if (c->answers < ANSWERS) return;
    if (c->greeting.code) {
        neap_redis_die(c, &c->greeting);
        return;
    }
    c->state = REDIS_OPEN;
    neap_redis_tell_ready(c, NULL);
}

/* A name has no spaces and only printable characters. */
static char *name_of(const char *application) {
    char *name = neap_strdup(*application ? application : "neap");
    for (char *at = name; *at; at++)
        if (*at <= ' ' || *at > '~') *at = '_';
    return name;
}

static void greet(neap_redis *c) {
    char db[16], *name = name_of(c->application);
    int64_t left = c->until_ms - neap_clock_mono_ms();
    const char *const ping[] = {"PING", NULL}, *const alone[] = {"AUTH", c->password, NULL}, *const both[] = {"AUTH", c->user, c->password, NULL};
    snprintf(db, sizeof db, "%d", c->db);
    const char *const select[] = {"SELECT", db, NULL}, *const setname[] = {"CLIENT", "SETNAME", name, NULL}, *const info[] = {"INFO", NULL},
               *const role[] = {"ROLE", NULL}, *const whoami[] = {"ACL", "WHOAMI", NULL};
    const char *const *const flight[ANSWERS] = {!c->password ? ping : c->user ? both : alone, c->db ? select : ping, setname, info, role, whoami};
    c->state = REDIS_GREETING;
    c->secret = c->password != NULL;
    for (int i = 0; i < ANSWERS && c->state == REDIS_GREETING; i++) neap_redis_ask(c, flight[i], left > 1 ? left : 1, on_answer, c);
    free(name);
}

static void on_dialed(void *arg, neap_stream *stream, const neap_err *err) {
    neap_redis *c = arg;
    neap_redis_enter(c);
    c->dialing = NULL;
    c->stream = stream;
    if (stream) greet(c);
    else neap_redis_die(c, err);
    neap_redis_start_reading(c);
    neap_redis_leave(c);
}

void neap_redis_dial_late(neap_redis *c) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_UNREACHABLE, "Redis at %s did not take a connection in time", c->dialer->label);
    err.retry = true;
    neap_redis_die(c, &err);
    neap_err_close(&err);
}

void neap_redis_connect(neap_redis *c, neap_dialer *dialer, const neap_redis_login *login, neap_redis_ready_fn ready, void *arg) {
    c->dialer = neap_dialer_hold(dialer);
    c->user = login->user ? neap_strdup(login->user) : NULL;
    c->password = login->password ? neap_strdup(login->password) : NULL;
    c->application = neap_strdup(login->application ? login->application : "neap");
    c->db = login->db;
    c->until_ms = neap_clock_mono_ms() + login->within_ms;
    c->ready = ready;
    c->ready_arg = arg;
    c->state = REDIS_DIALING;
    neap_redis_wake_at(c, c->until_ms);
    c->dialing = neap_dial(dialer, on_dialed, c);
}
