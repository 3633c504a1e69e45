/* leftover.c -- see leftover.h.
 *
 * A directory counts as left behind only when everything speaks for it: its name, that it is ours and 0700, that it is older than
 * OLD_S (a neap that begins makes the directory before the socket), that nothing but sockets is in it, and that nobody
 * listens at any of them. The kernel's list is asked first and only what is not on it is connected to: to connect to a live tunnel
 * would dial its far end. Whatever else lies in the same places under such a name stays.
 *
 * Rejected: the pid in the name (pids come again, and a name can be guessed). */
#include "drive/leftover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"

enum { OLD_S = 60, NAME = sizeof "neap.XXXXXX" - 1 };

/* ---- sockets ---- */

/* Column 8 of /proc/net/unix is the path. */
static bool is_listed(const char *path) {
    FILE *f = fopen("/proc/net/unix", "re");
    char *line = NULL;
    size_t size = 0, len = strlen(path);
    bool found = !f;                               /* nobody can say: it stays */
    for (ssize_t n; f && !found && (n = getline(&line, &size, f)) > 0;) {
        if (line[n - 1] == '\n') line[--n] = '\0';
        found = (size_t)n > len && strcmp(line + n - len, path) == 0 && line[(size_t)n - len - 1] == ' ';
    }
    free(line);
    if (f) fclose(f);
    return found;
}

static bool is_refused(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof to.sun_path) return false;
    strcpy(to.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool refused = fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) != 0 && errno == ECONNREFUSED;
    if (fd >= 0) close(fd);
    return refused;
}

/* ---- directories ---- */

static bool is_dots(const char *name) { return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2])); }

static bool is_dead_socket(int dir, const char *place, const char *name) {
    struct stat st;
    neap_buf path = NEAP_BUF_INIT;
    neap_buf_addf(&path, "%s/%s", place, name);
    bool dead = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode) && !is_listed(path.data) && is_refused(path.data);
    neap_buf_close(&path);
    return dead;
}

/* Only dead sockets, or nothing. With `remove` they go. */
static bool sweep_inside(DIR *inside, const char *place, bool remove) {
    bool dead = true;
    for (struct dirent *e; dead && (e = readdir(inside));) {
        if (is_dots(e->d_name)) continue;
        dead = is_dead_socket(dirfd(inside), place, e->d_name);
        if (dead && remove) dead = unlinkat(dirfd(inside), e->d_name, 0) == 0;
    }
    return dead;
}

static bool is_ours(const struct stat *st) {
    return S_ISDIR(st->st_mode) && st->st_uid == geteuid() && (st->st_mode & 07777) == 0700 && time(NULL) - st->st_mtime > OLD_S;
}

/* Looked through before anything is taken out of it. */
static bool sweep(int base, const char *name, const char *place, bool remove) {
    struct stat st;
    int fd = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *inside = fd >= 0 && fstat(fd, &st) == 0 && is_ours(&st) ? fdopendir(fd) : NULL;
    if (!inside) {
        if (fd >= 0) close(fd);
        return false;
    }
    bool gone = sweep_inside(inside, place, false);
    if (gone && remove) {
        rewinddir(inside);
        gone = sweep_inside(inside, place, true) && unlinkat(base, name, AT_REMOVEDIR) == 0;
    }
    closedir(inside);
    return gone;
}

static void sweep_base(const char *base, bool remove, neap_leftover_fn fn, void *arg) {
    DIR *dir = opendir(base);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strlen(e->d_name) != NAME || strncmp(e->d_name, "neap.", 5) != 0) continue;
        neap_buf place = NEAP_BUF_INIT;
        neap_buf_addf(&place, "%s/%s", base, e->d_name);
        if (sweep(dirfd(dir), e->d_name, place.data, remove)) fn(arg, place.data);
        neap_buf_close(&place);
    }
    if (dir) closedir(dir);
}

void neap_leftovers(bool remove, neap_leftover_fn fn, void *arg) {
    const char *bases[] = {getenv("TMPDIR"), getenv("XDG_RUNTIME_DIR"), "/tmp"};
    for (int i = 0; i < 3; i++) {
        bool again = !bases[i] || *bases[i] != '/';
        for (int before = 0; !again && before < i; before++) again = bases[before] && strcmp(bases[before], bases[i]) == 0;
        if (!again) sweep_base(bases[i], remove, fn, arg);
    }
}
