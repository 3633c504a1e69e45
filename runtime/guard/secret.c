/* secret.c -- the register of secrets.
 *
 *   NEW -- keep/free --> HELD -- last free --> RETIRED -- 256 newer ones retired, or close --> overwritten
 *
 * A retired secret is still known to the redactor: the server it was sent to may quote it long after Lua has
 * collected the handle. The last 256 are kept; making the same secret again revives it, so a loop
 * that builds one template a thousand times holds one entry.
 *
 * The automaton is rebuilt on the first redaction after the register changed, not on every change: secrets come in
 * a burst when the inventory is bound. Names are kept until the end, because an interval inside a redactor may
 * still refer to one.
 */
#include "guard/secret.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/escape.h"
#include "guard/pattern.h"
#include "guard/trie.h"
#include "guard/vault.h"

enum { LEAST = 6, MOST = 16 * 1024, RETIRED_MOST = 256 };

struct neap_secret {
    neap_secret *next;             /* newest first */
    int    refs;                   /* 0: retired */
    int    owner;                  /* index into names */
    unsigned long retired;         /* order of retirement */
    size_t len;
    char  *bytes;                  /* in the vault, NUL behind it */
};

static struct {
    neap_secret *all;
    char   **names;
    int      name_count;
    int      retired_count;
    unsigned long retirements;
    neap_trie *trie;
    unsigned long version;         /* of the register */
    unsigned long built;           /* version the trie was built from */
} reg = { .version = 1 };

/* Values that stand in every log; replacing them would hide the log and not the secret. */
static bool is_common(const char *bytes) {
    static const char *const words[] = { "postgres", "postgresql", "password", "localhost", "database", "default",
        "secret", "public", "prisma", "docker", "select", "server", "template1", "changeme", "127.0.0.1", NULL };
    for (int i = 0; words[i]; i++)
        if (strcasecmp(bytes, words[i]) == 0) return true;
    return false;
}

static bool check(const char *name, const void *bytes, size_t len, neap_err *err) {
    const char *why = NULL, *hint = "Give it a longer value that stands nowhere else.";
    if (len < LEAST) why = "is shorter than 6 bytes; hiding it would blank out the output";
    else if (len > MOST) why = "is longer than 16 KiB", hint = "A secret is a password, a token or a key; send larger files as streams.";
    else if (memchr(bytes, 0, len)) why = "holds a NUL byte", hint = "Passwords and keys are text; store it encoded, for example in base64.";
    if (!why) {
        char *copy = neap_vault_alloc(len + 1);
        memcpy(copy, bytes, len);
        if (is_common(copy)) why = "is a word that stands in every log; hiding it would blank out the output";
        else if (strstr(name, copy)) why = "is part of its own name", name = "…", hint = "Name the secret after its use, such as db.password.";
        neap_vault_free(copy);
    }
    if (!why) return true;
    neap_err_set(err, NEAP_E_CONFIG, "the secret \"%s\" %s", name, why);
    return neap_err_hint(err, "%s", hint);
}

/* Names reach screens and records: they are made harmless here, once. */
static int name_of(const char *name) {
    neap_buf safe = NEAP_BUF_INIT;
    neap_escape_terminal(&safe, name, strlen(name), false);
    char *text = safe.len ? neap_buf_take(&safe) : neap_strdup("unnamed");
    for (int i = 0; i < reg.name_count; i++)
        if (strcmp(reg.names[i], text) == 0) { free(text); return i; }
    char **names = neap_alloc(((size_t)reg.name_count + 1) * sizeof *names);
    if (reg.name_count) memcpy(names, reg.names, (size_t)reg.name_count * sizeof *names);
    free(reg.names);
    reg.names = names;
    reg.names[reg.name_count] = text;
    return reg.name_count++;
}

static neap_secret *find(int owner, const void *bytes, size_t len) {
    neap_secret *s = reg.all;
    while (s && !(s->owner == owner && s->len == len && memcmp(s->bytes, bytes, len) == 0)) s = s->next;
    return s;
}

neap_secret *neap_secret_new(const char *name, const void *bytes, size_t len, neap_err *err) {
    if (!check(name, bytes, len, err)) return NULL;
    int owner = name_of(name);
    neap_secret *s = find(owner, bytes, len);
    if (s) {
        if (s->refs++ == 0) reg.retired_count--;
        return s;
    }
    s = neap_zalloc(sizeof *s);
    s->refs = 1;
    s->owner = owner;
    s->len = len;
    s->bytes = neap_vault_alloc(len + 1);
    memcpy(s->bytes, bytes, len);
    s->next = reg.all;
    reg.all = s;
    reg.version++;
    return s;
}

static void forget(neap_secret **link) {
    neap_secret *s = *link;
    *link = s->next;
    neap_vault_free(s->bytes);
    free(s);
    reg.version++;
}

static void forget_oldest(void) {
    neap_secret **oldest = NULL;
    for (neap_secret **l = &reg.all; *l; l = &(*l)->next)
        if ((*l)->refs == 0 && (!oldest || (*l)->retired < (*oldest)->retired)) oldest = l;
    if (oldest) forget(oldest);
    reg.retired_count--;
}

void neap_secret_free(neap_secret *s) {
    if (!s || --s->refs > 0) return;
    s->retired = ++reg.retirements;
    if (++reg.retired_count > RETIRED_MOST) forget_oldest();
}

const char *neap_secret_name(const neap_secret *s) { return reg.names[s->owner]; }

const char *neap_secret_bytes(const neap_secret *s, size_t *len) {
    if (len) *len = s->len;
    return s->bytes;
}

const char *neap_secret_owner(int owner) { return reg.names[owner]; }

static int building;                       /* owner of the secret whose forms are being added */

static void add_form(void *trie, const char *bytes, size_t len) { neap_trie_add(trie, bytes, len, building); }

const neap_trie *neap_secret_trie(unsigned long *version) {
    *version = reg.version;
    if (reg.built == reg.version) return reg.trie;
    neap_trie_free(reg.trie);
    reg.trie = reg.all ? neap_trie_new() : NULL;
    for (neap_secret *s = reg.all; s; s = s->next) {
        building = s->owner;
        neap_pattern_each(s->bytes, s->len, add_form, reg.trie);
    }
    if (reg.trie) neap_trie_seal(reg.trie);
    reg.built = reg.version;
    return reg.trie;
}

void neap_secret_close(void) {
    while (reg.all) forget(&reg.all);
    neap_trie_free(reg.trie);
    for (int i = 0; i < reg.name_count; i++) free(reg.names[i]);
    free(reg.names);
    reg.trie = NULL;
    reg.names = NULL;
    reg.name_count = reg.retired_count = 0;
    reg.built = reg.version;
}
