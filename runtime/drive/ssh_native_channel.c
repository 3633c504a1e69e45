/* ssh_native_channel.c -- channels of a session: a command, or a tunnel.
 *
 *     WAITS ──its turn──► OPENS ──► ASKS (a command) ──► LIVES ──the far end closed, or dropped──► ENDS ──closed──► over
 *        \ ◄──no room yet──/ \──────────\── refused: told ────────────────────────────────────────────/
 *
 * libssh2 keeps the state of an opening in its session, so one is under way at a time and the others wait. Tunnels to a unix socket are
 * opened by the message itself; libssh2 has a function for them only since 1.11.
 *
 * A server may count commands (MaxSessions), and counts one until its process is reaped: after its last word, and after its channel was
 * closed. So a refusal beside other commands, or soon after one, says nothing yet: it is asked again after a pause, for ROOM_MS.
 *
 * How a command ended is told once, when the far end has closed the channel and all it sent was taken. libssh2 1.10 gives status 0 also when
 * none was sent; later versions say which. A lost connection is UNTOLD, unless the outputs were complete and a
 * signal or another status than 0 had come: those are not made up.
 *
 * A channel lives as long as somebody has it or its streams; without a session it answers CLOSED. */
#include "drive/ssh_native.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { WINDOW_SIZE = 2 * 1024 * 1024, PACKET_SIZE = 32768, UNUSED_SOURCE = 99, ROOM_MS = 2000, PAUSE_MS = 5, LONGEST_PAUSE_MS = 160 };

static void destroy(neap_ssh_channel *c) {
    neap_timer_free(c->late);
    neap_err_close(&c->err);
    for (int n = 0; n < 3; n++) neap_buf_close(&c->lanes[n].left);
    neap_buf_wipe(&c->out);
    neap_buf_wipe(&c->message);
    free(c->text);
    free(c);
}

void neap_ssh_channel_release(neap_ssh_channel *c) {
    c->holders--;
    if (c->holders) return;
    if (!c->session) destroy(c);
    else neap_ssh_channel_drop(c);
}

/* Leave the session. Whoever still has the channel frees it later. */
static void detach(neap_ssh_channel *c) {
    neap_list_remove(&c->node);
    if (c->session && c->session->opening == c) c->session->opening = NULL;
    c->session = NULL;
    c->lib = NULL;
    if (!c->holders) destroy(c);
}

static void end_channel(neap_ssh_channel *c) {
    if (c->state == NEAP_SSH_ENDS) return;
    if (c->kind == NEAP_SSH_CHANNEL_EXEC && (c->state == NEAP_SSH_LIVES || c->state == NEAP_SSH_ASKS)) c->session->left_ms = neap_clock_mono_ms();
    c->state = NEAP_SSH_ENDS;
}

/* How it ended --------------------------------------------------------------------------------- */

static bool has_status(neap_ssh_channel *c) {
    int (*has)(LIBSSH2_CHANNEL *) = (int (*)(LIBSSH2_CHANNEL *))neap_libssh2_find("libssh2_channel_has_exit_status");
    return !has || has(c->lib) == 1;
}

static neap_ssh_end end_of(neap_ssh_channel *c) {
    neap_ssh_end end = {.how = NEAP_SSH_UNTOLD};
    char *name = NULL;
    size_t len = 0;
    libssh2_channel_get_exit_signal(c->lib, &name, &len, NULL, NULL, NULL, NULL);
    if (name) {
        end.how = NEAP_SSH_SIGNALLED;
        snprintf(end.signal, sizeof end.signal, "%.*s", (int)len, name);
        libssh2_free(c->session->lib, name);
    } else if (has_status(c)) {
        end.how = NEAP_SSH_EXITED;
        end.status = libssh2_channel_get_exit_status(c->lib);
    }
    return end;
}

static void tell_end(neap_ssh_channel *c, const neap_ssh_end *end, const neap_err *err) {
    neap_ssh_end_fn ended = c->ended;
    void (*ready)(void *, const neap_err *) = c->ready;
    c->ended = NULL;
    c->ready = NULL;
    if (ready) ready(c->arg, err);
    if (ended) ended(c->arg, end, err);
}

