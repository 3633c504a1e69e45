/* watchers.c -- see watchers.h.
 *
 *     reader:  accepted --uid checked--> JOINED --reads, keeps up--> … --leaves, or lags 4 MiB behind--> dropped
 *
 * Every reader has a queue of its own and is written to without waiting. One that lags is dropped: it can join
 * again and is told everything from the start. What the join itself sends does not count as lag.
 *
 * Paths are opened relative to their directory (loop/net.h): a state directory may be longer than an address.
 *
 * Rejected: a broadcast over one pipe (one reader takes another's bytes), blocking sends with a time-out (the
 * run would wait for its audience).
 */
#include "drive/watchers.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/list.h"
#include "loop/net.h"
#include "loop/watch.h"

enum { LAG_MOST = 4 * 1024 * 1024, BACKLOG = 16, READERS_MOST = 64 };

struct neap_watcher {
    neap_list      link;
    neap_watchers *of;
    int            fd;
    neap_watch    *watch;
    neap_buf       queue;
    size_t         allowed;         /* bytes that may be queued: LAG_MOST, plus what is left of the join */
    bool           gone, joining;
};

struct neap_watchers {
    neap_loop  *loop;
    int         fd;
    char       *path;
    neap_watch *watch;
    neap_list   readers;
    int         count;
    neap_watchers_fn joined;
    void       *arg;
    bool        welcoming, doomed;  /* freed inside its own callback: done when that returns */
};

/* ---- connecting ---- */

static int open_socket(neap_err *err) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) neap_err_set(err, NEAP_E_UNREACHABLE, "cannot make a socket: %s", strerror(errno));
    return fd;
}

static int connect_place(const neap_unix_place *p, const char *path, neap_err *err) {
    int fd = open_socket(err);
    if (fd < 0) return -1;
    if (connect(fd, (const struct sockaddr *)&p->address, sizeof p->address) == 0) return fd;
    neap_err_set(err, NEAP_E_UNREACHABLE, "nobody serves \"%s\": %s", path, strerror(errno));
    close(fd);
    return -1;
}

int neap_watchers_connect(const char *path, neap_err *err) {
    neap_unix_place p;
    uid_t uid;
    if (!neap_unix_place_open(&p, path, err)) return -1;
    int fd = connect_place(&p, path, err);
    close(p.dir);
    if (fd < 0) return -1;
    if (neap_unix_peer(fd, &uid) && (uid == geteuid() || uid == 0 || geteuid() == 0)) return fd;
    close(fd);
    neap_err_set(err, NEAP_E_REFUSED, "\"%s\" is served by another user", path);
    return -1;
}

/* ---- readers ---- */

static void reader_free(neap_watcher *r) {
    neap_list_remove(&r->link);
    neap_watch_free(r->watch);
    close(r->fd);
    neap_buf_close(&r->queue);
    r->of->count--;
    free(r);
}

/* Write what goes. False: the reader has left. */
static bool drain(neap_watcher *r) {
    size_t at = 0;
    while (at < r->queue.len) {
        ssize_t n = send(r->fd, r->queue.data + at, r->queue.len - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) at += (size_t)n;
        else if (errno == EAGAIN || errno == EWOULDBLOCK) break;
        else if (errno != EINTR) return false;
    }
    neap_buf_drop(&r->queue, at);
    if (r->allowed > LAG_MOST) r->allowed = r->allowed - LAG_MOST > at ? r->allowed - at : LAG_MOST;
    return true;
}

/* A reader has nothing to say: what it sends is thrown away, its end of file is noticed. */
static void on_ready(void *arg, int events) {
    neap_watcher *r = arg;
    char ignored[512];
    ssize_t n = 1;
    if (events & NEAP_WATCH_READ) n = recv(r->fd, ignored, sizeof ignored, MSG_DONTWAIT);
    bool left = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
    if (left || !drain(r)) {
        reader_free(r);
        return;
    }
    neap_watch_set(r->watch, NEAP_WATCH_READ | (r->queue.len ? NEAP_WATCH_WRITE : 0));
}

bool neap_watcher_send(neap_watcher *r, const char *line, size_t len) {
    if (r->gone) return false;
    neap_buf_add(&r->queue, line, len);
    neap_buf_addc(&r->queue, '\n');
    if (r->joining) return true;
    r->gone = !drain(r) || r->queue.len > r->allowed;
    if (!r->gone && r->queue.len) neap_watch_set(r->watch, NEAP_WATCH_READ | NEAP_WATCH_WRITE);
    return !r->gone;
}

