/* ssh_native_auth.c -- being let in: by keys, never by answering a question.
 *
 *     LISTING (what the agent holds) ──► TRYING (one key after another) ──► let in
 *                                            └── none left ──► ASKING (what would the host take?) ──► err
 *
 * The order is ssh's: certificates, keys of the configuration that the agent holds, the agent's other keys (not under IdentitiesOnly), key
 * files. Nobody is asked for a passphrase: a locked file is passed over, and the error says so. Passwords and
 * keyboard-interactive are never begun, so a prompt (an expired password's among them) cannot reach us.
 *
 * libssh2 1.10 signs RSA with SHA-1 alone, which no current server takes; FIDO keys and most certificates it cannot use in any version. Such
 * keys are passed over too, and if nothing else gets in the error is UNSUPPORTED: the ssh program may have it. */
#include "drive/ssh_native.h"

#include <stdlib.h>
#include <string.h>

enum { IDENTITIES = 11, IDENTITIES_ANSWER = 12, SIGN = 13, SIGN_ANSWER = 14, RSA_SHA2_256 = 2, RSA_SHA2_512 = 4, TRIED_MOST = 400 };

typedef struct blob { unsigned char *data; size_t len; } blob;

/* A way to try. */
typedef struct way {
    blob shown;                          /* to the host: a key, or a certificate; for the agent's ways */
    blob signs;                          /* which key of the agent signs */
    char *path, *certificate;            /* of the private half; NULL: the agent's */
    char *label;
} way;

struct neap_ssh_auth {
    neap_ssh_native *session;
    neap_ssh_agent *agent;
    enum { LISTING, TRYING, ASKING } state;
    neap_ssh_key *keys;                  /* of the host's identities */
    int key_count;
    blob *held;                          /* what the agent holds */
    int held_count;
    way *ways;
    int way_count, at;
    enum { SIGN_NONE, SIGN_ASKED, SIGN_READY, SIGN_FAILED } sign;
    neap_buf signature;
    neap_buf tried, locked, unable;      /* texts for the error */
};

static blob copy_blob(const unsigned char *data, size_t len) {
    blob b = {neap_alloc(len ? len : 1), len};
    memcpy(b.data, data, len);
    return b;
}

static bool same(const blob *a, const unsigned char *data, size_t len) { return a->len == len && memcmp(a->data, data, len) == 0; }

static void list(neap_buf *b, const char *text) { neap_buf_addf(b, "%s%s", b->len ? ", " : "", text); }

/* Which keys -------------------------------------------------------------------------------- */

