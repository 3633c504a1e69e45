/* ssh_program_words.c -- understanding what the ssh program says.
 *
 * At DEBUG1 it tells, in words that have stood since OpenSSH 7: the server's version, the host key, the address, how it logged in, and
 * that it is ready. Everything else that is no debugging is for people, and the reason of a failure is among it, not always last: a
 * login banner, a warning or a jump host may speak too. So the known sentences are looked for first, and the last line is what is left.
 *
 * Only what ssh itself says is trusted for the card. A banner of the server could imitate a line; after "ready" nothing is taken any
 * more, and the facts that count (key and login) come after a banner could be sent, so the last one wins. */
#include "drive/ssh_program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "drive/knownhosts.h"

enum { SAID_MAX = 4096, LINE_MAX_BYTES = 8192 };

static const char *after(const char *line, const char *prefix) {
    size_t len = strlen(prefix);
    return strncmp(line, prefix, len) == 0 ? line + len : NULL;
}

static void set(char **field, const char *text, size_t len) {
    free(*field);
    *field = neap_strndup(text, len);
}

/* "hermes ([127.0.0.2]:2222) using "publickey"." or "hermes (via proxy) using …" */
static void take_login(neap_ssh_words *w, const char *text) {
    const char *open = strchr(text, '('), *close = open ? strchr(open, ')') : NULL;
    const char *method = strstr(text, " using \"");
    if (close) set(&w->address, open + 1, (size_t)(close - open - 1));
    if (method) set(&w->method, method + 8, strcspn(method + 8, "\""));
}

static void take_debug(neap_ssh_words *w, const char *text) {
    const char *rest, *at;
    if ((rest = after(text, "Server host key: "))) {
        size_t n = strcspn(rest, " ");
        set(&w->key_type, rest, n);
        set(&w->fingerprint, rest + n + (rest[n] == ' '), strcspn(rest + n + (rest[n] == ' '), " "));
    } else if ((rest = after(text, "Remote protocol version ")) && (at = strstr(rest, "remote software version "))) {
        neap_buf banner = NEAP_BUF_INIT;
        neap_buf_addf(&banner, "SSH-%.*s-%s", (int)strcspn(rest, ","), rest, at + strlen("remote software version "));
        free(w->banner);
        w->banner = neap_buf_take(&banner);
    } else if ((rest = after(text, "Local version string SSH-2.0-"))) {
        set(&w->version, rest, strcspn(rest, " "));
    } else if ((rest = after(text, "Server accepts key: "))) {
        set(&w->key, rest, strlen(rest));
    } else if (after(text, "Entering interactive session")) {
        w->ready = true;
    }
}

static void take_line(neap_ssh_words *w, char *line) {
    const char *rest;
    line[strcspn(line, "\r")] = 0;
    if (w->ready && strstr(line, ": open failed: ")) {
        neap_buf_clear(&w->refused);
        neap_buf_adds(&w->refused, strstr(line, ": open failed: ") + strlen(": open failed: "));
    }
    if ((rest = after(line, "debug1: "))) {
        if (!w->ready) take_debug(w, rest);
        return;
    }
    if ((rest = after(line, "Authenticated to ")) && !w->ready) { take_login(w, rest); return; }
    if (!*line || after(line, "debug") || after(line, "Warning: Permanently added")) return;
    neap_buf_addf(&w->said, "%s\n", line);
    if (w->said.len > SAID_MAX) neap_buf_drop(&w->said, w->said.len - SAID_MAX);
}

void neap_ssh_words_add(neap_ssh_words *w, const char *data, size_t len) {
    neap_buf_add(&w->line, data, len);
    for (char *end; w->line.len && (end = memchr(w->line.data, '\n', w->line.len));) {
        *end = 0;
        take_line(w, w->line.data);
        neap_buf_drop(&w->line, (size_t)(end - w->line.data) + 1);
    }
    if (w->line.len > LINE_MAX_BYTES) neap_buf_clear(&w->line);
}

void neap_ssh_words_close(neap_ssh_words *w) {
    neap_buf_close(&w->line);
    neap_buf_close(&w->said);
    neap_buf_close(&w->refused);
    free(w->banner), free(w->version), free(w->key_type), free(w->fingerprint), free(w->address), free(w->method), free(w->key);
}

/* Failures ------------------------------------------------------------------------------------------------------------------------ */

/* The whole line of `said` that holds the words; a new string, or NULL. */
static char *line_with(const char *said, const char *words) {
    const char *at = said ? strstr(said, words) : NULL;
    if (!at) return NULL;
    while (at > said && at[-1] != '\n') at--;
    return neap_strndup(at, strcspn(at, "\n"));
}

static char *last_line(const neap_buf *said) {
    size_t end = said->len;
    while (end && said->data[end - 1] == '\n') end--;
    size_t from = end;
    while (from && said->data[from - 1] != '\n') from--;
    return end ? neap_strndup(said->data + from, end - from) : neap_strdup("it said nothing");
}