static void tell_untold(neap_ssh_channel *c, const neap_err *err) {
    neap_ssh_end end = {.how = NEAP_SSH_UNTOLD};
    tell_end(c, &end, err);
}

/* The end of a pause; without a session, what there is to tell. */
static void on_late(void *arg) {
    neap_ssh_channel *c = arg;
    c->pauses = false;
    if (c->session) {
        neap_ssh_native_kick(c->session);
        return;
    }
    c->holders++;
    if (c->ended || c->ready) tell_untold(c, &c->err);
    neap_ssh_lanes_late(c);
    neap_ssh_channel_release(c);
}

void neap_ssh_channel_tell(neap_ssh_channel *c, const neap_err *err) {
    neap_err_keep(&c->err, err);
    neap_timer_start(c->late, 0);
}

static void refuse(neap_ssh_channel *c) {
    neap_ssh_native *s = c->session;
    neap_err err = NEAP_ERR_INIT;
    char *why = NULL;
    libssh2_session_last_error(s->lib, &why, NULL, 0);
    neap_err_set(&err, NEAP_E_UNREACHABLE, "\"%s\" %s%s: %s", s->name,
                 c->kind == NEAP_SSH_CHANNEL_EXEC ? "does not start a command" : "does not connect to ", c->kind == NEAP_SSH_CHANNEL_EXEC ? "" : c->text,
                 why && *why ? why : "it gives no reason");
    err.retry = c->kind == NEAP_SSH_CHANNEL_EXEC;
    neap_err_hint(&err, c->kind == NEAP_SSH_CHANNEL_EXEC ? "The server may have reached MaxSessions for this connection." :
                  "Nobody may listen there, or the server forbids it (AllowTcpForwarding, AllowStreamLocalForwarding).");
    end_channel(c);
    neap_err_keep(&c->err, &err);
    neap_ssh_lanes_end(c, &err);
    neap_ssh_end end = {.how = NEAP_SSH_REFUSED};
    tell_end(c, &end, &err);
    neap_err_close(&err);
}

/* Opening -------------------------------------------------------------------------------------- */

static const char *type_of(const neap_ssh_channel *c) {
    static const char *const types[] = {"session", "direct-tcpip", "direct-streamlocal@openssh.com"};
    return types[c->kind];
}

static bool has_others(const neap_ssh_channel *c, int64_t now) {
    const neap_ssh_native *s = c->session;
    for (const neap_list *n = s->channels.next; n != &s->channels; n = n->next) {
        const neap_ssh_channel *other = NEAP_LIST_OF(n, neap_ssh_channel, node);
        if (other != c && other->kind == NEAP_SSH_CHANNEL_EXEC) return true;
    }
    return s->left_ms && now - s->left_ms < ROOM_MS;
}

/* Refused: is it worth asking again? */
static bool wait_for_room(neap_ssh_channel *c) {
    int64_t now = neap_clock_mono_ms();
    if (c->kind != NEAP_SSH_CHANNEL_EXEC || c->dropped || !has_others(c, now)) return false;
    if (!c->asked_ms) c->asked_ms = now;
    if (now - c->asked_ms >= ROOM_MS) return false;
    c->pause_ms = !c->pause_ms ? PAUSE_MS : c->pause_ms < LONGEST_PAUSE_MS ? 2 * c->pause_ms : LONGEST_PAUSE_MS;
    c->pauses = true;
    neap_timer_start(c->late, c->pause_ms);
    c->state = NEAP_SSH_WAITS;
    return true;
}

