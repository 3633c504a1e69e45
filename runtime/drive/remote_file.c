/* remote_file.c -- see remote_file.h.
 *
 * Each verb is one POSIX script that dash, bash and busybox run, given to `sh -c` with its arguments behind it ("$1" …): nothing of a path
 * is ever part of a script. Programs: stat with -c, sha256sum, flock, mv, head; GNU's and busybox's agree on what is used of them.
 *
 * A script ends with 0, or says on stderr in one line why not and ends with 3 (there is nothing of that name), 4 (somebody has it), 5 (we
 * will not) or 1. Programs are asked in the C locale; of what they say the last part is kept, which is strerror's.
 *
 * A file that is written:
 *
 *     RECEIVE   PATH.part made with O_EXCL, locked; its device and inode told; bytes to the end of stdin; sync
 *     PUBLISH   the same inode, locked again; its size and SHA-256, by a full read, are those we sent; owner and mode of the old file;
 *               rename; sync of the directory
 *     DISCARD   the same inode: removed
 *
 * They are apart because the end of stdin also comes when a connection breaks: what was received by then must not get its name. Between
 * RECEIVE and PUBLISH nobody holds the lock; who takes the .part away then has another inode, and PUBLISH says "busy".
 * A leftover is a regular file of ours that nobody has locked: it is replaced and told. Anything else of that name is refused.
 *
 * Locks and holds lie in a private directory of who logs in (of the user behind sudo). The lock is flock(1) in a shell that lives as
 * long as its stdin: with the connection it goes, and with nothing else. Rejected: a place that all accounts share (/run/lock, /tmp):
 * anybody there could leave a hold in our name. */
#include "drive/remote_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the scripts ---- */

/* f STATUS WORDS: end with them; the part of WORDS behind the last ": ". */
#define FAIL "LC_ALL=C; export LC_ALL; f() { printf '%s\\n' \"${2##*: }\" >&2; exit \"$1\"; }; "
#define NONE "\"No such file or directory\""
/* r PATH: may it be read, as a file? */
#define READABLE                                                                                                         \
    "r() { [ -e \"$1\" ] || f 3 " NONE "; [ -d \"$1\" ] && f 1 \"Is a directory\"; "                                     \
    "[ -f \"$1\" ] || f 1 \"Not a regular file\"; [ -r \"$1\" ] || f 1 \"Permission denied\"; }; "
/* d PATH: make durable that it has appeared or gone. s PATH: and what is in it. i PATH: its device and inode. */
#define DURABLE "s() { sync \"$1\" 2>/dev/null || sync; }; d() { s \"${1%/*}/\"; }; i() { stat -c %d:%i \"$1\" 2>/dev/null; }; "
#define LOCKS "command -v flock >/dev/null 2>&1 || f 1 \"flock is not installed\"; "
/* The names about $1: q is the .part. Nothing but a regular file is replaced. */
#define TARGET                                                                                                           \
    "q=$1.part; [ -L \"$1\" ] && f 5 \"it is a symbolic link\"; [ -d \"$1\" ] && f 5 \"it is a directory\"; "            \
    "if [ -e \"$1\" ] && [ ! -f \"$1\" ]; then f 5 \"it is not a regular file\"; fi; "
#define TAKEN "somebody is writing $q"

#define LOOKS "'%f %s %Y %u %g'"

static const char stat_it[] =
    FAIL "if e=$(stat -L -c " LOOKS " \"$1\" 2>&1); then echo \"$e\"; exit; fi; [ -L \"$1\" ] && exec stat -c " LOOKS " \"$1\"; "
    "case $e in *\"No such file or directory\"|*\"Not a directory\") exit 3;; esac; f 1 \"$e\"";

/* Into the directory, when it is one that may be read. */
#define ENTER                                                                                                            \
    "[ -e \"$1\" ] || f 3 " NONE "; [ -d \"$1\" ] || f 1 \"Not a directory\"; "                                          \
    "{ [ -r \"$1\" ] && [ -x \"$1\" ] && cd \"$1\"; } || f 1 \"Permission denied\"; "

