/* net_unix.c -- unix sockets: connecting and listening.
 *
 * A socket address holds 107 bytes and a path may be longer, so a path is opened relative to its directory (/proc/self/fd/N/name).
 *
 *     listener: LISTENING --peer--> uid checked --> accepted(stream) --> LISTENING
 *                   \--no descriptors left--> PAUSED --100 ms--> LISTENING      (an accept that fails would be ready for ever)
 *
 * The socket is 0600 from its first moment (umask would be the process's, so fchmod before bind), and the peer's user is asked of the
 * kernel besides: a directory of mode 0700 is the tunnel's own business.
 */
#include "loop/net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/buf.h"
#include "loop/timer.h"
#include "loop/watch.h"

enum { BACKLOG = 64, PAUSE_MS = 100 };

bool neap_unix_place_open(neap_unix_place *p, const char *path, neap_err *err) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *dir = slash ? neap_strndup(path, slash > path ? (size_t)(slash - path) : 1) : neap_strdup(".");
    p->dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    free(dir);
    if (p->dir < 0) return neap_err_set(err, NEAP_E_UNREACHABLE, "cannot open the directory of \"%s\": %s", path, uv_strerror(-errno));
    p->address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(p->address.sun_path, sizeof p->address.sun_path, "/proc/self/fd/%d/%s", p->dir, name);
    if (*name && n < (int)sizeof p->address.sun_path) return true;
    close(p->dir);
    return neap_err_set(err, NEAP_E_USAGE, "\"%s\" is no name for a socket", path);
}

static int open_socket(neap_err *err) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) neap_err_set(err, NEAP_E_UNREACHABLE, "cannot make a socket: %s", uv_strerror(-errno));
    return fd;
}

bool neap_unix_peer(int fd, uid_t *uid) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
    *uid = peer.uid;
    return true;
}

int neap_unix_connect(const char *path, neap_err *err) {
    neap_unix_place p;
    if (!neap_unix_place_open(&p, path, err)) return -1;
    int fd = open_socket(err), error = 0;
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&p.address, sizeof p.address) != 0) error = errno;
    close(p.dir);
    if (!error) return fd;
    close(fd);
    bool shut = error == EACCES || error == EPERM;
    neap_err_set(err, shut ? NEAP_E_AUTH : NEAP_E_UNREACHABLE, "cannot connect to \"%s\": %s", path, uv_strerror(-error));
    if (err && error == EAGAIN) err->retry = true;
    if (shut) neap_err_hint(err, "Whose it is, and which groups are yours: ls -l %s; id", path);
    else neap_err_hint(err, "Does its server run, and listen there? ls -l %s", path);
    return -1;
}

/* Listening ---------------------------------------------------------------------------------- */

struct neap_listener {
    neap_loop *loop;
    char *path;
    int fd;
    neap_watch *watch;
    neap_timer *pause;
    neap_accept_fn accepted;
    void *arg;
    bool accepting, freed;
};

static void destroy(neap_listener *l) {
    neap_watch_free(l->watch);
    neap_timer_free(l->pause);
    close(l->fd);
    unlink(l->path);
    free(l->path);
    free(l);
}

static void welcome(neap_listener *l, int fd) {
    uid_t uid;
    if (neap_unix_peer(fd, &uid) && uid == geteuid()) l->accepted(l->arg, neap_stream_of_fd(l->loop, fd));
    else close(fd);
}

static void on_ready(void *arg, int events) {
    neap_listener *l = arg;
    int fd = -1;
    (void)events;
    l->accepting = true;
    while (!l->freed && (fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) welcome(l, fd);
    int error = errno;
    l->accepting = false;
    if (l->freed) { destroy(l); return; }
    if (error == EAGAIN || error == EINTR || error == ECONNABORTED) return;
    neap_watch_set(l->watch, 0);
    neap_timer_start(l->pause, PAUSE_MS);
}

static void on_pause(void *arg) { neap_watch_set(((neap_listener *)arg)->watch, NEAP_WATCH_READ); }

static bool bind_to(int fd, const char *path, neap_err *err) {
    neap_unix_place p;
    if (!neap_unix_place_open(&p, path, err)) return false;
    bool made = fchmod(fd, 0600) == 0 && bind(fd, (const struct sockaddr *)&p.address, sizeof p.address) == 0 && listen(fd, BACKLOG) == 0;
    int error = errno;
    close(p.dir);
    return made || neap_loop_fail(err, -error, "cannot listen on \"%s\"", path);
}

neap_listener *neap_listener_new(neap_loop *loop, const char *path, neap_accept_fn accepted, void *arg, neap_err *err) {
    int fd = open_socket(err);
    if (fd < 0) return NULL;
    if (!bind_to(fd, path, err)) {
        close(fd);
        return NULL;
    }
    neap_listener *l = neap_zalloc(sizeof *l);
    l->loop = loop;
    l->path = neap_strdup(path);
    l->fd = fd;
    l->accepted = accepted;
    l->arg = arg;
    l->pause = neap_timer_new(loop, on_pause, l);
    l->watch = neap_watch_new(loop, fd, NEAP_WATCH_READ, on_ready, l);
    return l;
}

void neap_listener_free(neap_listener *l) {
    if (!l) return;
    l->freed = true;
    if (!l->accepting) destroy(l);
}