static void open_channel(neap_ssh_channel *c) {
    neap_ssh_native *s = c->session;
    if (c->state == NEAP_SSH_WAITS) {
        if (s->opening || s->pinging || c->pauses) return;
        s->opening = c;
        c->state = NEAP_SSH_OPENS;
    }
    const char *type = type_of(c);
    c->lib = libssh2_channel_open_ex(s->lib, type, (unsigned)strlen(type), WINDOW_SIZE, PACKET_SIZE, c->message.data, (unsigned)c->message.len);
    int rc = c->lib ? 0 : libssh2_session_last_errno(s->lib);
    if (rc == LIBSSH2_ERROR_EAGAIN) return;
    s->opening = NULL;
    s->again = true;                                 /* the next one may open */
    if (neap_ssh_is_fatal(rc)) neap_ssh_native_fail_lib(s, rc, "the connection was lost to");
    else if (!c->lib) {
        if (!wait_for_room(c)) refuse(c);
    } else if (c->kind == NEAP_SSH_CHANNEL_EXEC) c->state = NEAP_SSH_ASKS;
    else c->state = NEAP_SSH_LIVES;
    if (c->state != NEAP_SSH_LIVES) return;
    void (*ready)(void *, const neap_err *) = c->ready;
    c->ready = NULL;
    if (ready) ready(c->arg, NULL);
}

static void ask(neap_ssh_channel *c) {
    int rc = libssh2_channel_process_startup(c->lib, "exec", 4, c->text, (unsigned)strlen(c->text));
    if (rc == LIBSSH2_ERROR_EAGAIN) return;
    if (neap_ssh_is_fatal(rc)) neap_ssh_native_fail_lib(c->session, rc, "the connection was lost to");
    else if (rc) refuse(c);
    else c->state = NEAP_SSH_LIVES;
}

/* An unknown type is refused, and a refusal is a sign of life. */
static void ping(neap_ssh_native *s) {
    static const char type[] = "alive@neap";
    if (!s->asked_ms) s->asked_ms = neap_clock_mono_ms();
    LIBSSH2_CHANNEL *made = libssh2_channel_open_ex(s->lib, type, sizeof type - 1, PACKET_SIZE, PACKET_SIZE, NULL, 0);
    int rc = made ? 0 : libssh2_session_last_errno(s->lib);
    if (rc == LIBSSH2_ERROR_EAGAIN) return;
    s->pinging = false;
    if (made) libssh2_channel_free(made);
    if (neap_ssh_is_fatal(rc)) neap_ssh_native_fail_lib(s, rc, "the connection was lost to");
}

/* Living and ending ---------------------------------------------------------------------------- */

static void live(neap_ssh_channel *c) {
    if (!neap_ssh_lanes_move(c) || c->dropped) return;
    int rc = libssh2_channel_wait_closed(c->lib);
    if (neap_ssh_is_fatal(rc)) neap_ssh_native_fail_lib(c->session, rc, "the connection was lost to");
    if (rc != 0) return;
    c->closed = true;                                /* nobody takes what is written; what came may still be read */
    neap_ssh_lanes_no_writing(c);
    if (c->dropped || libssh2_channel_eof(c->lib) != 1) return;
    neap_ssh_end end = {.how = NEAP_SSH_UNTOLD};
    if (c->kind == NEAP_SSH_CHANNEL_EXEC) end = end_of(c);
    end_channel(c);
    neap_ssh_lanes_end(c, NULL);
    neap_err err = NEAP_ERR_INIT;
    if (end.how == NEAP_SSH_UNTOLD) neap_err_set(&err, NEAP_E_CLOSED, "\"%s\" closed the channel without a word about its command", c->session->name);
    tell_end(c, &end, err.code ? &err : NULL);
    neap_err_close(&err);
}

/* EAGAIN: the far end has not closed its side. It is asked again whenever something comes. A packet that is read meanwhile and is not as it
 * was sent is no error to libssh2 here, but one that is missing for other channels: only its last error tells. */
static void close_lib(neap_ssh_channel *c) {
    neap_ssh_native *s = c->session;
    if (c->lib) {
        libssh2_session_set_last_error(s->lib, 0, NULL);
        if (libssh2_channel_free(c->lib) == LIBSSH2_ERROR_EAGAIN) return;
        int rc = libssh2_session_last_errno(s->lib);
        if (neap_ssh_is_fatal(rc) && s->state == NEAP_SSH_OPEN) neap_ssh_native_fail_lib(s, rc, "the connection was lost to");
    }
    if (!s->err.code) s->again = true;
    detach(c);
}