static const char list[] =
    FAIL ENTER
    "for n in * .[!.]* ..?*; do if [ -L \"$n\" ]; then k=l; elif [ -d \"$n\" ]; then k=d; elif [ -f \"$n\" ]; then k=f; "
    "elif [ -e \"$n\" ]; then k=o; else continue; fi; printf '%s%s\\0' \"$k\" \"$n\"; done";

static const char hash[] = FAIL READABLE "r \"$1\"; h=$(sha256sum <\"$1\") && n=$(wc -c <\"$1\") && printf '%s %s\\n' \"${h%% *}\" \"$n\"";

/* w DIR/ PATTERN: what fits its first part in there; the pattern is one of `case`, which no name is split or expanded by. */
static const char hashes[] =
    FAIL ENTER "w() { { [ -r \"${1:-.}\" ] && [ -x \"${1:-.}\" ]; } || f 1 \"Permission denied\"; "
    "for n in \"$1\"* \"$1\".[!.]* \"$1\"..?*; do case ${n##*/} in ${2%%/*}) ;; *) continue;; esac; "
    "case $2 in */*) [ ! -d \"$n\" ] || w \"$n/\" \"${2#*/}\"; continue;; esac; "
    "[ -f \"$n\" ] || continue; [ -r \"$n\" ] || f 1 \"Permission denied\"; "
    "h=$(sha256sum <\"$n\") || f 1 \"it cannot be read\"; printf '%s%s\\0' \"${h%% *}\" \"$n\"; done; }; w '' \"$2\"";

static const char space[] = FAIL "e=$(stat -f -c '%a %b %S' \"$1\" 2>&1) || f 1 \"$e\"; echo \"$e\"";

static const char read_it[] = FAIL READABLE "r \"$1\"; exec head -c \"$2\" <\"$1\"";

static const char open_it[] = FAIL READABLE "r \"$1\"; stat -L -c %s \"$1\"; exec cat <\"$1\"";

static const char remove_it[] =
    FAIL DURABLE "[ -e \"$1\" ] || [ -L \"$1\" ] || f 3 " NONE "; "
    "if [ -d \"$1\" ] && [ ! -L \"$1\" ]; then e=$(rmdir \"$1\" 2>&1) || f 1 \"$e\"; else e=$(rm -f \"$1\" 2>&1) || f 1 \"$e\"; fi; d \"$1\"";

static const char mkdir_it[] =
    FAIL DURABLE "[ -d \"$1\" ] && { echo there; exit; }; e=$(mkdir -p ${2:+-m \"$2\"} \"$1\" 2>&1) || f 1 \"$e\"; d \"$1\"; echo made";

static const char rename_it[] =
    FAIL DURABLE "[ -e \"$1\" ] || [ -L \"$1\" ] || f 3 " NONE "; [ -d \"$2\" ] && f 5 \"$2 is a directory\"; "
    "[ \"$(stat -c %d \"$1\")\" = \"$(stat -c %d \"${2%/*}/\" 2>/dev/null)\" ] || f 5 \"$2 is in another file system or in no directory\"; "
    "e=$(mv -f \"$1\" \"$2\" 2>&1) || f 1 \"$e\"; d \"$1\"; d \"$2\"";