/* "Offending ED25519 key in /home/x/.ssh/known_hosts:3": both fingerprints, file and line, as the other back end says it. */
static bool fail_changed(const neap_ssh_words *w, const neap_ssh_host *host, const char *offending, neap_err *err) {
    const char *file = strstr(offending, " key in "), *colon = strrchr(offending, ':');
    neap_known_result pinned = {0};
    neap_known_hosts *k = neap_known_hosts_new();
    for (char **at = host->known_hosts; at && *at; at++) neap_known_hosts_add_file(k, *at, NULL);
    if (file && colon > file) {
        char *path = neap_strndup(file + 8, (size_t)(colon - file) - 8);
        pinned = neap_known_hosts_line(k, path, atoi(colon + 1));
        free(path);
    }
    if (pinned.file)
        neap_err_set(err, NEAP_E_REFUSED, "the key of host \"%s\" has changed: it shows %s %s, but line %d of %s pins %s %s", host->name,
                     w->key_type, w->fingerprint, pinned.line, pinned.file, pinned.type, pinned.fingerprint);
    else
        neap_err_set(err, NEAP_E_REFUSED, "the key of host \"%s\" has changed: it shows %s %s; %s", host->name, w->key_type, w->fingerprint, offending);
    neap_known_hosts_free(k);
    return neap_err_hint(err, "The host was made anew, or somebody stands in between: find out which before that line is changed.");
}

static bool fail_key(const neap_ssh_words *w, const neap_ssh_host *host, neap_err *err) {
    const char *type = w->key_type ? w->key_type : "a key", *seen = w->fingerprint ? w->fingerprint : "";
    char *line = line_with(w->said.data, "Offending ");
    bool changed = line && w->fingerprint && strstr(w->said.data, "IDENTIFICATION HAS CHANGED");
    if (changed) fail_changed(w, host, line, err);
    free(line);
    if (changed) return false;
    if (strstr(w->said.data, "REVOKED") || strstr(w->said.data, "is revoked")) {
        neap_err_set(err, NEAP_E_REFUSED, "the key of host \"%s\" is revoked: %s %s", host->name, type, seen);
        return neap_err_hint(err, "Somebody may have stolen the key of this host; ask who wrote that line.");
    }
    neap_err_set(err, NEAP_E_REFUSED, "the key of host \"%s\" is not known: %s %s", host->name, type, seen);
    return neap_err_hint(err, "Compare the fingerprint with the one the host itself shows, then pin it by logging in once by hand: ssh %s%s%s%s",
                         host->config_file ? "-F " : "", host->config_file ? host->config_file : "", host->config_file ? " " : "", host->name);
}

static const struct { const char *words; neap_code code; bool retry; const char *hint; } sentences[] = {
    {"Permission denied", NEAP_E_AUTH, false, "Try \"ssh -o BatchMode=yes %s true\" by hand: a key that asks for a passphrase must be in the agent first."},
    {"Too many authentication failures", NEAP_E_AUTH, false, "The agent of %s offers too many keys: name one with IdentityFile and set IdentitiesOnly yes."},
    {"No supported authentication methods", NEAP_E_AUTH, false, NULL},
    {"Could not resolve hostname", NEAP_E_UNREACHABLE, true, NULL},
    {"Unable to negotiate", NEAP_E_PROTOCOL, false, "The two sides share no algorithm; \"ssh -vv %s true\" shows what each offers."},
    {"Bad configuration option", NEAP_E_CONFIG, false, NULL},
    {"Bad owner or permissions", NEAP_E_CONFIG, false, NULL},
    {"Connection refused", NEAP_E_UNREACHABLE, true, NULL},
    {"Connection timed out", NEAP_E_UNREACHABLE, true, NULL},
    {"No route to host", NEAP_E_UNREACHABLE, true, NULL},
    {"Network is unreachable", NEAP_E_UNREACHABLE, true, NULL},
};

bool neap_ssh_words_fail(const neap_ssh_words *w, const neap_ssh_host *host, neap_err *err) {
    const char *said = w->said.data ? w->said.data : "";
    if (strstr(said, "Host key verification failed") || strstr(said, "is revoked by file")) return fail_key(w, host, err);
    for (size_t i = 0; i < sizeof sentences / sizeof *sentences; i++) {
        char *line = line_with(said, sentences[i].words);
        if (!line) continue;
        neap_err_set(err, sentences[i].code, "ssh cannot reach \"%s\": %s", host->name, line);
        free(line);
        if (err) err->retry = sentences[i].retry;
        if (!sentences[i].hint) return false;
        neap_buf hint = NEAP_BUF_INIT;
        const char *hole = strstr(sentences[i].hint, "%s");
        neap_buf_add(&hint, sentences[i].hint, (size_t)(hole - sentences[i].hint));
        neap_buf_addf(&hint, "%s%s", host->name, hole + 2);
        neap_err_hint(err, "%s", hint.data);
        neap_buf_close(&hint);
        return false;
    }
    char *line = last_line(&w->said);
    neap_err_set(err, NEAP_E_UNREACHABLE, "ssh cannot reach \"%s\": %s", host->name, line);
    free(line);
    if (err) err->retry = true;
    return false;
}
