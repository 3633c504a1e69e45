/* knownhosts_admit.c -- what follows from an answer of knownhosts.c: go on, or the sentence that refuses.
 *
 * Nobody is asked: where ssh would ask, an unknown host is refused, with the one command that pins the key that was seen. The command
 * writes that very key; one that fetched it again would pin whatever answers then. A changed key is refused with both fingerprints and
 * the line, and the line is the operator's to judge: no command that removes it is offered.
 *
 * StrictHostKeyChecking=no is obeyed as ssh obeys it, for a changed key too; who wrote it has chosen so. A revoked key is refused all
 * the same, where ssh would go on: a line that names a key as stolen is no matter of strictness. */
#include "drive/knownhosts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/quote.h"

static void add_line(neap_buf *line, const neap_ssh_host *host, const unsigned char *blob, size_t len) {
    char *name = neap_known_hosts_name(host);
    const char *type = neap_hostkey_type_of_blob(blob, len);
    neap_buf_addf(line, "%s %s ", name, type ? type : "unknown");
    neap_base64_encode(line, blob, len);
    free(name);
}

static const char *first_file(const neap_ssh_host *host) {
    return host->known_hosts && host->known_hosts[0] ? host->known_hosts[0] : NULL;
}

static bool refuse_unknown(const neap_ssh_host *host, const char *type, const char *seen, const unsigned char *blob, size_t len, neap_err *err) {
    neap_buf line = NEAP_BUF_INIT, command = NEAP_BUF_INIT;
    const char *file = first_file(host);
    neap_err_set(err, NEAP_E_REFUSED, "the key of host \"%s\" is not known: %s %s", host->name, type, seen);
    add_line(&line, host, blob, len);
    neap_buf_adds(&command, "echo ");
    neap_quote_word(&command, line.data, line.len);
    neap_buf_adds(&command, " >> ");
    if (file) neap_quote_word(&command, file, strlen(file));
    else neap_buf_adds(&command, "~/.ssh/known_hosts");
    neap_err_hint(err, "Compare the fingerprint with the one the host itself shows, then pin it: %s", command.data);
    neap_buf_close(&line);
    neap_buf_close(&command);
    return false;
}

static bool refuse_pinned(const neap_ssh_host *host, const neap_known_result *r, const char *type, const char *seen, neap_err *err) {
    if (r->status == NEAP_KNOWN_REVOKED) {
        neap_err_set(err, NEAP_E_REFUSED, "the key of host \"%s\" is revoked: %s %s, line %d of %s", host->name, type, seen, r->line, r->file);
        return neap_err_hint(err, "Somebody may have stolen the key of this host; ask who wrote that line.");
    }
    if (r->status == NEAP_KNOWN_CHANGED)
        neap_err_set(err, NEAP_E_REFUSED, "the key of host \"%s\" has changed: it shows %s %s, but line %d of %s pins %s",
                     host->name, type, seen, r->line, r->file, r->fingerprint);
    else
        neap_err_set(err, NEAP_E_REFUSED, "host \"%s\" shows a key of another type than the pinned one: it shows %s %s, but line %d of %s pins %s %s",
                     host->name, type, seen, r->line, r->file, r->type, r->fingerprint);
    return neap_err_hint(err, "The host was made anew, or somebody stands in between: find out which before that line is changed.");
}

bool neap_known_hosts_admit(const neap_ssh_host *host, const neap_known_result *r, const unsigned char *blob, size_t len, neap_err *err) {
    if (r->status == NEAP_KNOWN_OK) return true;
    if (r->status != NEAP_KNOWN_REVOKED && host->strict == NEAP_SSH_LAX) return true;
    if (r->status == NEAP_KNOWN_UNKNOWN && host->strict == NEAP_SSH_ACCEPT_NEW) return true;
    const char *type = neap_hostkey_type_of_blob(blob, len);
    char seen[NEAP_FINGERPRINT_SIZE];
    neap_hostkey_fingerprint(blob, len, seen);
    if (r->status == NEAP_KNOWN_UNKNOWN) return refuse_unknown(host, type ? type : "unknown", seen, blob, len, err);
    return refuse_pinned(host, r, type ? type : "unknown", seen, err);
}

/* Does the file end inside a line? What is appended would become a part of it. */
static bool ends_open(int fd) {
    char last = '\n';
    off_t size = lseek(fd, 0, SEEK_END);
    return size > 0 && pread(fd, &last, 1, size - 1) == 1 && last != '\n';
}

bool neap_known_hosts_learn(const neap_ssh_host *host, const unsigned char *blob, size_t len, neap_err *err) {
    const char *file = first_file(host);
    if (!file) return true;
    int fd = open(file, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return neap_loop_fail(err, -errno, "cannot write \"%s\"", file);
    neap_buf line = NEAP_BUF_INIT;
    if (ends_open(fd)) neap_buf_addc(&line, '\n');
    add_line(&line, host, blob, len);
    neap_buf_addc(&line, '\n');
    ssize_t n = write(fd, line.data, line.len);                /* one write: two of us may append at once */
    bool ok = n == (ssize_t)line.len || neap_loop_fail(err, n < 0 ? -errno : -ENOSPC, "cannot write \"%s\"", file);
    close(fd);
    neap_buf_close(&line);
    return ok;
}