static const char receive[] =
    FAIL DURABLE LOCKS TARGET "t=; "
    "if [ -e \"$q\" ] || [ -L \"$q\" ]; then { [ -f \"$q\" ] && [ ! -L \"$q\" ] && [ -O \"$q\" ] && [ -w \"$q\" ]; } || f 5 \"$q is not ours\"; "
    "exec 9<\"$q\"; flock -n 9 || f 4 \"" TAKEN "\"; rm -f \"$q\"; exec 9<&-; t=stale; fi; "
    "umask 077; e=$( { set -C; : >\"$q\"; } 2>&1 ) || { [ -e \"$q\" ] && f 4 \"" TAKEN "\"; w=${1%/*}/; [ -d \"$w\" ] || f 1 " NONE "; "
    "[ -w \"$w\" ] || f 1 \"Permission denied\"; f 1 \"$e\"; }; "
    "p=$(i \"$q\"); exec 9>>\"$q\"; { flock -n 9 && [ \"$(i \"$q\")\" = \"$p\" ]; } || f 4 \"" TAKEN "\"; "
    "[ -e \"$1\" ] && t=$t,old; echo \"$p ,$t\"; "
    "e=$( { cat >&9; } 2>&1 ) || { rm -f \"$q\"; f 1 \"$e\"; }; s \"$q\"";

static const char publish[] =
    FAIL DURABLE LOCKS "m=$(printf %o $((0644 & ~0$(umask)))); " TARGET
    "[ \"$(i \"$q\")\" = \"$2\" ] || f 4 \"$q was taken away\"; exec 9<\"$q\"; { flock -n 9 && [ \"$(i \"$q\")\" = \"$2\" ]; } || f 4 \"" TAKEN "\"; "
    "n=$(wc -c <\"$q\"); h=$(sha256sum <\"$q\"); h=${h%% *}; "
    "{ [ \"$n\" -eq \"$4\" ] && [ \"$h\" = \"$5\" ]; } || { rm -f \"$q\"; f 1 \"what arrived are $n bytes with SHA-256 $h, sent were $4 with $5\"; }; "
    "if [ -e \"$1\" ]; then chown \"$(stat -c %u:%g \"$1\")\" \"$q\" 2>/dev/null; m=$(stat -c %a \"$1\"); elif [ -n \"$3\" ]; then m=$3; fi; "
    "{ e=$(chmod \"$m\" \"$q\" 2>&1) && s \"$q\" && e=$(mv -f \"$q\" \"$1\" 2>&1); } || { rm -f \"$q\"; f 1 \"$e\"; }; d \"$1\"";

static const char discard[] =
    FAIL DURABLE LOCKS "q=$1.part; a=0; while [ \"$(i \"$q\")\" = \"$2\" ]; do exec 9<\"$q\"; "
    "if flock -n 9; then e=$(rm -f \"$q\" 2>&1) || f 1 \"$e\"; d \"$q\"; exit; fi; a=$((a + 1)); [ $a -gt 50 ] && f 4 \"" TAKEN "\"; "
    "sleep 0.1 2>/dev/null || sleep 1; done";

static const char look[] =
    FAIL "q=$1.part; o=; [ -e \"$1\" ] || [ -L \"$1\" ] && o=there; "
    "if [ -n \"$2\" ] && [ -f \"$1\" ]; then h=$(sha256sum <\"$1\") || f 1 \"Permission denied\"; [ \"${h%% *}\" = \"$2\" ] && o=$o,same; fi; "
    "if [ -f \"$q\" ]; then o=$o,part; command -v flock >/dev/null 2>&1 && [ -r \"$q\" ] && exec 9<\"$q\" && { flock -s -n 9 || o=$o,busy; }; fi; echo \",$o\"";

/* w: the directory of this kind. Looking makes none: previews look. */
#define PRIVATE(kind) FAIL "umask 077; case $XDG_STATE_HOME in /*) w=$XDG_STATE_HOME;; *) w=$HOME/.local/state;; esac; w=$w/neap/" kind "; "
#define MADE "e=$(mkdir -p \"$w\" 2>&1) || f 1 \"$e\"; "

static const char lock[] =
    PRIVATE("locks") LOCKS MADE "exec 9>>\"$w/$1\"; flock -n 9 || { e=$(cat \"$w/$1.who\" 2>/dev/null); printf '%s\\n' \"${e:-somebody}\" >&2; exit 4; }; "
    "printf '%s\\n' \"$2\" >\"$w/$1.who\"; echo ours; cat >/dev/null; rm -f \"$w/$1.who\"";
