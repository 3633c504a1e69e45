/* knownhosts.c -- reading known_hosts, and matching names and keys.
 *
 * Promises
 *   - The answer is OpenSSH's (9.2; a spec asks both about the same files). libssh2 has a reader of its own, which knows neither
 *     markers nor patterns, calls a host with a pinned key of another type "not found", and gives up a whole file for one bad line.
 *   - A line: [@marker] names type base64 [comment]. Names are patterns with * and ?, in any case of letters; one that begins with !
 *     and matches takes the whole line away; or one hashed name, |1|salt|HMAC-SHA1(salt, name).
 *   - @revoked refuses its key for the hosts it names, wherever it stands. @cert-authority pins who signs a host's certificate; a
 *     plain key never matches it, not even the authority's own.
 *   - Another key than the pinned one is refused whatever its type: a host that is known by its ed25519 key and shows an ecdsa key may
 *     be somebody else who has no ed25519 key to show.
 *   - A bad line pins nothing and hides nothing; it is kept by file and number with a word why.
 *
 * Rejected: matching while reading, as OpenSSH does. One list in memory serves the preference of types and the check, and lines
 * for other hosts are looked at too, so that a typing error is told before it is needed. */
#define OPENSSL_SUPPRESS_DEPRECATED                /* the plain SHA-1 functions, as base/hash.c says */
#include "drive/knownhosts.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 65536, NAME_MAX_BYTES = 1022, SALT_SIZE = 20 };

typedef enum { PLAIN, AUTHORITY, REVOKED } marker;

typedef struct entry {
    marker marker;
    char *names;
    const char *type;
    unsigned char *blob;
    size_t len;
    size_t file;
    int line;
} entry;

struct neap_known_hosts {
    entry *entries;
    size_t count, room;
    char **files;
    size_t file_count;
    neap_known_bad *bad;
    size_t bad_count, bad_room;
};

neap_known_hosts *neap_known_hosts_new(void) { return neap_zalloc(sizeof(neap_known_hosts)); }

void neap_known_hosts_free(neap_known_hosts *k) {
    if (!k) return;
    for (size_t i = 0; i < k->count; i++) free(k->entries[i].names), free(k->entries[i].blob);
    for (size_t i = 0; i < k->file_count; i++) free(k->files[i]);
    free(k->entries), free(k->files), free(k->bad);
    free(k);
}

const neap_known_bad *neap_known_hosts_bad(const neap_known_hosts *k, size_t n) { return n < k->bad_count ? &k->bad[n] : NULL; }

/* Room for one more element of a row that doubles. */
static void *grown(void *row, size_t *room, size_t count, size_t size) {
    if (count < *room) return row;
    size_t more = *room ? *room * 2 : 16;
    void *wider = neap_alloc(more * size);
    if (count) memcpy(wider, row, count * size);
    free(row);
    *room = more;
    return wider;
}

/* Reading a line ------------------------------------------------------------------------------------------------------------------ */

static size_t blanks(const char *text, size_t len) {
    size_t n = 0;
    while (n < len && (text[n] == ' ' || text[n] == '\t')) n++;
    return n;
}

static size_t word(const char *text, size_t len) {
    size_t n = 0;
    while (n < len && text[n] != ' ' && text[n] != '\t') n++;
    return n;
}

/* Take the next word and the blanks behind it. */
static bool next(const char **text, size_t *len, const char **at, size_t *n) {
    *at = *text;
    *n = word(*text, *len);
    size_t used = *n + blanks(*text + *n, *len - *n);
    *text += used, *len -= used;
    return *n > 0;
}

/* |1|salt|hash with a salt and a hash of 20 bytes each */
static bool read_hashed(const char *names, unsigned char salt[SALT_SIZE], unsigned char digest[SHA_DIGEST_LENGTH]) {
    const char *bar = strncmp(names, "|1|", 3) == 0 ? strchr(names + 3, '|') : NULL;
    neap_buf a = NEAP_BUF_INIT, b = NEAP_BUF_INIT;
    bool ok = bar && neap_base64_decode(&a, names + 3, (size_t)(bar - names - 3)) && a.len == SALT_SIZE
              && neap_base64_decode(&b, bar + 1, strlen(bar + 1)) && b.len == SHA_DIGEST_LENGTH;
    if (ok) memcpy(salt, a.data, SALT_SIZE), memcpy(digest, b.data, SHA_DIGEST_LENGTH);
    neap_buf_close(&a);
    neap_buf_close(&b);
    return ok;
}

