/* statedir.c -- the state directory, opened with distrust; statedir.h says what it promises.
 *
 * Every component below the state directory is opened relative to its parent's descriptor and without following links, then
 * examined through the descriptor, so nothing can be exchanged between the look and the use. SQLite wants a path: it gets
 * the real one, with SQLITE_OPEN_NOFOLLOW, and the inode is compared afterwards (journal.c). */
#include "guard/statedir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "base/buf.h"

/* File systems whose locks or whose sync reach another machine, by statfs magic. */
static const struct { unsigned long magic; const char *name; } REMOTE[] = {
    {0x6969, "NFS"}, {0xff534d42, "CIFS"}, {0xfe534d42, "SMB2"}, {0x517b, "SMB"}, {0x65735546, "FUSE"},
    {0x01021997, "9p"}, {0x00c36400, "Ceph"}, {0x5346414f, "AFS"}, {0x73757245, "Coda"}, {0x564c, "NCP"},
};

bool neap_statedir_is_run(const char *run) {
    size_t len = strlen(run);
    return len > 0 && len <= 64 && run[0] != '-' && strspn(run, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

char *neap_statedir_path(const neap_statedir *d, const char *name) { return neap_asprintf("%s/%s", d->path, name); }

void neap_statedir_close(neap_statedir *d) {
    if (d->fd >= 0) close(d->fd);
    free(d->path);
    *d = (neap_statedir)NEAP_STATEDIR_INIT;
}

static bool check_local(const neap_statedir *d, neap_err *err) {
    struct statfs fs;
    if (fstatfs(d->fd, &fs) != 0) return neap_err_set(err, NEAP_E_JOURNAL, "cannot examine \"%s\": %s", d->path, strerror(errno));
    for (size_t i = 0; i < sizeof REMOTE / sizeof *REMOTE; i++) {
        if (((unsigned long)fs.f_type & 0xffffffff) != REMOTE[i].magic) continue;
        neap_err_set(err, NEAP_E_JOURNAL, "\"%s\" is on a network file system (%s)", d->path, REMOTE[i].name);
        return neap_err_hint(err, "A journal there could lose records. Name a directory on a local disk with --state or NEAP_STATE.");
    }
    return true;
}

static bool check_directory(const neap_statedir *d, neap_err *err) {
    struct stat st;
    if (fstat(d->fd, &st) != 0) return neap_err_set(err, NEAP_E_JOURNAL, "cannot examine \"%s\": %s", d->path, strerror(errno));
    if (st.st_uid != geteuid()) {
        neap_err_set(err, NEAP_E_JOURNAL, "\"%s\" belongs to another user (uid %u)", d->path, (unsigned)st.st_uid);
        return neap_err_hint(err, "Evidence is kept by the user who runs neap; name a directory of your own with --state.");
    }
    if (st.st_mode & 077) {
        neap_err_set(err, NEAP_E_JOURNAL, "\"%s\" is open to others (mode %03o)", d->path, (unsigned)st.st_mode & 0777);
        return neap_err_hint(err, "Look who could have changed it, then: chmod 700 '%s'", d->path);
    }
    return check_local(d, err);
}

static bool refuse_open(const char *path, neap_err *err) {
    int why = errno;
    if (why == ELOOP || why == ENOTDIR) {
        neap_err_set(err, NEAP_E_JOURNAL, "\"%s\" is not a directory, or is a symbolic link", path);
        return neap_err_hint(err, "Name the directory itself.");
    }
    return neap_err_set(err, NEAP_E_JOURNAL, "cannot open \"%s\": %s", path, strerror(why));
}

static bool make_above(const char *state, neap_err *err) {
    char *path = neap_strdup(state);
    bool ok = true;
    for (char *p = path + 1; ok && *p; p++) {
        if (*p != '/') continue;
        *p = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            ok = neap_err_set(err, NEAP_E_JOURNAL, "cannot make \"%s\": %s", path, strerror(errno));
        *p = '/';
    }
    if (ok && mkdir(path, 0700) != 0 && errno != EEXIST)
        ok = neap_err_set(err, NEAP_E_JOURNAL, "cannot make \"%s\": %s", path, strerror(errno));
    free(path);
    return ok;
}

bool neap_statedir_open(neap_statedir *d, const char *state, bool make, neap_err *err) {
    *d = (neap_statedir)NEAP_STATEDIR_INIT;
    if (!*state) return neap_err_set(err, NEAP_E_USAGE, "the state directory has no name");
    char *name = neap_strdup(state);
    /* "dir/" would follow a link that "dir" does not. */
    for (size_t len = strlen(name); len > 1 && name[len - 1] == '/'; ) name[--len] = '\0';
    bool ok = !make || make_above(name, err);
    if (ok && (d->fd = open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0) ok = refuse_open(name, err);
    if (ok && !(d->path = realpath(name, NULL))) ok = refuse_open(name, err);
    free(name);
    if (ok && check_directory(d, err)) return true;
    neap_statedir_close(d);
    return false;
}

bool neap_statedir_enter(neap_statedir *d, const neap_statedir *parent, const char *name, bool make, neap_err *err) {
    *d = (neap_statedir)NEAP_STATEDIR_INIT;
    d->path = neap_statedir_path(parent, name);
    bool ok = !make || mkdirat(parent->fd, name, 0700) == 0 || errno == EEXIST;
    if (!ok) neap_err_set(err, NEAP_E_JOURNAL, "cannot make \"%s\": %s", d->path, strerror(errno));
    if (ok && (d->fd = openat(parent->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0) ok = refuse_open(d->path, err);
    if (ok && check_directory(d, err)) return true;
    neap_statedir_close(d);
    return false;
}

bool neap_statedir_run(neap_statedir *d, const neap_statedir *state, const char *run, bool make, neap_err *err) {
    *d = (neap_statedir)NEAP_STATEDIR_INIT;
    if (!neap_statedir_is_run(run)) return neap_err_set(err, NEAP_E_USAGE, "\"%s\" is not the id of a run", run);
    neap_statedir runs;
    struct stat st;
    if (!make && fstatat(state->fd, "runs", &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
        return neap_err_set(err, NEAP_E_INVALID, "there is no run \"%s\"", run);
    if (!neap_statedir_enter(&runs, state, "runs", make, err)) return false;
    bool ok = true;
    if (make && mkdirat(runs.fd, run, 0700) != 0)
        ok = neap_err_set(err, NEAP_E_JOURNAL, "cannot make \"%s/%s\": %s", runs.path, run, strerror(errno));
    if (!make && fstatat(runs.fd, run, &st, AT_SYMLINK_NOFOLLOW) != 0)
        ok = neap_err_set(err, NEAP_E_INVALID, "there is no run \"%s\"", run);
    if (ok) ok = neap_statedir_enter(d, &runs, run, false, err);
    neap_statedir_close(&runs);
    return ok;
}

bool neap_statedir_check(const neap_statedir *d, const char *name, struct stat *found, neap_err *err) {
    struct stat st;
    if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return neap_err_set(err, NEAP_E_INVALID, "\"%s/%s\" cannot be found: %s", d->path, name, strerror(errno));
    if (found) *found = st;
    const char *fault = !S_ISREG(st.st_mode)         ? "is not a plain file"
                      : st.st_uid != geteuid()       ? "belongs to another user"
                      : (st.st_mode & 07777) != 0600 ? "does not have mode 600"
                      : st.st_nlink != 1             ? "has a second name (a hard link)" : NULL;
    if (!fault) return true;
    neap_err_set(err, NEAP_E_JOURNAL, "\"%s/%s\" %s", d->path, name, fault);
    return neap_err_hint(err, "Evidence is only kept in files that nobody else can reach; look who changed it.");
}

bool neap_statedir_sync(const neap_statedir *d, neap_err *err) {
    return fsync(d->fd) == 0 || neap_err_set(err, NEAP_E_JOURNAL, "cannot sync \"%s\": %s", d->path, strerror(errno));
}

/* Called once after everything was made: the first sync commits the file system's journal, the others find nothing left. */
bool neap_statedir_sync_path(const neap_statedir *d, neap_err *err) {
    static const char *const UP[] = {"..", "../.."};
    bool ok = neap_statedir_sync(d, err);
    for (size_t i = 0; ok && i < sizeof UP / sizeof *UP; i++) {
        neap_statedir above = {openat(d->fd, UP[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC), NULL};
        above.path = neap_statedir_path(d, UP[i]);
        ok = neap_statedir_sync(&above, err);
        neap_statedir_close(&above);
    }
    return ok;
}
