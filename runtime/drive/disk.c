/* disk.c -- asking about files: stat, list, read, hash, space; removing; one name for each file.
 *
 * Nothing here changes the content of a file; that is part.c's business. Names are resolved to one absolute name, because the
 * guard's subjects are compared as text: a file that a preview withholds must not be readable under another
 * spelling. Resolving asks the kernel's name cache and happens on the loop; everything else is for the pool.
 */
#include "drive/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "loop/loop.h"

enum { PIECE_SIZE = 256 * 1024, FIRST_SIZE = 4096 };

static bool fail(neap_err *err, const char *what, const char *path) {
    return neap_loop_fail(err, -errno, "cannot %s \"%s\"", what, path);
}

static const char *kind_of(mode_t mode) {
    if (S_ISREG(mode)) return "file";
    if (S_ISDIR(mode)) return "directory";
    return S_ISLNK(mode) ? "link" : "other";
}

bool neap_disk_stat_of(const char *path, neap_disk_stat *out, neap_err *err) {
    struct stat st;
    *out = (neap_disk_stat){0};
    if (stat(path, &st) != 0 && lstat(path, &st) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) return true;
        return fail(err, "look at", path);
    }
    out->kind = kind_of(st.st_mode);
    out->size = st.st_size;
    out->mtime_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    out->mode = (int)(st.st_mode & 07777);
    out->uid = (int)st.st_uid;
    out->gid = (int)st.st_gid;
    return true;
}

/* Lists ------------------------------------------------------------------------------------ */

static int by_bytes(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int is_entry(const struct dirent *e) { return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0; }

static char letter_of(const char *dir, const struct dirent *e) {
    if (e->d_type == DT_REG) return 'f';
    if (e->d_type == DT_DIR) return 'd';
    if (e->d_type == DT_LNK) return 'l';
    if (e->d_type != DT_UNKNOWN) return 'o';
    neap_buf path = NEAP_BUF_INIT;
    struct stat st;
    neap_buf_addf(&path, "%s/%s", dir, e->d_name);
    char letter = lstat(path.data, &st) == 0 ? kind_of(st.st_mode)[0] : 'o';
    neap_buf_close(&path);
    return letter;
}

bool neap_disk_list(const char *path, neap_buf *out, neap_err *err) {
    struct dirent **entries;
    int count = scandir(path, &entries, is_entry, by_bytes);
    if (count < 0) return fail(err, "list", path);
    for (int i = 0; i < count; i++) {
        neap_buf_addc(out, letter_of(path, entries[i]));
        neap_buf_add(out, entries[i]->d_name, strlen(entries[i]->d_name) + 1);
        free(entries[i]);
    }
    free(entries);
    return true;
}

/* Content ---------------------------------------------------------------------------------- */

/* O_NONBLOCK: a FIFO without a writer must not hold a pool thread for ever; it is no file and refused. */
static int open_file(const char *path, struct stat *st, neap_err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) { fail(err, "read", path); return -1; }
    if (fstat(fd, st) == 0 && S_ISREG(st->st_mode)) return fd;
    close(fd);
    neap_err_set(err, NEAP_E_REFUSED, "\"%s\" is not a regular file", path);
    return -1;
}

static bool too_big(neap_err *err, const char *path, size_t limit) {
    neap_err_set(err, NEAP_E_REFUSED, "\"%s\" is larger than %zu bytes", path, limit);
    return neap_err_hint(err, "Raise the limit, or open it as a stream, which needs no memory.");
}

/* What is still to come by the size it had, and a little more, which finds its end in the same call; a file that grew, or one of
 * /proc that says 0, is read on in pieces. The room is cleared and later wiped, so it should not be larger than the file. */
static size_t room_for(const struct stat *st, size_t have) {
    size_t rest = (size_t)st->st_size > have ? (size_t)st->st_size - have : 0;
    return rest >= PIECE_SIZE ? PIECE_SIZE : rest + FIRST_SIZE;
}

bool neap_disk_read(const char *path, size_t limit, neap_buf *out, neap_err *err) {
    struct stat st;
    ssize_t len = 0;
    size_t room = 0;
    bool ok = false;
    int fd = open_file(path, &st, err);
    if (fd < 0) return false;
    while (out->len <= limit && (room = room_for(&st, out->len), len = read(fd, neap_buf_room(out, room), room)) > 0) out->len += (size_t)len;
    if (len < 0) fail(err, "read", path);
    else if (out->len > limit) too_big(err, path, limit);
    else ok = true;
    close(fd);
    return ok;
}

bool neap_disk_hash(const char *path, const neap_disk_flag *stop, char hex[NEAP_HASH_HEX_SIZE], int64_t *size, neap_err *err) {
    struct stat st;
    unsigned char digest[NEAP_HASH_SIZE];
    ssize_t len = 0;
    bool stopped = false;
    int fd = open_file(path, &st, err);
    if (fd < 0) return false;
    char *piece = neap_alloc(PIECE_SIZE);
    neap_hash *hash = neap_hash_new();
    *size = 0;
    while (!(stopped = stop && atomic_load(stop)) && (len = read(fd, piece, PIECE_SIZE)) > 0) {
        neap_hash_add(hash, piece, (size_t)len);
        *size += len;
    }
    if (stopped) neap_err_set(err, NEAP_E_CANCELLED, "stopped while reading \"%s\"", path);
    else if (len < 0) fail(err, "read", path);
    neap_hash_end(hash, digest);
    neap_hash_hex(digest, hex);
    free(piece);
    close(fd);
    return !stopped && len == 0;
}

