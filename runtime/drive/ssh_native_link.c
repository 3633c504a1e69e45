/* ssh_native_link.c -- the bytes below libssh2.
 *
 *     OPEN --the far end closes, or an error--> ENDED --cut--> CUT --free--> gone
 *       \--------------------------cut----------------------/
 *
 * A link is a socket, or a stream through another session (ProxyJump): libssh2 sees two callbacks and cannot tell. Writing takes
 * everything and remembers it; `queued` says how much, and a channel stops producing above 256 KiB. Reading takes what one event
 * brought, from a socket straight into libssh2's memory: 64 KiB, so that they are still in the processor's cache when they have been decrypted, and
 * other connections have their turn. What nobody takes is kept, and no more is read from the far end while 64 KiB are left.
 *
 * The end of a connection is an event of its own, also where it came with the last bytes: their readers ask again first.
 *
 * Nothing of ours comes near 8 MiB, so whoever lets that much pile up makes libssh2 answer without reading: that is an end, too.
 *
 * The end of the stream is not told to libssh2: it would refuse to give what it has decrypted already. The session looks at
 * `ended` after everybody has read.
 *
 * A sign of life is a byte that came, or a write that had to wait and then went on (a full socket that drains was acknowledged by
 * the peer; one that never filled proves nothing). */
#include "drive/ssh_native.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop/watch.h"

enum { PIECE_SIZE = 64 * 1024, KEPT_SIZE = 4 * 1024, WAITED_MS = 500, OUT_LIMIT = 8 * 1024 * 1024 };

struct neap_ssh_link {
    neap_loop *loop;
    int fd;                              /* -1: over a stream, or cut */
    neap_watch *watch;
    neap_stream *stream;                 /* NULL: over a socket, or cut */
    bool reading, writing, ended, cut;
    size_t portion;                      /* so much may still be taken from the socket in this event */
    const char *in;                      /* what the stream brought in this event and nobody took yet */
    size_t in_len;
    neap_buf left;                       /* what came and nobody took yet; it goes first */
    neap_buf out;
    int64_t alive_ms, blocked_ms;        /* blocked_ms: since when writing waits, 0: it does not */
    char first[NEAP_SSH_FIRST_SIZE];
    size_t first_len;
    char *reason;
    neap_ssh_link_fn moved;
    void *arg;
};

static void end(neap_ssh_link *l, const char *reason) {
    if (l->ended) return;
    l->ended = true;
    l->reason = neap_strdup(reason);
}

static void note_first(neap_ssh_link *l, const char *data, size_t len) {
    for (size_t i = 0; i < len && l->first_len + 1 < sizeof l->first; i++) {
        if (data[i] == '\n' || data[i] == '\r') { l->first_len = sizeof l->first; return; }
        l->first[l->first_len++] = data[i];
    }
}

static void note(neap_ssh_link *l, const char *data, size_t len) {
    l->alive_ms = neap_clock_mono_ms();
    if (l->first_len + 1 < sizeof l->first) note_first(l, data, len);
}

/* Over a socket ----------------------------------------------------------------------------- */

static void watch_again(neap_ssh_link *l) {
    if (l->cut || !l->watch) return;
    int events = !l->ended && l->left.len < PIECE_SIZE ? NEAP_WATCH_READ : 0;
    neap_watch_set(l->watch, events | (l->out.len ? NEAP_WATCH_WRITE : 0));
}

static void send_some(neap_ssh_link *l) {
    while (l->out.len) {
        ssize_t n = send(l->fd, l->out.data, l->out.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) {
            if (!l->blocked_ms) l->blocked_ms = neap_clock_mono_ms();
            return;
        }
        if (n < 0) { end(l, strerror(errno)); neap_buf_clear(&l->out); return; }
        int64_t now = l->blocked_ms ? neap_clock_mono_ms() : 0;
        if (l->blocked_ms && now - l->blocked_ms >= WAITED_MS) l->alive_ms = now;
        l->blocked_ms = 0;
        if ((size_t)n == l->out.len) neap_buf_clear(&l->out);
        else neap_buf_drop(&l->out, (size_t)n);
    }
}

/* How much came, of at most the rest of this event's portion; 0: no more in this event. The end, if bytes came before it, is left to the
 * next one. */
static size_t receive(neap_ssh_link *l, char *room, size_t len) {
    ssize_t n;
    if (len > l->portion) len = l->portion;
    do n = recv(l->fd, room, len, 0); while (n < 0 && errno == EINTR);
    if (n > 0) {
        l->portion -= (size_t)n;
        note(l, room, (size_t)n);
        return (size_t)n;
    }
    if (n == 0 && l->portion == PIECE_SIZE) end(l, "the far end closed it");
    if (n < 0 && errno != EAGAIN) end(l, strerror(errno));
    l->portion = 0;
    return 0;
}

static void keep(neap_ssh_link *l) {
    char *room = neap_buf_room(&l->left, KEPT_SIZE);
    l->left.len += receive(l, room, KEPT_SIZE);
}

/* `moved` may cut, never frees: the session does that from its timer. */
static void on_ready(void *arg, int events) {
    neap_ssh_link *l = arg;
    if (events & NEAP_WATCH_WRITE) send_some(l);
    l->portion = events & NEAP_WATCH_READ && !l->ended && l->left.len < PIECE_SIZE ? PIECE_SIZE : 0;
    l->moved(l->arg);
    if (l->portion == PIECE_SIZE && !l->cut) {       /* nobody takes, and the event would come again and again */
        keep(l);
        l->moved(l->arg);                            /* that something waits is news, too */
    }
    l->portion = 0;
    watch_again(l);
}

