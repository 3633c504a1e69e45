/* ssh_native.c -- one session of libssh2 on the loop.
 *
 *     QUEUED ──turn──► REACHING ──link──► SHAKING ──host key──► PROVING ──let in──► OPEN ──► GONE
 *        \________________\__________________\_____________________\__ (opened(err)) ──────► GONE
 *     OPEN ──free──► LEAVING ──channels closed, or 2 s──► freed            any other state ──free──► freed
 *
 * Everything libssh2 is told happens in `pump`, which runs when bytes came, when room came, and from a timer of zero length when a
 * caller asked for something. It calls libssh2 until each call says "not yet", so that nothing that was already decrypted is
 * left inside (no event would come for it). Callbacks run in the pump and may do anything, freeing the session included: a
 * session is only destroyed from its timers, never below libssh2 or below its own link.
 *
 * A refusal in the first line ("Exceeded MaxStartups", or a connection that closes before any banner) is tried a second time.
 *
 * The sign of life is a channel of a type that no server has. The answer is a refusal, which libssh2 takes away; the answers to its own
 * keepalive stay in its packet list for ever and make each later read walk over them. It also makes libssh2 read when no
 * channel is there to be read, so that a server that asks whether we live is answered. Sent when nothing came for
 * 10 s (ServerAliveInterval), only when nothing waits to be written; silence of two and a half intervals is a loss.
 *
 * Leaving: channels are closed and the far end's answer is waited for in the background, 2 s at most, because a command that ignores the end of
 * its streams keeps libssh2 waiting for ever; then the socket is shut and everything is free at once.
 *
 * Rejected: handing libssh2 the socket. It then decides when a write is half done, and every other call has to know. */
#include "drive/ssh_native.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { CONNECT_MS = 15000, ALIVE_MS = 10000, ALIVE_COUNT = 2, POLITE_MS = 2000, SOON_MS = 1000, AGAIN_MS = 300, JITTER_MS = 400, TRIES = 2 };

neap_ssh_native *neap_ssh_native_from(neap_ssh *s) { return (neap_ssh_native *)s; }

void neap_ssh_native_kick(neap_ssh_native *s) {
    if (s->pumping) s->again = true;
    else neap_timer_start(s->kick, 0);
}

/* What libssh2 reads and writes --------------------------------------------------------------- */

static ssize_t on_recv(libssh2_socket_t fd, void *buffer, size_t len, int flags, void **abstract) {
    neap_ssh_native *s = *abstract;
    (void)fd, (void)flags;
    return neap_ssh_link_take(s->link, buffer, len);
}

static ssize_t on_send(libssh2_socket_t fd, const void *buffer, size_t len, int flags, void **abstract) {
    neap_ssh_native *s = *abstract;
    (void)fd, (void)flags;
    return neap_ssh_link_put(s->link, buffer, len);
}

static bool make_lib(neap_ssh_native *s, neap_err *err) {
    static bool begun;
    if (!begun) begun = libssh2_init(0) == 0;
    s->lib = libssh2_session_init_ex(NULL, NULL, NULL, s);
    if (!s->lib) return neap_err_set(err, NEAP_E_MEMORY, "libssh2 cannot make a session");
    libssh2_session_set_blocking(s->lib, 0);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    libssh2_session_callback_set(s->lib, LIBSSH2_CALLBACK_RECV, (void *)on_recv);
    libssh2_session_callback_set(s->lib, LIBSSH2_CALLBACK_SEND, (void *)on_send);
#pragma GCC diagnostic pop
    snprintf(s->backend, sizeof s->backend, "libssh2 %s", libssh2_version(0));
    return neap_ssh_native_prefer(s, err);
}