void neap_watchers_send(neap_watchers *w, const char *line, size_t len) {
    for (neap_list *n = w->readers.next, *after; n != &w->readers; n = after) {
        after = n->next;
        neap_watcher *r = NEAP_LIST_OF(n, neap_watcher, link);
        if (!neap_watcher_send(r, line, len) && !r->joining) reader_free(r);
    }
}

int neap_watchers_count(const neap_watchers *w) { return w->count; }

static void welcome(neap_watchers *w, int fd) {
    uid_t uid;
    if (w->count >= READERS_MOST || !neap_unix_peer(fd, &uid) || (uid != geteuid() && uid != 0)) {
        close(fd);
        return;
    }
    neap_watcher *r = neap_zalloc(sizeof *r);
    r->of = w;
    r->fd = fd;
    r->joining = true;
    neap_list_init(&r->link);
    neap_list_append(&w->readers, &r->link);
    w->count++;
    r->watch = neap_watch_new(w->loop, fd, NEAP_WATCH_READ, on_ready, r);
    w->welcoming = true;
    w->joined(w->arg, r);
    w->welcoming = false;
    r->joining = false;
    r->allowed = LAG_MOST + r->queue.len;
    if (!drain(r)) reader_free(r);
    else if (r->queue.len) neap_watch_set(r->watch, NEAP_WATCH_READ | NEAP_WATCH_WRITE);
}

/* ---- the socket ---- */

static void on_knock(void *arg, int events) {
    neap_watchers *w = arg;
    (void)events;
    int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) welcome(w, fd);
    if (w->doomed) neap_watchers_free(w, 0);
}

static bool check_directory(const neap_unix_place *p, const char *path, neap_err *err) {
    struct stat st;
    if (fstat(p->dir, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 077) == 0) return true;
    neap_err_set(err, NEAP_E_REFUSED, "the directory of \"%s\" is not private", path);
    return neap_err_hint(err, "It must belong to you and have mode 0700, because whoever can enter it can watch the run.");
}

static bool bind_place(int fd, const neap_unix_place *p, const char *path, neap_err *err) {
    const struct sockaddr *address = (const struct sockaddr *)&p->address;
    for (int attempt = 0; attempt < 2; attempt++) {
        if (bind(fd, address, sizeof p->address) == 0) {
            if (chmod(p->address.sun_path, 0600) == 0 && listen(fd, BACKLOG) == 0) return true;
            break;
        }
        if (errno != EADDRINUSE) break;
        int other = connect_place(p, path, NULL);
        if (other >= 0) {
            close(other);
            return neap_err_set(err, NEAP_E_BUSY, "\"%s\" is served already", path);
        }
        if (unlink(p->address.sun_path) != 0) break;              /* left behind by a process that was killed */
    }
    return neap_err_set(err, NEAP_E_CONFIG, "cannot listen at \"%s\": %s", path, strerror(errno));
}

neap_watchers *neap_watchers_new(neap_loop *loop, const char *path, neap_watchers_fn joined, void *arg, neap_err *err) {
    neap_unix_place p;
    if (!neap_unix_place_open(&p, path, err)) return NULL;
    int fd = check_directory(&p, path, err) ? open_socket(err) : -1;
    bool ok = fd >= 0 && bind_place(fd, &p, path, err);
    close(p.dir);
    if (!ok) {
        if (fd >= 0) close(fd);
        return NULL;
    }
    neap_watchers *w = neap_zalloc(sizeof *w);
    w->loop = loop;
    w->fd = fd;
    w->path = neap_strdup(path);
    w->joined = joined;
    w->arg = arg;
    neap_list_init(&w->readers);
    w->watch = neap_watch_new(loop, fd, NEAP_WATCH_READ, on_knock, w);
    return w;
}

void neap_watchers_free(neap_watchers *w, int within_ms) {
    if (!w) return;
    w->doomed = true;
    if (w->welcoming) return;
    int64_t until = neap_clock_mono_ms() + within_ms, left;
    neap_watch_free(w->watch);
    close(w->fd);
    (void)unlink(w->path);
    while (!neap_list_is_empty(&w->readers)) {
        neap_watcher *r = NEAP_LIST_OF(w->readers.next, neap_watcher, link);
        while (drain(r) && r->queue.len && (left = until - neap_clock_mono_ms()) > 0) {
            struct pollfd p = {.fd = r->fd, .events = POLLOUT};
            (void)poll(&p, 1, (int)left);
        }
        reader_free(r);
    }
    free(w->path);
    free(w);
}