neap_ssh_link *neap_ssh_link_of_fd(neap_loop *loop, int fd, neap_ssh_link_fn moved, void *arg) {
    neap_ssh_link *l = neap_zalloc(sizeof *l);
    *l = (neap_ssh_link){.loop = loop, .fd = fd, .moved = moved, .arg = arg, .alive_ms = neap_clock_mono_ms()};
    l->watch = neap_watch_new(loop, fd, NEAP_WATCH_READ, on_ready, l);
    return l;
}

/* Over a stream ----------------------------------------------------------------------------- */

static void rest(neap_ssh_link *l) {
    if (l->in_len) neap_buf_add(&l->left, l->in, l->in_len);
    l->in_len = 0;
}

/* Show what came to whoever listens; what stays is kept. */
static void feed(neap_ssh_link *l, const char *data, size_t len) {
    note(l, data, len);
    if (l->left.len) {
        neap_buf_add(&l->left, data, len);
    } else {
        l->in = data;
        l->in_len = len;
    }
}

static void read_more(neap_ssh_link *l);

static void on_got(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_ssh_link *l = arg;
    if (l->cut) return;                              /* freeing a stream answers what it was asked */
    l->reading = true;
    if (len > 0) feed(l, data, (size_t)len);
    else end(l, err && err->message ? err->message : "the far end closed it");
    l->moved(l->arg);
    rest(l);
    l->reading = false;
    if (!l->cut) read_more(l);
}

static void read_more(neap_ssh_link *l) {
    if (l->ended || l->reading || l->left.len >= PIECE_SIZE) return;
    l->reading = true;
    neap_stream_read(l->stream, PIECE_SIZE, on_got, l);
}

static void write_more(neap_ssh_link *l);

static void on_written(void *arg, const neap_err *err) {
    neap_ssh_link *l = arg;
    if (l->cut) return;
    int64_t now = neap_clock_mono_ms();
    l->writing = false;
    if (now - l->blocked_ms >= WAITED_MS) l->alive_ms = now;
    if (err) end(l, err->message ? err->message : "it cannot be written to");
    else write_more(l);
    l->moved(l->arg);
}

static void write_more(neap_ssh_link *l) {
    if (l->writing || l->ended || !l->out.len) return;
    l->writing = true;
    l->blocked_ms = neap_clock_mono_ms();
    neap_buf bytes = l->out;
    l->out = (neap_buf)NEAP_BUF_INIT;
    neap_stream_write(l->stream, bytes.data, bytes.len, on_written, l);
    neap_buf_close(&bytes);
}

neap_ssh_link *neap_ssh_link_of_stream(neap_loop *loop, neap_stream *stream, neap_ssh_link_fn moved, void *arg) {
    neap_ssh_link *l = neap_zalloc(sizeof *l);
    *l = (neap_ssh_link){.loop = loop, .fd = -1, .stream = stream, .moved = moved, .arg = arg, .alive_ms = neap_clock_mono_ms()};
    read_more(l);
    return l;
}

/* What libssh2 and the session ask ------------------------------------------------------------ */

ssize_t neap_ssh_link_take(neap_ssh_link *l, char *buffer, size_t len) {
    if (l->cut) return -EPIPE;
    size_t n;
    if (l->portion && !l->left.len && len < KEPT_SIZE) keep(l);        /* a banner is asked for byte by byte */
    if (l->left.len) {
        n = l->left.len < len ? l->left.len : len;
        memcpy(buffer, l->left.data, n);
        neap_buf_drop(&l->left, n);
        return (ssize_t)n;
    }
    if (l->portion) {
        n = receive(l, buffer, len);
        return n ? (ssize_t)n : -EAGAIN;
    }
    if (!l->in_len) return -EAGAIN;
    n = l->in_len < len ? l->in_len : len;
    memcpy(buffer, l->in, n);
    l->in += n;
    l->in_len -= n;
    return (ssize_t)n;
}

ssize_t neap_ssh_link_put(neap_ssh_link *l, const char *data, size_t len) {
    if (l->cut) return -EPIPE;
    if (!l->ended) neap_buf_add(&l->out, data, len);
    if (l->out.len > OUT_LIMIT) end(l, "the far end asks without end and does not read the answers");
    return (ssize_t)len;
}

void neap_ssh_link_flush(neap_ssh_link *l) {
    if (l->cut) return;
    if (l->stream) {
        write_more(l);
        read_more(l);
        return;
    }
    if (!l->blocked_ms) send_some(l);
    watch_again(l);
}

size_t neap_ssh_link_queued(const neap_ssh_link *l) { return l->out.len; }
bool neap_ssh_link_waits(const neap_ssh_link *l) { return l->left.len + l->in_len > 0; }
bool neap_ssh_link_ended(const neap_ssh_link *l) { return l->ended && !neap_ssh_link_waits(l); }
const char *neap_ssh_link_reason(const neap_ssh_link *l) { return l->reason ? l->reason : "it was closed"; }
int64_t neap_ssh_link_alive_ms(const neap_ssh_link *l) { return l->alive_ms; }
const char *neap_ssh_link_first(const neap_ssh_link *l) { return l->first; }

void neap_ssh_link_cut(neap_ssh_link *l) {
    if (l->cut) return;
    l->cut = true;
    neap_watch_free(l->watch);
    l->watch = NULL;
    if (l->fd >= 0) {
        shutdown(l->fd, SHUT_RDWR);
        close(l->fd);
    }
    l->fd = -1;
    neap_stream *stream = l->stream;
    l->stream = NULL;
    neap_stream_free(stream);
}

void neap_ssh_link_free(neap_ssh_link *l) {
    if (!l) return;
    neap_ssh_link_cut(l);
    neap_buf_close(&l->left);
    neap_buf_wipe(&l->out);
    free(l->reason);
    free(l);
}