/* A cut link answers every call with an error, so this does not wait. */
static void drop_lib(neap_ssh_native *s) {
    if (s->link) neap_ssh_link_cut(s->link);
    neap_ssh_auth_free(s->auth);
    s->auth = NULL;
    for (int i = 0; s->lib && i < 64; i++)
        if (libssh2_session_free(s->lib) != LIBSSH2_ERROR_EAGAIN) break;
    s->lib = NULL;
}

/* Errors -------------------------------------------------------------------------------------- */

bool neap_ssh_is_fatal(int rc) {
    switch (rc) {
    case LIBSSH2_ERROR_EAGAIN: case LIBSSH2_ERROR_CHANNEL_UNKNOWN: case LIBSSH2_ERROR_CHANNEL_WINDOW_EXCEEDED:
    case LIBSSH2_ERROR_CHANNEL_PACKET_EXCEEDED: case LIBSSH2_ERROR_CHANNEL_CLOSED: case LIBSSH2_ERROR_CHANNEL_EOF_SENT:
    case LIBSSH2_ERROR_CHANNEL_FAILURE: case LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED: case LIBSSH2_ERROR_INVAL:
        return false;
    default:
        return rc < 0;
    }
}

void neap_ssh_native_fail(neap_ssh_native *s, neap_err *err) {
    if (s->err.code) neap_err_close(err);
    else neap_err_move(&s->err, err);
    s->again = false;
}

static const char *says(neap_ssh_native *s) {
    char *text = NULL;
    libssh2_session_last_error(s->lib, &text, NULL, 0);
    return text && *text ? text : "no reason is given";
}

static bool is_loss(int rc) {
    return rc == LIBSSH2_ERROR_SOCKET_RECV || rc == LIBSSH2_ERROR_SOCKET_SEND || rc == LIBSSH2_ERROR_SOCKET_DISCONNECT ||
           rc == LIBSSH2_ERROR_SOCKET_NONE || rc == LIBSSH2_ERROR_SOCKET_TIMEOUT;
}

void neap_ssh_native_fail_lib(neap_ssh_native *s, int rc, const char *what) {
    neap_err err = NEAP_ERR_INIT;
    s->garbled = s->garbled || !is_loss(rc);
    neap_err_set(&err, NEAP_E_CLOSED, "%s \"%s\": %s (%d)", what, s->name, says(s), rc);
    neap_ssh_native_fail(s, &err);
}

static bool had_banner(neap_ssh_native *s) { return strncmp(neap_ssh_link_first(s->link), "SSH-", 4) == 0; }

static bool is_negotiation(int rc) {
    return rc == LIBSSH2_ERROR_KEX_FAILURE || rc == LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE || rc == LIBSSH2_ERROR_METHOD_NONE ||
           rc == LIBSSH2_ERROR_HOSTKEY_INIT || rc == LIBSSH2_ERROR_METHOD_NOT_SUPPORTED;
}

static void fail_handshake(neap_ssh_native *s, int rc) {
    neap_err err = NEAP_ERR_INIT;
    const char *first = neap_ssh_link_first(s->link);
    if (is_negotiation(rc)) {
        neap_err_set(&err, NEAP_E_UNSUPPORTED, "%s and \"%s\" have no key exchange, host key or cipher in common (%s)", s->backend, s->name, says(s));
        neap_err_hint(&err, neap_libssh2_is(NEAP_LIBSSH2_1_11) ? "The ssh program may know more of them." :
                      "libssh2 1.10 cannot use RSA host keys; the ssh program can.");
    } else if (!had_banner(s)) {
        neap_err_set(&err, NEAP_E_UNREACHABLE, "\"%s\" (%s) did not begin to speak SSH: %s", s->name, s->address,
                     *first ? first : neap_ssh_link_reason(s->link));
        err.retry = true;
    } else {
        neap_err_set(&err, NEAP_E_PROTOCOL, "the handshake with \"%s\" failed: %s (%d)", s->name,
                     neap_ssh_link_ended(s->link) ? neap_ssh_link_reason(s->link) : says(s), rc);
    }
    neap_ssh_native_fail(s, &err);
}

