/* undofile.c -- see undofile.h.
 *
 *   open the run's directory with distrust -> O_EXCL|O_NOFOLLOW 0600 -> bytes -> fsync -> fsync of the directory
 *
 * A write that fails takes its file away again. A run that dies in the middle leaves a file that no record names: nobody reads
 * it, and it goes with the run. Rejected: name.part and rename (the hash in the journal already tells a whole file from half a one),
 * and rows in the evidence file itself (it is copied, shown and kept for years). */
#include "guard/undofile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "guard/statedir.h"

bool neap_undofile_is_name(const char *name) {
    size_t len = strlen(name);
    return len > 5 && len <= 64 && strncmp(name, "rows-", 5) == 0 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static bool open_run(neap_statedir *d, const char *state, const char *run, neap_err *err) {
    neap_statedir top = NEAP_STATEDIR_INIT;
    bool ok = neap_statedir_open(&top, state, false, err) && neap_statedir_run(d, &top, run, false, err);
    neap_statedir_close(&top);
    return ok;
}

static bool fail(const neap_statedir *d, const char *doing, const char *name, neap_err *err) {
    return neap_err_set(err, NEAP_E_JOURNAL, "cannot %s \"%s/%s\": %s", doing, d->path, name, strerror(errno));
}

static bool write_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        data += n, len -= (size_t)n;
    }
    return fsync(fd) == 0;
}

static void hash(const char *data, size_t len, char hex[NEAP_HASH_HEX_SIZE]) {
    unsigned char digest[NEAP_HASH_SIZE];
    neap_hash_of(data, len, digest);
    neap_hash_hex(digest, hex);
}

static bool write_in(const neap_statedir *d, const char *name, const char *data, size_t len, neap_err *err) {
    int fd = openat(d->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return fail(d, "make", name, err);
    bool ok = (fchmod(fd, 0600) == 0 && write_all(fd, data, len)) || fail(d, "write", name, err);
    close(fd);
    ok = ok && neap_statedir_sync(d, err);
    if (!ok) (void)unlinkat(d->fd, name, 0);
    return ok;
}

bool neap_undofile_write(const char *state, const char *run, const char *name, const char *data, size_t len, char hex[NEAP_HASH_HEX_SIZE], neap_err *err) {
    neap_statedir d = NEAP_STATEDIR_INIT;
    if (len > NEAP_UNDOFILE_MOST) {
        neap_err_set(err, NEAP_E_REFUSED, "the rows take %zu bytes, more than the %d that are kept for undo", len, NEAP_UNDOFILE_MOST);
        return neap_err_hint(err, "Delete fewer rows at a time.");
    }
    bool ok = open_run(&d, state, run, err) && write_in(&d, name, data, len, err);
    if (ok) hash(data, len, hex);
    neap_statedir_close(&d);
    return ok;
}

static bool read_in(const neap_statedir *d, const char *name, neap_buf *out, neap_err *err) {
    struct stat st;
    char piece[65536];
    ssize_t n;
    if (!neap_statedir_check(d, name, &st, err)) return false;
    int fd = openat(d->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return fail(d, "open", name, err);
    while ((n = read(fd, piece, sizeof piece)) > 0 && out->len <= NEAP_UNDOFILE_MOST) neap_buf_add(out, piece, (size_t)n);
    bool ok = n == 0 || fail(d, "read", name, err);
    close(fd);
    explicit_bzero(piece, sizeof piece);
    return ok;
}

bool neap_undofile_read(const char *state, const char *run, const char *name, neap_buf *out, char hex[NEAP_HASH_HEX_SIZE], neap_err *err) {
    neap_statedir d = NEAP_STATEDIR_INIT;
    bool ok = open_run(&d, state, run, err) && read_in(&d, name, out, err);
    if (ok) hash(out->len ? out->data : "", out->len, hex);
    neap_statedir_close(&d);
    return ok;
}

bool neap_undofile_remove(const char *state, const char *run, const char *name, bool *gone, neap_err *err) {
    neap_statedir d = NEAP_STATEDIR_INIT;
    bool ok = open_run(&d, state, run, err);
    *gone = ok && unlinkat(d.fd, name, 0) == 0;
    if (ok && !*gone && errno != ENOENT) ok = fail(&d, "remove", name, err);
    ok = ok && neap_statedir_sync(&d, err);
    neap_statedir_close(&d);
    return ok;
}