static bool is_a(mode_t format, const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && (st.st_mode & S_IFMT) == format;
}

static bool add_hash(const char *path, const char *name, const neap_disk_flag *stop, neap_buf *out, neap_err *err) {
    char hex[NEAP_HASH_HEX_SIZE];
    int64_t size;
    if (!neap_disk_hash(path, stop, hex, &size, err)) return false;
    neap_buf_adds(out, hex);
    neap_buf_add(out, name, strlen(name) + 1);
    return true;
}

/* `skip` bytes of a path are the directory that was asked about. */
static bool hash_fitting(const char *dir, size_t skip, const char *pattern, const neap_disk_flag *stop, neap_buf *out, neap_err *err) {
    size_t len = strcspn(pattern, "/");
    char *part = neap_strndup(pattern, len);
    struct dirent **entries;
    int count = scandir(dir, &entries, is_entry, by_bytes);
    bool ok = count >= 0 || fail(err, "list", dir);
    for (int i = 0; i < count; i++) {
        neap_buf path = NEAP_BUF_INIT;
        neap_buf_addf(&path, "%s/%s", dir, entries[i]->d_name);
        if (!ok || fnmatch(part, entries[i]->d_name, 0) != 0) ;
        else if (pattern[len]) ok = !is_a(S_IFDIR, path.data) || hash_fitting(path.data, skip, pattern + len + 1, stop, out, err);
        else if (is_a(S_IFREG, path.data)) ok = add_hash(path.data, path.data + skip, stop, out, err);
        neap_buf_close(&path);
        free(entries[i]);
    }
    if (count >= 0) free(entries);
    free(part);
    return ok;
}

bool neap_disk_hashes(const char *dir, const char *pattern, const neap_disk_flag *stop, neap_buf *out, neap_err *err) {
    return hash_fitting(dir, strlen(dir) + 1, pattern, stop, out, err);
}

bool neap_disk_space(const char *path, int64_t *free_bytes, int64_t *total_bytes, neap_err *err) {
    struct statvfs st;
    if (statvfs(path, &st) != 0) return fail(err, "ask for the space at", path);
    *free_bytes = (int64_t)(st.f_bavail * st.f_frsize);
    *total_bytes = (int64_t)(st.f_blocks * st.f_frsize);
    return true;
}

/* Changes of names ------------------------------------------------------------------------- */

/* Without this a rename, a new or a removed name may be lost with the power, after an outcome said "ok". */
bool neap_disk_sync_name(const char *path, neap_err *err) {
    char *dir = neap_strdup(path), *slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = 0;
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
    if (!ok) fail(err, "make durable the directory of", path);
    if (fd >= 0) close(fd);
    free(dir);
    return ok;
}

bool neap_disk_remove(const char *path, neap_err *err) {
    struct stat st;
    if (lstat(path, &st) != 0) return fail(err, "remove", path);
    int result = S_ISDIR(st.st_mode) ? rmdir(path) : unlink(path);
    return result == 0 ? neap_disk_sync_name(path, err) : fail(err, "remove", path);
}

bool neap_disk_mkdir(const char *path, int mode, bool *made, neap_err *err) {
    *made = false;
    if (mkdir(path, (mode_t)mode) == 0) return (*made = true) && neap_disk_sync_name(path, err);
    if (errno == EEXIST && is_a(S_IFDIR, path)) return true;
    if (errno != ENOENT) return fail(err, "make the directory", path);
    char *parent = neap_strdup(path), *slash = strrchr(parent, '/');
    bool ignored, ok = slash && slash != parent;
    if (ok) *slash = 0;
    ok = ok && neap_disk_mkdir(parent, 0755, &ignored, err);
    free(parent);
    if (!ok) return err && err->code ? false : fail(err, "make the directory", path);
    if (mkdir(path, (mode_t)mode) != 0) return fail(err, "make the directory", path);
    *made = true;
    return neap_disk_sync_name(path, err);
}

/* Names ------------------------------------------------------------------------------------ */

char *neap_disk_part_name(const char *path) { return neap_asprintf("%s.part", path); }

/* What does not exist cannot be a link, so the rest of such a name is taken as it is written. */
static char *resolve_missing(const char *path) {
    char *parent = neap_strdup(path), *slash = strrchr(parent, '/');
    const char *name = slash ? slash + 1 : parent;
    bool odd = !*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    neap_buf out = NEAP_BUF_INIT;
    char *real;
    if (slash) *slash = 0;
    if (odd) real = NULL;
    else if (!slash) real = realpath(".", NULL);
    else if (slash == parent) real = neap_strdup("");
    else real = realpath(parent, NULL);
    if (!real && slash && slash != parent && !odd) real = resolve_missing(parent);
    if (real) neap_buf_addf(&out, "%s/%s", strcmp(real, "/") == 0 ? "" : real, name);
    else neap_buf_adds(&out, path);
    free(real);
    free(parent);
    return neap_buf_take(&out);
}

char *neap_disk_resolve(const char *path, bool entry) {
    size_t len = strlen(path);
    char *plain = neap_strdup(path);
    while (len > 1 && plain[len - 1] == '/') plain[--len] = 0;
    char *real = entry ? NULL : realpath(plain, NULL);
    if (!real) real = resolve_missing(plain);
    free(plain);
    return real;
}