static void step(neap_ssh_channel *c) {
    if (c->dropped && c->state != NEAP_SSH_OPENS) end_channel(c);
    if (c->state == NEAP_SSH_WAITS || c->state == NEAP_SSH_OPENS) open_channel(c);
    if (c->state == NEAP_SSH_ASKS && !c->dropped) ask(c);
    if (c->state == NEAP_SSH_LIVES && !c->dropped) live(c);
}

/* Everything that came is taken in first, also when nobody reads: an exit status, room to write, a question whether we live. */
static void take_in(neap_ssh_native *s) {
    char byte;
    for (neap_list *n = s->channels.next; n != &s->channels; n = n->next) {
        neap_ssh_channel *c = NEAP_LIST_OF(n, neap_ssh_channel, node);
        if (!c->lib || c->state == NEAP_SSH_ASKS) continue;
        ssize_t rc = libssh2_channel_read_ex(c->lib, UNUSED_SOURCE, &byte, 1);
        if (neap_ssh_is_fatal((int)rc)) neap_ssh_native_fail_lib(s, (int)rc, "the connection was lost to");
        return;
    }
}

void neap_ssh_channels_pump(neap_ssh_native *s) {
    take_in(s);
    if (s->pinging && !s->opening && !s->err.code) ping(s);
    for (neap_list *n = s->channels.next; n != &s->channels && !s->err.code && s->state == NEAP_SSH_OPEN; ) {
        neap_ssh_channel *c = NEAP_LIST_OF(n, neap_ssh_channel, node);
        c->holders++;                                /* callbacks may free it */
        step(c);
        n = n->next;
        bool ends = c->state == NEAP_SSH_ENDS;
        if (--c->holders == 0) c->dropped = true;
        if (ends && !s->err.code) close_lib(c);
    }
}

void neap_ssh_channel_drop(neap_ssh_channel *c) {
    if (c->dropped) return;
    c->dropped = true;
    c->ended = NULL;
    c->ready = NULL;
    for (int n = 0; n < 3; n++) neap_buf_close(&c->lanes[n].left);
    c->holders++;
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CLOSED, "the channel was closed");
    neap_err_keep(&c->err, &err);
    neap_ssh_lanes_end(c, &err);
    neap_err_close(&err);
    c->holders--;
    if (c->session) neap_ssh_native_kick(c->session);
}

/* One channel of a session that was lost. What libssh2 has of it is whole up to there, unless a packet was not as it was sent: what it reads
 * behind that has a hole before it. */
static void lose(neap_ssh_channel *c, const neap_err *err) {
    bool asked = c->state == NEAP_SSH_ASKS || c->state == NEAP_SSH_LIVES;
    neap_ssh_end end = {.how = asked ? NEAP_SSH_UNTOLD : NEAP_SSH_REFUSED};
    if (c->lib && c->state == NEAP_SSH_LIVES && !c->dropped && !c->session->garbled) {
        neap_ssh_lanes_salvage(c);
        if (c->kind == NEAP_SSH_CHANNEL_EXEC && libssh2_channel_eof(c->lib) == 1) end = end_of(c);
        if (end.how == NEAP_SSH_EXITED && end.status == 0) end.how = NEAP_SSH_UNTOLD;
    }
    neap_err_keep(&c->err, err);
    c->holders++;
    detach(c);
    if (neap_ssh_lanes_have_left(c)) neap_timer_start(c->late, 0);
    neap_ssh_lanes_end(c, err);
    tell_end(c, &end, end.how == NEAP_SSH_UNTOLD || end.how == NEAP_SSH_REFUSED ? err : NULL);
    neap_ssh_channel_release(c);
}

static void tell_freed(neap_ssh_channel *c) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CLOSED, "the connection was closed");
    c->ended = NULL;
    c->holders++;
    if (c->ready) tell_untold(c, &err);
    neap_ssh_channel_drop(c);
    c->holders--;
    neap_err_close(&err);
}