static const char *read_marker(entry *e, const char **text, size_t *len) {
    const char *at;
    size_t n;
    if (**text != '@') return NULL;
    next(text, len, &at, &n);
    if (n == 8 && memcmp(at, "@revoked", n) == 0) e->marker = REVOKED;
    else if (n == 15 && memcmp(at, "@cert-authority", n) == 0) e->marker = AUTHORITY;
    else return "its marker is neither @revoked nor @cert-authority";
    return *len && **text == '@' ? "it has two markers" : NULL;
}

static const char *read_key(entry *e, const char *text, size_t len) {
    const char *type, *key;
    size_t type_len, key_len;
    if (!next(&text, &len, &type, &type_len) || *type == '#') return "it has no key";
    const char *said = neap_hostkey_type(type, type_len);
    if (!said) return "the type of its key is not known";
    if (!next(&text, &len, &key, &key_len)) return "it has no key";
    neap_buf blob = NEAP_BUF_INIT;
    const char *is = neap_base64_decode(&blob, key, key_len) ? neap_hostkey_type_of_blob((unsigned char *)blob.data, blob.len) : NULL;
    const char *why = !is ? "its key is damaged" : is != said ? "its key is of another type than it says" : NULL;
    if (why) neap_buf_close(&blob);
    else e->type = is, e->len = blob.len, e->blob = (unsigned char *)neap_buf_take(&blob);
    return why;
}

/* NULL, or what is wrong with the line; `e` owns nothing then. An empty line or a comment leaves e->blob NULL. */
static const char *read_line(entry *e, const char *text, size_t len) {
    const char *names, *why;
    size_t n, lead = blanks(text, len);
    unsigned char salt[SALT_SIZE], digest[SHA_DIGEST_LENGTH];
    text += lead, len -= lead;
    if (len == 0 || *text == '#' || (len == 1 && *text == '\r')) return NULL;
    if (len > LINE_MAX_BYTES) return "it is too long";
    if (memchr(text, 0, len)) return "it holds a NUL byte";
    if ((why = read_marker(e, &text, &len))) return why;
    if (!next(&text, &len, &names, &n)) return "it names no host";
    if ((why = read_key(e, text, len))) return why;
    e->names = neap_strndup(names, n);
    if (*names != '|' || read_hashed(e->names, salt, digest)) return NULL;
    free(e->names), free(e->blob);
    return "its hashed name is damaged";
}

void neap_known_hosts_add_text(neap_known_hosts *k, const char *path, const char *text, size_t len) {
    char **files = neap_alloc((k->file_count + 1) * sizeof *files);
    if (k->file_count) memcpy(files, k->files, k->file_count * sizeof *files);
    free(k->files);
    k->files = files;
    files[k->file_count] = neap_strdup(path);
    for (int line = 1; len > 0; line++) {
        const char *end = memchr(text, '\n', len);
        size_t n = end ? (size_t)(end - text) : len;
        entry e = {.file = k->file_count, .line = line};
        const char *why = read_line(&e, text, n);
        if (why) {
            k->bad = grown(k->bad, &k->bad_room, k->bad_count, sizeof *k->bad);
            k->bad[k->bad_count++] = (neap_known_bad){files[k->file_count], line, why};
        } else if (e.blob) {
            k->entries = grown(k->entries, &k->room, k->count, sizeof *k->entries);
            k->entries[k->count++] = e;
        }
        text += end ? n + 1 : n, len -= end ? n + 1 : n;
    }
    k->file_count++;
}

bool neap_known_hosts_add_file(neap_known_hosts *k, const char *path, neap_err *err) {
    FILE *f = fopen(path, "re");
    if (!f && (errno == ENOENT || errno == ENOTDIR)) return true;
    neap_buf text = NEAP_BUF_INIT;
    size_t n = 1;
    while (f && n > 0) text.len += n = fread(neap_buf_room(&text, 65536), 1, 65536, f);
    bool ok = f && !ferror(f);
    if (!ok) neap_loop_fail(err, -errno, "cannot read \"%s\"", path);
    else neap_known_hosts_add_text(k, path, text.data ? text.data : "", text.len);
    if (f) fclose(f);
    neap_buf_close(&text);
    return ok;
}

/* Matching names ------------------------------------------------------------------------------------------------------------------ */