static const char held[] =
    PRIVATE("locks") "{ [ -e \"$w/$1\" ] && exec 9<\"$w/$1\"; } || exit 3; flock -s -n 9 && exit 3; cat \"$w/$1.who\" 2>/dev/null || echo somebody";
static const char hold_set[] =
    PRIVATE("holds") DURABLE MADE "{ e=$( { printf '%s\\n' \"$2\" >\"$w/$1.new\"; } 2>&1 ) && s \"$w/$1.new\" && e=$(mv -f \"$w/$1.new\" \"$w/$1\" 2>&1); } || "
    "f 1 \"$e\"; d \"$w/$1\"";
static const char hold_get[] = PRIVATE("holds") "[ -e \"$w/$1\" ] || exit 3; exec cat \"$w/$1\"";
static const char hold_clear[] = PRIVATE("holds") DURABLE "[ -e \"$w/$1\" ] || exit 0; e=$(rm -f \"$w/$1\" 2>&1) || f 1 \"$e\"; d \"$w/$1\"";

const char *neap_far_script(neap_far_verb verb) {
    static const char *const scripts[] = {
        [NEAP_FAR_STAT] = stat_it, [NEAP_FAR_LIST] = list, [NEAP_FAR_HASH] = hash, [NEAP_FAR_HASHES] = hashes, [NEAP_FAR_SPACE] = space, [NEAP_FAR_READ] = read_it,
        [NEAP_FAR_OPEN] = open_it, [NEAP_FAR_REMOVE] = remove_it, [NEAP_FAR_MKDIR] = mkdir_it, [NEAP_FAR_RENAME] = rename_it,
        [NEAP_FAR_RECEIVE] = receive, [NEAP_FAR_PUBLISH] = publish, [NEAP_FAR_DISCARD] = discard, [NEAP_FAR_LOOK] = look,
        [NEAP_FAR_LOCK] = lock, [NEAP_FAR_HELD] = held, [NEAP_FAR_HOLD_SET] = hold_set, [NEAP_FAR_HOLD_GET] = hold_get,
        [NEAP_FAR_HOLD_CLEAR] = hold_clear};
    return scripts[verb];
}

/* ---- paths ---- */

char *neap_far_path(const char *path, size_t len, neap_err *err) {
    neap_buf out = NEAP_BUF_INIT;
    if (strlen(path) != len) { neap_err_set(err, NEAP_E_USAGE, "a path holds a NUL byte"); return NULL; }
    if (*path != '/') {
        neap_err_set(err, NEAP_E_USAGE, "\"%s\" is no path on a host", path);
        neap_err_hint(err, "Paths on a host begin with /: where a login begins differs from user to user.");
        return NULL;
    }
    while (*path) {
        path += strspn(path, "/");
        size_t part = strcspn(path, "/");
        if (part == 2 && memcmp(path, "..", 2) == 0) {
            neap_buf_close(&out);
            neap_err_set(err, NEAP_E_USAGE, "a path on a host has no \"..\" in it");
            return NULL;
        }
        if (part && !(part == 1 && *path == '.')) neap_buf_addc(&out, '/'), neap_buf_add(&out, path, part);
        path += part;
    }
    if (!out.len) neap_buf_addc(&out, '/');
    return neap_buf_take(&out);
}

/* ---- answers ---- */

void neap_far_judge(neap_err *err, int status, const char *said, const char *doing, const char *place, const char *sudo) {
    size_t len = strcspn(said, "\n");
    neap_code code = status == NEAP_FAR_BUSY ? NEAP_E_BUSY : status == NEAP_FAR_REFUSED ? NEAP_E_REFUSED : NEAP_E_REMOTE;
    neap_err_set(err, code, "cannot %s on %s: %.*s", doing, place, len ? (int)len : 7, len ? said : "nothing");
    err->status = status;
    if (code == NEAP_E_BUSY) err->retry = true;
    if (len && strncmp(said, "Permission denied", 17) == 0 && !sudo)
        neap_err_hint(err, "Log in as who may, or let neap become that user: sudo = \"NAME\" in the host's entry.");
}