static bool starts(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

/* NULL: usable; else what it is. */
static const char *why_not(const char *type) {
    if (starts(type, "ecdsa-sha2-nistp") || strcmp(type, "ssh-ed25519") == 0) return NULL;
    if (strcmp(type, "ssh-rsa") == 0) return neap_libssh2_is(NEAP_LIBSSH2_1_11) ? NULL : "RSA keys";
    if (starts(type, "sk-")) return "FIDO keys";
    return strstr(type, "-cert-") ? "certificates other than for ECDSA keys" : "keys of this type";
}

static bool is_usable(neap_ssh_auth *a, const char *type) {
    const char *what = type ? why_not(type) : NULL;
    if (what && (!a->unable.data || !strstr(a->unable.data, what))) list(&a->unable, what);
    return !what;
}

static way *add_way(neap_ssh_auth *a, const char *label) {
    a->ways = realloc(a->ways, sizeof *a->ways * (size_t)(a->way_count + 1));
    if (!a->ways) abort();
    way *w = &a->ways[a->way_count++];
    *w = (way){.label = neap_strdup(label)};
    return w;
}

static void add_agent_way(neap_ssh_auth *a, const blob *signs, const unsigned char *shown, size_t len, const char *label) {
    way *w = add_way(a, label);
    w->shown = copy_blob(shown, len);
    w->signs = copy_blob(signs->data, signs->len);
}

static blob *find_held(neap_ssh_auth *a, const neap_ssh_key *k) {
    for (int i = 0; k->blob && i < a->held_count; i++)
        if (same(&a->held[i], k->blob, k->len)) return &a->held[i];
    return NULL;
}

/* A certificate holds its key behind its own type and a nonce. */
static bool certifies(const neap_ssh_key *certificate, const neap_ssh_key *k) {
    neap_ssh_reader c = {certificate->blob, certificate->blob + certificate->len}, r = {k->blob, k->blob + k->len};
    const unsigned char *skipped;
    size_t len;
    if (!k->blob || !neap_ssh_read_string(&c, &skipped, &len) || !neap_ssh_read_string(&c, &skipped, &len)) return false;
    if (!neap_ssh_read_string(&r, &skipped, &len)) return false;
    size_t rest = (size_t)(r.end - r.at);
    return (size_t)(c.end - c.at) >= rest && memcmp(c.at, r.at, rest) == 0;
}

static void add_certificate(neap_ssh_auth *a, const char *path) {
    neap_ssh_key c;
    if (neap_ssh_key_read_public(&c, path) && strstr(c.type, "-cert-") && is_usable(a, c.type)) {
        for (int i = 0; i < a->key_count; i++) {
            if (!certifies(&c, &a->keys[i])) continue;
            blob *held = find_held(a, &a->keys[i]);
            if (held) { add_agent_way(a, held, c.blob, c.len, path); continue; }
            if (a->keys[i].locked || !a->keys[i].readable) continue;
            way *w = add_way(a, path);
            w->path = neap_strdup(a->session->host->identities[i]);
            w->certificate = neap_strdup(path);
        }
    }
    neap_ssh_key_close(&c);
}

static void add_certificates(neap_ssh_auth *a) {
    const neap_ssh_host *h = a->session->host;
    for (char **path = h->certificates; path && *path; path++) add_certificate(a, *path);
    for (int i = 0; i < a->key_count; i++) {
        neap_buf path = NEAP_BUF_INIT;
        neap_buf_addf(&path, "%s-cert.pub", h->identities[i]);
        add_certificate(a, path.data);
        neap_buf_close(&path);
    }
}

static char *type_of(const blob *b) {
    neap_ssh_reader r = {b->data, b->data + b->len};
    const unsigned char *type;
    size_t len;
    return neap_ssh_read_string(&r, &type, &len) ? neap_strndup((const char *)type, len) : neap_strdup("");
}

static bool is_named(neap_ssh_auth *a, const blob *held) {
    for (int i = 0; i < a->key_count; i++)
        if (a->keys[i].blob && same(held, a->keys[i].blob, a->keys[i].len)) return true;
    return false;
}

static void add_other_held(neap_ssh_auth *a) {
    for (int i = 0; i < a->held_count; i++) {
        char *type = type_of(&a->held[i]);
        if (!is_named(a, &a->held[i]) && is_usable(a, type)) add_agent_way(a, &a->held[i], a->held[i].data, a->held[i].len, "agent");
        free(type);
    }
}

static void add_ways(neap_ssh_auth *a) {
    const neap_ssh_host *h = a->session->host;
    add_certificates(a);
    for (int i = 0; i < a->key_count; i++) {
        blob *held = find_held(a, &a->keys[i]);
        if (held && is_usable(a, a->keys[i].type)) add_agent_way(a, held, held->data, held->len, "agent");
    }
    if (!h->identities_only) add_other_held(a);
    for (int i = 0; i < a->key_count; i++) {
        if (find_held(a, &a->keys[i]) || !a->keys[i].readable || !is_usable(a, a->keys[i].type)) continue;
        if (a->keys[i].locked) list(&a->locked, h->identities[i]);
        else add_way(a, h->identities[i])->path = neap_strdup(h->identities[i]);
    }
}

/* The agent ---------------------------------------------------------------------------------- */

static void go_on(neap_ssh_auth *a) {
    a->state = TRYING;
    add_ways(a);
    neap_ssh_native_kick(a->session);
}

static void drop_agent(neap_ssh_auth *a) {
    neap_ssh_agent_free(a->agent);
    a->agent = NULL;
}

static void on_listed(void *arg, const unsigned char *body, size_t len, const neap_err *err) {
    neap_ssh_auth *a = arg;
    neap_ssh_reader r = {body, body + len};
    uint32_t count = 0;
    const unsigned char *key, *comment;
    size_t key_len, comment_len;
    if (!err && len && *r.at++ == IDENTITIES_ANSWER && neap_ssh_read_u32(&r, &count)) {
        for (; count && neap_ssh_read_string(&r, &key, &key_len) && neap_ssh_read_string(&r, &comment, &comment_len); count--) {
            a->held = realloc(a->held, sizeof *a->held * (size_t)(a->held_count + 1));
            if (!a->held) abort();
            a->held[a->held_count++] = copy_blob(key, key_len);
        }
    }
    go_on(a);
}

static void on_signed(void *arg, const unsigned char *body, size_t len, const neap_err *err) {
    neap_ssh_auth *a = arg;
    neap_ssh_reader r = {body, body + len};
    const unsigned char *whole, *method, *signature;
    size_t whole_len, method_len, signature_len;
    a->sign = SIGN_FAILED;
    if (!err && len && *r.at++ == SIGN_ANSWER && neap_ssh_read_string(&r, &whole, &whole_len)) {
        neap_ssh_reader inner = {whole, whole + whole_len};
        if (neap_ssh_read_string(&inner, &method, &method_len) && neap_ssh_read_string(&inner, &signature, &signature_len)) {
            neap_buf_clear(&a->signature);
            neap_buf_add(&a->signature, signature, signature_len);
            a->sign = SIGN_READY;
        }
    }
    neap_ssh_native_kick(a->session);
}

/* Which hash an RSA key is to sign with stands in what is signed: session, 50, user, service, "publickey", 1, algorithm. */
static uint32_t flags_for(const unsigned char *data, size_t len) {
    neap_ssh_reader r = {data, data + len};
    const unsigned char *text = NULL;
    size_t text_len = 0;
    if (!neap_ssh_read_string(&r, &text, &text_len) || r.at == r.end) return 0;
    r.at++;
    for (int i = 0; i < 3; i++) if (!neap_ssh_read_string(&r, &text, &text_len)) return 0;
    if (r.at == r.end) return 0;
    r.at++;
    if (!neap_ssh_read_string(&r, &text, &text_len)) return 0;
    if (text_len == 12 && memcmp(text, "rsa-sha2-512", 12) == 0) return RSA_SHA2_512;
    return text_len == 12 && memcmp(text, "rsa-sha2-256", 12) == 0 ? RSA_SHA2_256 : 0;
}

static void ask_to_sign(neap_ssh_auth *a, const unsigned char *data, size_t len) {
    const way *w = &a->ways[a->at];
    neap_buf question = NEAP_BUF_INIT;
    neap_buf_addc(&question, SIGN);
    neap_ssh_put_string(&question, w->signs.data, w->signs.len);
    neap_ssh_put_string(&question, data, len);
    neap_ssh_put_u32(&question, flags_for(data, len));
    a->sign = SIGN_ASKED;
    neap_ssh_agent_ask(a->agent, &question, on_signed, a);
    neap_buf_close(&question);
}

/* libssh2 asks again, with the same bytes, until it has an answer. */
static int on_sign(LIBSSH2_SESSION *lib, unsigned char **out, size_t *out_len, const unsigned char *data, size_t len, void **abstract) {
    neap_ssh_auth *a = (neap_ssh_auth *)(void *)abstract;
    (void)lib;
    if (a->sign == SIGN_NONE) ask_to_sign(a, data, len);
    if (a->sign == SIGN_ASKED) return LIBSSH2_ERROR_EAGAIN;
    if (a->sign == SIGN_FAILED) return -1;
    *out = malloc(a->signature.len);                 /* libssh2 frees it, with the allocator it was given: malloc's */
    if (!*out) return -1;
    memcpy(*out, a->signature.data, a->signature.len);
    *out_len = a->signature.len;
    return 0;
}

/* Trying --------------------------------------------------------------------------------------- */

static int try_way(neap_ssh_auth *a, const way *w) {
    neap_ssh_native *s = a->session;
    const char *user = s->user;
    if (w->path) return libssh2_userauth_publickey_fromfile_ex(s->lib, user, (unsigned)strlen(user), w->certificate, w->path, NULL);
    return libssh2_userauth_publickey(s->lib, user, w->shown.data, w->shown.len, on_sign, (void **)(void *)a);
}

static void note_in(neap_ssh_auth *a, const char *label) {
    const char *home = getenv("HOME");
    neap_buf text = NEAP_BUF_INIT;
    if (!label) neap_buf_adds(&text, "none");
    else if (home && *home && starts(label, home) && label[strlen(home)] == '/') neap_buf_addf(&text, "publickey (~%s)", label + strlen(home));
    else neap_buf_addf(&text, "publickey (%s)", label);
    free(a->session->authenticated);
    a->session->authenticated = neap_buf_take(&text);
}

static int refuse(neap_ssh_auth *a, const char *offered, neap_err *err) {
    neap_ssh_native *s = a->session;
    const char *tried = a->tried.len ? a->tried.data : "no key";
    if (a->unable.len) {
        neap_err_set(err, NEAP_E_UNSUPPORTED, "%s cannot use %s; \"%s\" does not let \"%s\" in otherwise (tried: %s)", s->backend, a->unable.data,
                     s->name, s->user, tried);
        neap_err_hint(err, "The ssh program can.");
    } else {
        neap_err_set(err, NEAP_E_AUTH, "\"%s\" does not let \"%s\" in (tried: %s%s%s)", s->name, s->user, tried,
                     offered ? "; it takes " : "", offered ? offered : "");
        if (a->locked.len) neap_err_hint(err, "%s is locked by a passphrase: add it to an agent (ssh-add), which then signs.", a->locked.data);
        else neap_err_hint(err, "Put the public key into the account's authorized_keys, or name the right key with IdentityFile.");
    }
    return -1;
}

/* What would it take? Some hosts let in without any proof, and say so here. */
static int ask(neap_ssh_auth *a, neap_err *err) {
    neap_ssh_native *s = a->session;
    char *offered = libssh2_userauth_list(s->lib, s->user, (unsigned)strlen(s->user));
    if (!offered && libssh2_session_last_errno(s->lib) == LIBSSH2_ERROR_EAGAIN) return 0;
    if (libssh2_userauth_authenticated(s->lib)) { note_in(a, NULL); return 1; }
    return refuse(a, offered, err);
}

static int try_keys(neap_ssh_auth *a, neap_err *err) {
    while (a->at < a->way_count) {
        way *w = &a->ways[a->at];
        int rc = try_way(a, w);
        if (rc == LIBSSH2_ERROR_EAGAIN) return 0;
        if (rc == 0) { note_in(a, w->label); return 1; }
        if (a->tried.len < TRIED_MOST) list(&a->tried, w->label);
        a->sign = SIGN_NONE;
        a->at++;
    }
    a->state = ASKING;
    return ask(a, err);
}

int neap_ssh_auth_step(neap_ssh_auth *a, neap_err *err) {
    switch (a->state) {
    case TRYING: return try_keys(a, err);
    case ASKING: return ask(a, err);
    default:     return 0;
    }
}

bool neap_ssh_auth_waits_for_agent(const neap_ssh_auth *a) { return a->state == LISTING || a->sign == SIGN_ASKED; }

neap_ssh_auth *neap_ssh_auth_new(neap_ssh_native *s) {
    neap_ssh_auth *a = neap_zalloc(sizeof *a);
    const neap_ssh_host *h = s->host;
    a->session = s;
    while (h->identities && h->identities[a->key_count]) a->key_count++;
    a->keys = neap_zalloc(sizeof *a->keys * (size_t)(a->key_count + 1));
    for (int i = 0; i < a->key_count; i++) neap_ssh_key_read(&a->keys[i], h->identities[i]);
    if (h->agent) a->agent = neap_ssh_agent_new(s->ssh.loop, h->agent, NULL);       /* an agent that is gone holds nothing */
    if (a->agent) {
        neap_buf question = NEAP_BUF_INIT;
        neap_buf_addc(&question, IDENTITIES);
        neap_ssh_agent_ask(a->agent, &question, on_listed, a);
        neap_buf_close(&question);
    } else {
        go_on(a);
    }
    return a;
}

void neap_ssh_auth_free(neap_ssh_auth *a) {
    if (!a) return;
    drop_agent(a);
    for (int i = 0; i < a->key_count; i++) neap_ssh_key_close(&a->keys[i]);
    for (int i = 0; i < a->held_count; i++) free(a->held[i].data);
    for (int i = 0; i < a->way_count; i++) {
        way *w = &a->ways[i];
        free(w->shown.data), free(w->signs.data), free(w->path), free(w->certificate), free(w->label);
    }
    free(a->keys), free(a->held), free(a->ways);
    neap_buf_wipe(&a->signature);
    neap_buf_close(&a->tried);
    neap_buf_close(&a->locked);
    neap_buf_close(&a->unable);
    free(a);
}