/* `*` is any run of bytes, `?` any one. Goes back to the newest star only, which is enough and never slow. */
static bool is_like(const char *text, const char *pattern, size_t len) {
    const char *star = NULL, *from = NULL, *end = pattern + len;
    while (*text) {
        if (pattern < end && *pattern == '*') { star = ++pattern, from = text; continue; }
        if (pattern < end && (*pattern == '?' || tolower((unsigned char)*pattern) == *text)) { pattern++, text++; continue; }
        if (!star) return false;
        pattern = star, text = ++from;
    }
    while (pattern < end && *pattern == '*') pattern++;
    return pattern == end;
}

/* `name` is in lower case already. A pattern too long for OpenSSH ends the look at the line, as there. */
static bool names_match(const char *names, const char *name) {
    bool found = false;
    for (const char *at = names; *at;) {
        bool negated = *at == '!';
        at += negated;
        size_t n = strcspn(at, ",");
        if (n > NAME_MAX_BYTES) return false;
        if (is_like(name, at, n)) {
            if (negated) return false;
            found = true;
        }
        at += n + (at[n] == ',');
    }
    return found;
}

static void hmac_sha1(const unsigned char key[SALT_SIZE], const char *text, unsigned char out[SHA_DIGEST_LENGTH]) {
    unsigned char pad[SHA_CBLOCK];
    SHA_CTX c;
    for (int outer = 0; outer < 2; outer++) {
        for (int i = 0; i < SHA_CBLOCK; i++) pad[i] = (unsigned char)((i < SALT_SIZE ? key[i] : 0) ^ (outer ? 0x5c : 0x36));
        SHA1_Init(&c);
        SHA1_Update(&c, pad, sizeof pad);
        SHA1_Update(&c, outer ? (const void *)out : text, outer ? SHA_DIGEST_LENGTH : strlen(text));
        SHA1_Final(out, &c);
    }
}

static bool entry_names(const entry *e, const char *name) {
    unsigned char salt[SALT_SIZE], said[SHA_DIGEST_LENGTH], is[SHA_DIGEST_LENGTH];
    if (*e->names != '|') return names_match(e->names, name);
    if (!read_hashed(e->names, salt, said)) return false;
    hmac_sha1(salt, name, is);
    return memcmp(said, is, sizeof is) == 0;
}

static char *lower(char *text) {
    for (char *at = text; *at; at++) *at = (char)tolower((unsigned char)*at);
    return text;
}

char *neap_known_hosts_name(const neap_ssh_host *host) {
    if (host->key_alias) return lower(neap_strdup(host->key_alias));
    if (host->port == 22 || host->port == 0) return lower(neap_strdup(host->hostname));
    return lower(neap_asprintf("[%s]:%d", host->hostname, host->port));
}

/* Answers ------------------------------------------------------------------------------------------------------------------------- */

static bool has_key(const entry *e, const unsigned char *blob, size_t len) { return e->len == len && memcmp(e->blob, blob, len) == 0; }

static neap_known_result answer(const neap_known_hosts *k, neap_known status, const entry *e) {
    neap_known_result r = {.status = status};
    if (!e) return r;
    r.file = k->files[e->file], r.line = e->line, r.type = e->type;
    neap_hostkey_fingerprint(e->blob, e->len, r.fingerprint);
    return r;
}

/* The best plain line decides, unless any @revoked line has the key. Among lines with other keys the first of the same type is named. */
static neap_known_result check_name(const neap_known_hosts *k, const char *name, const unsigned char *blob, size_t len) {
    const char *type = neap_hostkey_type_of_blob(blob, len);
    const entry *same = NULL, *other = NULL, *equal = NULL;
    for (size_t i = 0; i < k->count; i++) {
        const entry *e = &k->entries[i];
        if (e->marker == AUTHORITY || !entry_names(e, name)) continue;
        if (e->marker == REVOKED) {
            if (has_key(e, blob, len)) return answer(k, NEAP_KNOWN_REVOKED, e);
        } else if (has_key(e, blob, len)) {
            if (!equal) equal = e;
        } else if (e->type == type) {
            if (!same) same = e;
        } else if (!other) other = e;
    }
    if (equal) return answer(k, NEAP_KNOWN_OK, equal);
    if (same) return answer(k, NEAP_KNOWN_CHANGED, same);
    return answer(k, other ? NEAP_KNOWN_OTHER_TYPE : NEAP_KNOWN_UNKNOWN, other);
}