bool neap_far_read_stat(const char *text, neap_disk_stat *out) {
    unsigned mode;
    long long size, mtime;
    if (sscanf(text, "%x %lld %lld %d %d", &mode, &size, &mtime, &out->uid, &out->gid) != 5) return false;
    out->kind = S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "directory" : S_ISLNK(mode) ? "link" : "other";
    out->mode = (int)(mode & 07777);
    out->size = size;
    out->mtime_ms = mtime * 1000;
    return true;
}

static bool is_hash(const char *hex) {
    for (int i = 0; i < NEAP_HASH_HEX_SIZE - 1; i++)
        if (!isxdigit((unsigned char)hex[i])) return false;
    return true;
}

bool neap_far_read_hash(const char *text, char hex[NEAP_HASH_HEX_SIZE], int64_t *size) {
    long long bytes;
    if (strlen(text) < NEAP_HASH_HEX_SIZE || !is_hash(text) || sscanf(text + NEAP_HASH_HEX_SIZE - 1, " %lld", &bytes) != 1) return false;
    memcpy(hex, text, NEAP_HASH_HEX_SIZE - 1);
    hex[NEAP_HASH_HEX_SIZE - 1] = 0;
    *size = bytes;
    return true;
}

bool neap_far_is_hashes(const neap_buf *all) {
    if (all->len && all->data[all->len - 1] != 0) return false;
    for (size_t i = 0; i < all->len; i += strlen(all->data + i) + 1)
        if (strlen(all->data + i) < NEAP_HASH_HEX_SIZE || !is_hash(all->data + i)) return false;
    return true;
}

bool neap_far_read_space(const char *text, int64_t *free_bytes, int64_t *total_bytes) {
    long long available, blocks, size;
    if (sscanf(text, "%lld %lld %lld", &available, &blocks, &size) != 3) return false;
    *free_bytes = available * size;
    *total_bytes = blocks * size;
    return true;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a + 1, *(char *const *)b + 1); }

bool neap_far_sort_list(neap_buf *all) {
    size_t count = 0, at = 0;
    if (all->len && all->data[all->len - 1] != 0) return false;
    for (size_t i = 0; i < all->len; i += strlen(all->data + i) + 1, count++)
        if (!strchr("fdlo", all->data[i]) || !all->data[i] || !all->data[i + 1]) return false;
    char **names = neap_alloc((count + 1) * sizeof *names);
    for (size_t i = 0; i < all->len; i += strlen(all->data + i) + 1) names[at++] = all->data + i;
    if (count) qsort(names, count, sizeof *names, by_name);
    neap_buf sorted = NEAP_BUF_INIT;
    for (size_t i = 0; i < count; i++) neap_buf_add(&sorted, names[i], strlen(names[i]) + 1);
    free(names);
    neap_buf_close(all);
    *all = sorted;
    return true;
}

bool neap_far_read_part(const char *line, neap_far_part *out) {
    size_t len = strcspn(line, " ");
    if (!len || len >= sizeof out->id || !line[len]) return false;
    memcpy(out->id, line, len);
    out->id[len] = 0;
    out->stale = strstr(line + len, ",stale") != NULL;
    out->replaces = strstr(line + len, ",old") != NULL;
    return true;
}

bool neap_far_read_look(const char *text, neap_far_look *out) {
    if (*text != ',') return false;
    *out = (neap_far_look){strstr(text, ",there") != NULL, strstr(text, ",same") != NULL, strstr(text, ",part") != NULL, strstr(text, ",busy") != NULL};
    return true;
}
