/* part.c -- writing a file so that nobody ever sees half of it.
 *
 * Promises: until the rename the old content is untouched; after publish returned true the new content and its name
 * survive a power loss. A failed write removes its .part. A kill leaves a .part, which the next attempt recognises.
 *
 * Whose leftover is it? The lock tells a living writer (the kernel drops the lock with the process); the kind, the owner and
 * the link count tell a trap. Rejected: random temporary names, which pile up after crashes and which
 * nobody dares to delete; and the process id in the name, which means nothing on a shared file system.
 */
#include "drive/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loop/loop.h"

enum { PIECE_SIZE = 1 << 20, NEW_MODE = 0644 };

static bool fail(neap_err *err, const char *what, const char *path) {
    return neap_loop_fail(err, -errno, "cannot %s \"%s\"", what, path);
}

static bool in_the_way(neap_err *err, const char *part, const char *why) {
    neap_err_set(err, NEAP_E_REFUSED, "\"%s\" is in the way: %s", part, why);
    return neap_err_hint(err, "New content is collected under that name; look at what is there and remove it.");
}

/* Remove what an interrupted run left; refuse to touch anything else. */
static bool clear_leftover(neap_disk_part *p, neap_err *err) {
    struct stat st;
    int fd = open(p->part, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) return true;
    if (fd < 0) return in_the_way(err, p->part, errno == ELOOP ? "it is a symbolic link" : strerror(errno));
    bool ok = false;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) in_the_way(err, p->part, "it is not a regular file");
    else if (st.st_uid != geteuid() || st.st_nlink != 1) in_the_way(err, p->part, "it is not ours");
    else if (flock(fd, LOCK_EX | LOCK_NB) != 0) neap_err_set(err, NEAP_E_BUSY, "\"%s\" is being written by somebody else", p->path);
    else if (unlink(p->part) != 0) fail(err, "remove", p->part);
    else ok = p->stale = true;
    close(fd);
    return ok;
}

static bool open_part(neap_disk_part *p, int mode, neap_err *err) {
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    p->fd = open(p->part, flags, (mode_t)mode);
    if (p->fd < 0 && errno == EEXIST) {
        if (!clear_leftover(p, err)) return false;
        p->fd = open(p->part, flags, (mode_t)mode);
    }
    if (p->fd < 0) return fail(err, "write", p->part);
    flock(p->fd, LOCK_EX | LOCK_NB);                 /* nobody else can have it: the file is new */
    return true;
}

/* A file that is replaced lends its mode, and its owner where we may give files away. */
static bool look_at_old(neap_disk_part *p, struct stat *old, neap_err *err) {
    p->replaces = lstat(p->path, old) == 0;
    if (!p->replaces && errno != ENOENT) return fail(err, "write", p->path);
    if (p->replaces && !S_ISREG(old->st_mode)) return neap_err_set(err, NEAP_E_REFUSED, "\"%s\" is not a regular file", p->path);
    return true;
}

bool neap_disk_begin(neap_disk_part *p, const char *path, int mode, neap_err *err) {
    struct stat old;
    *p = (neap_disk_part){.path = neap_strdup(path), .part = neap_disk_part_name(path), .fd = -1};
    if (!look_at_old(p, &old, err)) goto out;
    if (!open_part(p, p->replaces ? 0600 : mode >= 0 ? mode & 0666 : NEW_MODE, err)) goto out;
    if (p->replaces) {
        bool given = fchown(p->fd, old.st_uid, old.st_gid) == 0;
        (void)given;                                 /* only root may; anybody else becomes the owner */
        if (fchmod(p->fd, old.st_mode & 07777) != 0) { fail(err, "set the mode of", p->part); goto out; }
    } else if (mode >= 0 && fchmod(p->fd, (mode_t)mode) != 0) {
        fail(err, "set the mode of", p->part);
        goto out;
    }
    return true;
out:
    neap_disk_abandon(p);
    return false;
}

bool neap_disk_put(neap_disk_part *p, const char *data, size_t len, const neap_disk_flag *stop, neap_err *err) {
    while (len > 0) {
        if (stop && atomic_load(stop)) return neap_err_set(err, NEAP_E_CANCELLED, "stopped while writing \"%s\"", p->path);
        ssize_t n = write(p->fd, data, len < PIECE_SIZE ? len : PIECE_SIZE);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail(err, "write", p->part);
        data += n;
        len -= (size_t)n;
    }
    return true;
}

bool neap_disk_publish(neap_disk_part *p, neap_err *err) {
    if (fsync(p->fd) != 0) return fail(err, "make durable", p->part);
    if (rename(p->part, p->path) != 0) return fail(err, "rename to", p->path);
    close(p->fd);
    p->fd = -1;
    return neap_disk_sync_name(p->path, err);
}

void neap_disk_abandon(neap_disk_part *p) {
    if (p->fd >= 0) {
        unlink(p->part);
        close(p->fd);
    }
    free(p->path);
    free(p->part);
    *p = (neap_disk_part){.fd = -1};
}