/* The way there ------------------------------------------------------------------------------- */

static void pump(neap_ssh_native *s);
static void conclude(neap_ssh_native *s);

static void on_moved(void *arg) { pump(arg); }

static void fail_now(neap_ssh_native *s, neap_err *err) {
    neap_ssh_native_fail(s, err);
    conclude(s);
}

static void begin_handshake(neap_ssh_native *s, neap_ssh_link *link) {
    neap_err err = NEAP_ERR_INIT;
    neap_ssh_link_free(s->link);
    s->link = link;
    s->state = NEAP_SSH_SHAKING;
    if (make_lib(s, &err)) pump(s);
    else fail_now(s, &err);
}

static void on_connected(void *arg, int fd, const neap_err *why) {
    neap_ssh_native *s = arg;
    neap_err err = NEAP_ERR_INIT;
    s->connecting = NULL;
    if (fd < 0) {
        neap_err_set(&err, why->code, "\"%s\" cannot be reached: %s", s->name, why->message);
        neap_err_hint(&err, "Does ssh reach it? ssh %s true", s->name);
        err.retry = why->retry;
        fail_now(s, &err);
        return;
    }
    neap_net_peer(fd, s->address);
    begin_handshake(s, neap_ssh_link_of_fd(s->ssh.loop, fd, on_moved, s));
}

static void on_dialed(void *arg, neap_stream *stream, const neap_err *why) {
    neap_ssh_native *s = arg;
    neap_err err = NEAP_ERR_INIT;
    s->dialing = NULL;
    if (!stream) {
        neap_err_set(&err, why->code, "\"%s\" cannot be reached through \"%s\": %s", s->name, s->via->name, why->message);
        neap_err_hint(&err, "Does ssh reach it? ssh %s true", s->name);
        fail_now(s, &err);
        return;
    }
    begin_handshake(s, neap_ssh_link_of_stream(s->ssh.loop, stream, on_moved, s));
}

static void reach(neap_ssh_native *s) {
    const neap_ssh_host *h = s->host;
    s->state = NEAP_SSH_REACHING;
    s->retrying = false;
    s->tries++;
    if (s->via) {
        snprintf(s->address, sizeof s->address, "%s:%d", h->hostname, h->port);
        if (!s->dialer) s->dialer = neap_ssh_dial_tcp(&s->via->ssh, h->hostname, h->port);
        s->dialing = neap_dial(s->dialer, on_dialed, s);
        return;
    }
    neap_net_place place = {.host = h->hostname, .port = h->port, .from = h->bind_address};
    place.family = h->family == NEAP_SSH_INET ? NEAP_NET_INET : h->family == NEAP_SSH_INET6 ? NEAP_NET_INET6 : NEAP_NET_ANY;
    s->connecting = neap_net_connect(s->ssh.loop, &place, on_connected, s);
}

static void on_turn(void *arg) {
    neap_ssh_native *s = arg;
    neap_timer_start(s->clock, s->host->connect_ms ? s->host->connect_ms : CONNECT_MS);
    reach(s);
}

static void on_via(void *arg, const neap_err *why) {
    neap_ssh_native *s = arg;
    neap_err err = NEAP_ERR_INIT;
    if (!why) { neap_ssh_turn_ask(&s->turn); return; }
    neap_err_set(&err, why->code, "\"%s\" is reached through \"%s\": %s", s->name, s->via->name, why->message);
    neap_err_hint(&err, "%s", why->hint ? why->hint : "");
    fail_now(s, &err);
}

/* Once more after a moment, when the far end closed before it said anything. */
static bool try_again(neap_ssh_native *s) {
    if (s->tries >= TRIES || had_banner(s)) return false;
    drop_lib(s);
    s->retrying = true;
    neap_timer_start(s->kick, AGAIN_MS + (int64_t)(neap_clock_mono_us() % JITTER_MS));
    return true;
}