neap_known_result neap_known_hosts_check(const neap_known_hosts *k, const neap_ssh_host *host, const unsigned char *blob, size_t len) {
    char *name = neap_known_hosts_name(host);
    neap_known_result r = check_name(k, name, blob, len);
    if (r.status == NEAP_KNOWN_UNKNOWN && *name == '[' && !host->key_alias) {
        char *plain = lower(neap_strdup(host->hostname));      /* as ssh: a line without a port pins every port of the host */
        neap_known_result without = check_name(k, plain, blob, len);
        if (without.status == NEAP_KNOWN_OK || without.status == NEAP_KNOWN_REVOKED) r = without;
        free(plain);
    }
    free(name);
    return r;
}

static bool is_revoked(const neap_known_hosts *k, const char *name, const entry *key) {
    for (size_t i = 0; i < k->count; i++) {
        const entry *e = &k->entries[i];
        if (e->marker == REVOKED && has_key(e, key->blob, key->len) && entry_names(e, name)) return true;
    }
    return false;
}

/* The first plain line of the type decides for its type, as in OpenSSH. */
static bool is_pinned(const neap_known_hosts *k, const char *name, const char *type) {
    for (size_t i = 0; i < k->count; i++) {
        const entry *e = &k->entries[i];
        if (e->marker == PLAIN && e->type == type && entry_names(e, name)) return !is_revoked(k, name, e);
    }
    return false;
}

static void add_item(neap_buf *list, const char *text, size_t len) {
    if (list->len) neap_buf_addc(list, ',');
    neap_buf_add(list, text, len);
}

static bool has_item(const char *list, const char *text) {
    size_t len = strlen(text);
    for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == len && strncmp(at, text, len) == 0) return true;
    return false;
}

static const char DEFAULT_ALGORITHMS[] = "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
    "sk-ssh-ed25519@openssh.com,sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256";

char *neap_known_hosts_algorithms(const neap_known_hosts *k, const neap_ssh_host *host, const char *algorithms) {
    neap_buf first = NEAP_BUF_INIT, last = NEAP_BUF_INIT;
    char *name = neap_known_hosts_name(host);
    bool as_given = false;                                     /* as in OpenSSH: the best of all is pinned, so nothing is moved */
    for (const char *at = algorithms ? algorithms : DEFAULT_ALGORITHMS; *at;) {
        size_t n = strcspn(at, ",");
        const char *type = neap_hostkey_type(at, n);
        bool pinned = type && (as_given || is_pinned(k, name, type));
        if (pinned && !first.len && !last.len) as_given = true;
        if (type) add_item(pinned ? &first : &last, at, n);
        at += n + (at[n] == ',');
    }
    if (first.len && last.len) neap_buf_addc(&first, ',');
    if (last.len) neap_buf_add(&first, last.data, last.len);
    neap_buf_close(&last);
    free(name);
    return first.data ? neap_buf_take(&first) : neap_strdup("");
}

char *neap_known_hosts_types(const neap_known_hosts *k, const neap_ssh_host *host) {
    neap_buf list = NEAP_BUF_INIT;
    char *name = neap_known_hosts_name(host);
    for (size_t i = 0; i < k->count; i++) {
        const entry *e = &k->entries[i];
        if (e->marker != PLAIN || !entry_names(e, name) || is_revoked(k, name, e)) continue;
        if (!has_item(list.data, e->type)) add_item(&list, e->type, strlen(e->type));
    }
    free(name);
    return list.data ? neap_buf_take(&list) : neap_strdup("");
}

bool neap_known_hosts_has_authority(const neap_known_hosts *k, const neap_ssh_host *host) {
    char *name = neap_known_hosts_name(host);
    bool is = false;
    for (size_t i = 0; i < k->count && !is; i++) is = k->entries[i].marker == AUTHORITY && entry_names(&k->entries[i], name);
    free(name);
    return is;
}

neap_known_result neap_known_hosts_line(const neap_known_hosts *k, const char *file, int line) {
    for (size_t i = 0; i < k->count; i++) {
        const entry *e = &k->entries[i];
        if (e->line == line && strcmp(k->files[e->file], file) == 0) return answer(k, NEAP_KNOWN_OK, e);
    }
    return answer(k, NEAP_KNOWN_UNKNOWN, NULL);
}