void neap_ssh_channels_end(neap_ssh_native *s, const neap_err *err) {
    if (err) {
        while (!neap_list_is_empty(&s->channels)) lose(NEAP_LIST_OF(s->channels.next, neap_ssh_channel, node), err);
        return;
    }
    for (neap_list *n = s->channels.next; n != &s->channels; n = n->next) tell_freed(NEAP_LIST_OF(n, neap_ssh_channel, node));
}

bool neap_ssh_channels_leave(neap_ssh_native *s) {
    for (neap_list *n = s->channels.next; n != &s->channels; ) {
        neap_ssh_channel *c = NEAP_LIST_OF(n, neap_ssh_channel, node);
        n = n->next;
        if (!s->lib) { detach(c); continue; }
        if (c->state == NEAP_SSH_OPENS) open_channel(c);
        if (c->state != NEAP_SSH_OPENS) close_lib(c);
    }
    return neap_list_is_empty(&s->channels);
}

/* The beginning -------------------------------------------------------------------------------- */

static void put_string(neap_buf *b, const char *text) { neap_ssh_put_string(b, text, strlen(text)); }

static void write_message(neap_ssh_channel *c, int port) {
    if (c->kind == NEAP_SSH_CHANNEL_EXEC) return;
    put_string(&c->message, c->text);
    if (c->kind == NEAP_SSH_CHANNEL_TCP) neap_ssh_put_u32(&c->message, (uint32_t)port);
    put_string(&c->message, c->kind == NEAP_SSH_CHANNEL_TCP ? "127.0.0.1" : "");
    neap_ssh_put_u32(&c->message, 0);
}

neap_ssh_channel *neap_ssh_channel_new(neap_loop *loop, neap_ssh_native *s, neap_ssh_channel_kind kind, const char *text, int port) {
    neap_ssh_channel *c = neap_zalloc(sizeof *c);
    c->exec.class = &neap_ssh_native_class;
    c->loop = loop;
    c->session = s;
    c->kind = kind;
    c->text = neap_strdup(text);
    c->err = (neap_err)NEAP_ERR_INIT;
    c->late = neap_timer_new(loop, on_late, c);
    c->holders = 1;
    write_message(c, port);
    neap_list_init(&c->node);
    neap_ssh_lane_init(c, 0, kind == NEAP_SSH_CHANNEL_EXEC ? -1 : 0, true);
    if (kind == NEAP_SSH_CHANNEL_EXEC) {
        neap_ssh_lane_init(c, 1, 0, false);
        neap_ssh_lane_init(c, 2, 1, false);
    }
    if (s) {
        neap_list_append(&s->channels, &c->node);
        neap_ssh_native_kick(s);
    }
    return c;
}

neap_ssh_exec *neap_ssh_native_exec(neap_ssh *ssh, const char *command, neap_ssh_end_fn ended, void *arg) {
    neap_ssh_native *s = neap_ssh_native_from(ssh);
    bool open = s->state == NEAP_SSH_OPEN && !s->err.code;
    neap_ssh_channel *c = neap_ssh_channel_new(ssh->loop, open ? s : NULL, NEAP_SSH_CHANNEL_EXEC, command, 0);
    c->ended = ended;
    c->arg = arg;
    if (!open) {
        neap_err err = NEAP_ERR_INIT;
        neap_err_set(&err, NEAP_E_CLOSED, "there is no connection to \"%s\"", s->name);
        neap_ssh_channel_tell(c, s->err.code ? &s->err : &err);
        neap_err_close(&err);
    }
    return &c->exec;
}

neap_stream *neap_ssh_native_exec_stream(neap_ssh_exec *e, int n) { return neap_ssh_channel_lane((neap_ssh_channel *)e, n); }

void neap_ssh_native_exec_free(neap_ssh_exec *e) {
    neap_ssh_channel *c = (neap_ssh_channel *)e;
    neap_ssh_channel_drop(c);
    neap_ssh_channel_release(c);
}