/* The pump ------------------------------------------------------------------------------------ */

static void shake(neap_ssh_native *s) {
    int rc = libssh2_session_handshake(s->lib, INT_MAX);       /* a number that is no descriptor: libssh2 would change its flags */
    neap_err err = NEAP_ERR_INIT;
    if (rc == LIBSSH2_ERROR_EAGAIN && !neap_ssh_link_ended(s->link)) return;
    if (rc) {
        if (!try_again(s)) fail_handshake(s, rc);
    } else if (!neap_ssh_native_check_key(s, &err)) {
        neap_ssh_native_fail(s, &err);
    } else {
        s->state = NEAP_SSH_PROVING;
        s->auth = neap_ssh_auth_new(s);
        s->again = true;
    }
}

static void set_card(neap_ssh_native *s) {
    const char *banner = libssh2_session_banner_get(s->lib);
    s->card = (neap_ssh_card){.backend = s->backend, .banner = banner ? banner : "", .key_type = s->key_type, .fingerprint = s->fingerprint,
                              .user = s->user, .address = s->address, .authenticated = s->authenticated};
}

static void prove(neap_ssh_native *s) {
    neap_err err = NEAP_ERR_INIT;
    int in = neap_ssh_auth_step(s->auth, &err);
    if (in == 0 && neap_ssh_link_ended(s->link)) {
        neap_err_set(&err, NEAP_E_AUTH, "\"%s\" closed the connection before it let \"%s\" in", s->name, s->user);
        neap_err_hint(&err, "Too many keys were offered, or the account or its address is turned away; see the server's log.");
        in = -1;
    }
    if (in < 0) neap_ssh_native_fail(s, &err);
    if (in <= 0) return;
    neap_ssh_auth_free(s->auth);
    s->auth = NULL;
    s->state = NEAP_SSH_OPEN;
    set_card(s);
    neap_ssh_turn_give(&s->turn);
    neap_timer_start(s->clock, s->alive_ms);
    neap_ssh_opened_fn opened = s->opened;
    s->opened = NULL;
    if (opened) opened(s->opened_arg, NULL);
    s->again = true;
}

static void leave(neap_ssh_native *s) {
    if (!neap_ssh_channels_leave(s) && !neap_ssh_link_ended(s->link)) return;
    libssh2_session_disconnect_ex(s->lib, 11, "done", "");
    s->doomed = true;
}

static void step(neap_ssh_native *s) {
    if (s->doomed) return;
    switch (s->state) {
    case NEAP_SSH_SHAKING: shake(s); break;
    case NEAP_SSH_PROVING: prove(s); break;
    case NEAP_SSH_OPEN:    neap_ssh_channels_pump(s); break;
    case NEAP_SSH_LEAVING: leave(s); break;
    default: break;
    }
}

/* Nothing reads while there is no channel, and what came may be a question. */
static void after_pump(neap_ssh_native *s) {
    if (s->state == NEAP_SSH_OPEN && neap_ssh_link_ended(s->link)) {
        neap_err err = NEAP_ERR_INIT;
        neap_err_set(&err, NEAP_E_CLOSED, "the connection to \"%s\" was lost: %s", s->name, neap_ssh_link_reason(s->link));
        neap_ssh_native_fail(s, &err);
    }
    if (s->err.code && s->state != NEAP_SSH_GONE) { conclude(s); return; }
    if (s->state == NEAP_SSH_OPEN && neap_list_is_empty(&s->channels) && neap_ssh_link_waits(s->link))
        neap_timer_start(s->clock, s->alive_ms < SOON_MS ? s->alive_ms : SOON_MS);
}

static void pump(neap_ssh_native *s) {
    if (s->pumping) { s->again = true; return; }
    s->pumping = true;
    do {
        s->again = false;
        step(s);
    } while (s->again && !s->err.code && !s->doomed);
    if (s->link) neap_ssh_link_flush(s->link);
    s->pumping = false;
    after_pump(s);
    if (s->doomed) neap_ssh_native_kick(s);
}

/* The end ------------------------------------------------------------------------------------- */

static void stop_reaching(neap_ssh_native *s) {
    if (s->connecting) neap_net_cancel(s->connecting);
    if (s->dialing) neap_dial_cancel(s->dialing);
    s->connecting = NULL;
    s->dialing = NULL;
    neap_ssh_turn_give(&s->turn);
}

/* It is over: tell everybody, then let libssh2 go. Whoever is told may free the session. */
static void conclude(neap_ssh_native *s) {
    bool was_open = s->state == NEAP_SSH_OPEN;
    if (s->state == NEAP_SSH_LEAVING) { s->doomed = true; neap_ssh_native_kick(s); return; }
    s->pumping = true;                               /* what callbacks ask for now goes nowhere */
    neap_timer_stop(s->clock);
    neap_timer_stop(s->kick);
    if (was_open) neap_ssh_channels_end(s, &s->err);
    s->state = NEAP_SSH_GONE;
    stop_reaching(s);
    drop_lib(s);
    neap_ssh_opened_fn opened = s->opened;
    neap_ssh_lost_fn lost = s->lost;
    s->opened = NULL;
    s->lost = NULL;
    if (opened) opened(s->opened_arg, &s->err);
    else if (was_open && lost) lost(s->lost_arg, &s->err);
    s->pumping = false;
    if (s->doomed) neap_ssh_native_kick(s);
}

static void destroy(neap_ssh_native *s) {
    stop_reaching(s);
    neap_ssh_channels_end(s, NULL);
    drop_lib(s);
    neap_ssh_channels_leave(s);
    neap_ssh_native_dialers_end(s);
    neap_ssh_link_free(s->link);
    neap_dialer_release(s->dialer);
    if (s->via) neap_ssh_free(&s->via->ssh);
    neap_timer_free(s->kick);
    neap_timer_free(s->clock);
    neap_err_close(&s->err);
    free(s->name);
    free(s->user);
    free(s->authenticated);
    free(s->piece);
    free(s);
}

void neap_ssh_native_free(neap_ssh *ssh) {
    neap_ssh_native *s = neap_ssh_native_from(ssh);
    s->opened = NULL;
    s->lost = NULL;
    if (s->state == NEAP_SSH_OPEN && !s->err.code) {
        neap_ssh_channels_end(s, NULL);
        s->state = NEAP_SSH_LEAVING;
        neap_timer_start(s->clock, POLITE_MS);
    } else {
        s->doomed = true;
        s->retrying = false;
        neap_timer_stop(s->clock);
        stop_reaching(s);
        if (s->via) neap_ssh_free(&s->via->ssh);
        s->via = NULL;
    }
    neap_ssh_native_kick(s);
}

static void on_kick(void *arg) {
    neap_ssh_native *s = arg;
    if (s->doomed && (!s->link || neap_ssh_link_queued(s->link) == 0 || s->state != NEAP_SSH_LEAVING || neap_ssh_link_ended(s->link))) destroy(s);
    else if (s->retrying) reach(s);
    else if (!s->doomed) pump(s);
}

/* The clock ----------------------------------------------------------------------------------- */

static void fail_late(neap_ssh_native *s) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_TIMEOUT, "\"%s\" %s in time", s->name,
                 s->state == NEAP_SSH_PROVING ? (neap_ssh_auth_waits_for_agent(s->auth) ? "was reached, but the agent did not sign" : "did not let us in") :
                 s->state == NEAP_SSH_SHAKING ? "was reached, but did not finish the handshake" : "did not answer");
    err.retry = true;
    fail_now(s, &err);
}

/* Who was silent was asked, and had time to answer: a process that was stopped for a while has asked nobody. */
static void on_alive(neap_ssh_native *s) {
    int64_t every = s->alive_ms, limit = s->silent_ms;
    int64_t now = neap_clock_mono_ms(), heard = neap_ssh_link_alive_ms(s->link), silent = now - heard;
    bool deaf = s->opening || neap_ssh_link_queued(s->link) != 0;      /* it cannot be asked: what we have said waits for its answer */
    if (s->asked_ms <= heard) s->asked_ms = 0;
    if (silent >= limit && (deaf || (s->asked_ms && now - s->asked_ms >= (limit - every) / 2))) {
        neap_err err = NEAP_ERR_INIT;
        neap_err_set(&err, NEAP_E_CLOSED, "the connection to \"%s\" was lost: it has been silent for %d s", s->name, (int)(silent / 1000));
        fail_now(s, &err);
        return;
    }
    bool asked = neap_list_is_empty(&s->channels) && neap_ssh_link_waits(s->link);
    if ((silent >= every || asked) && !deaf) {
        s->pinging = true;
        neap_ssh_native_kick(s);
    }
    neap_timer_start(s->clock, silent < every ? every - silent : silent < limit ? limit - silent : limit - every);
}

static void on_clock(void *arg) {
    neap_ssh_native *s = arg;
    if (s->state == NEAP_SSH_LEAVING) destroy(s);
    else if (s->state == NEAP_SSH_OPEN) on_alive(s);
    else if (s->state != NEAP_SSH_GONE) fail_late(s);
}

/* The beginning ------------------------------------------------------------------------------- */

static neap_ssh_native *new_session(neap_loop *loop, const neap_ssh_host *host, neap_ssh_host *const *jumps, int hops, neap_ssh_opened_fn opened, void *arg) {
    neap_ssh_native *s = neap_zalloc(sizeof *s);
    s->ssh = (neap_ssh){&neap_ssh_native_class, loop};
    s->host = host;
    s->name = neap_strdup(host->name);
    s->user = neap_strdup(host->user);
    s->alive_ms = host->alive_ms ? host->alive_ms : ALIVE_MS;
    s->silent_ms = s->alive_ms * (host->alive_count ? host->alive_count : ALIVE_COUNT) + s->alive_ms / 2;
    s->err = (neap_err)NEAP_ERR_INIT;
    s->opened = opened;
    s->opened_arg = arg;
    s->kick = neap_timer_new(loop, on_kick, s);
    s->clock = neap_timer_new(loop, on_clock, s);
    neap_list_init(&s->channels);
    neap_list_init(&s->dialers);
    neap_ssh_turn_init(&s->turn, on_turn, s);
    if (hops) s->via = new_session(loop, jumps[hops - 1], jumps, hops - 1, on_via, s);
    else neap_ssh_turn_ask(&s->turn);
    return s;
}

neap_ssh *neap_ssh_native_open(neap_loop *loop, const neap_ssh_host *host, neap_ssh_opened_fn opened, void *arg) {
    int hops = 0;
    while (host->jumps && host->jumps[hops]) hops++;
    return &new_session(loop, host, host->jumps, hops, opened, arg)->ssh;
}

static const neap_ssh_card *native_card(neap_ssh *ssh) {
    neap_ssh_native *s = neap_ssh_native_from(ssh);
    return s->state == NEAP_SSH_OPEN ? &s->card : NULL;
}

static void native_on_lost(neap_ssh *ssh, neap_ssh_lost_fn fn, void *arg) {
    neap_ssh_native *s = neap_ssh_native_from(ssh);
    s->lost = fn;
    s->lost_arg = arg;
}

const neap_ssh_class neap_ssh_native_class = {
    "libssh2", native_card, native_on_lost, neap_ssh_native_exec, neap_ssh_native_exec_stream, neap_ssh_native_exec_free,
    neap_ssh_native_dial_tcp, neap_ssh_native_dial_unix, neap_ssh_native_free,
};
