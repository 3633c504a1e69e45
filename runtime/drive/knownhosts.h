/* knownhosts.h -- is this the host we know? Reads known_hosts files and answers as OpenSSH does (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").
 *
 *     k = load(files)                        once per connection: the files are small, and they change
 *     algorithms(k, …)                       before the handshake: prefer the types that are pinned, as ssh does
 *     check(k, …, the key that came)         OK, or why not
 *
 * Pure: no loop, no network. Nothing is decided by a line that OpenSSH would pass over; such lines are counted and named. */
#ifndef NEAP_DRIVE_KNOWNHOSTS_H
#define NEAP_DRIVE_KNOWNHOSTS_H

#include "drive/hostkey.h"
#include "drive/ssh.h"

typedef struct neap_known_hosts neap_known_hosts;

typedef enum {
    NEAP_KNOWN_OK,
    NEAP_KNOWN_UNKNOWN,                        /* no line names this host */
    NEAP_KNOWN_CHANGED,                        /* another key of the same type is pinned */
    NEAP_KNOWN_OTHER_TYPE,                     /* only keys of other types are pinned: refuse, as for CHANGED */
    NEAP_KNOWN_REVOKED                         /* a @revoked line names this host and this key, whatever else is pinned */
} neap_known;

typedef struct neap_known_result {
    neap_known status;
    const char *file;                          /* of the line that decided; NULL while UNKNOWN. Belongs to the neap_known_hosts */
    int line;
    const char *type;                          /* of the key in that line */
    char fingerprint[NEAP_FINGERPRINT_SIZE];   /* of the key in that line; "" while UNKNOWN */
} neap_known_result;

/* A line that was passed over. */
typedef struct neap_known_bad { const char *file; int line; const char *why; } neap_known_bad;

neap_known_hosts *neap_known_hosts_new(void);
/* Files in order; one that is not there is empty. False and err when one is there and cannot be read; the others count all the same. */
bool neap_known_hosts_add_file(neap_known_hosts *k, const char *path, neap_err *err);
void neap_known_hosts_add_text(neap_known_hosts *k, const char *path, const char *text, size_t len);
void neap_known_hosts_free(neap_known_hosts *k);
/* The n-th line that was passed over, NULL behind the last. */
const neap_known_bad *neap_known_hosts_bad(const neap_known_hosts *k, size_t n);

/* The name a host has in known_hosts: HostKeyAlias, "name", or "[name]:port" where the port is not 22; lower case. To be freed. */
char *neap_known_hosts_name(const neap_ssh_host *host);
/* Does the host, by that name or for [name]:port by the plain name as ssh does, have this key? */
neap_known_result neap_known_hosts_check(const neap_known_hosts *k, const neap_ssh_host *host, const unsigned char *blob, size_t len);
/* The signature algorithms to offer, in order: of `algorithms` (comma-separated, HostKeyAlgorithms; NULL: OpenSSH's default) those first
 * whose key type is pinned and not revoked. Certificates are left out. To be freed. */
char *neap_known_hosts_algorithms(const neap_known_hosts *k, const neap_ssh_host *host, const char *algorithms);
/* The key types pinned for the host, comma-separated in the order of the files; "" when none. To be freed. */
char *neap_known_hosts_types(const neap_known_hosts *k, const neap_ssh_host *host);

/* What line `line` of `file` pins: OK with its type and fingerprint, or UNKNOWN when it pins nothing. */
neap_known_result neap_known_hosts_line(const neap_known_hosts *k, const char *file, int line);
/* Does a @cert-authority line name the host? Its certificates are what only the ssh program checks. */
bool neap_known_hosts_has_authority(const neap_known_hosts *k, const neap_ssh_host *host);

/* May we go on with what `check` said, under the host's StrictHostKeyChecking? False and err (REFUSED) with
 * both fingerprints, file and line, and the command that pins. A revoked key is refused under every setting. */
bool neap_known_hosts_admit(const neap_ssh_host *host, const neap_known_result *r, const unsigned char *blob, size_t len, neap_err *err);
/* Append the key to the host's first file, as ssh does under accept-new (the name as it is, never hashed). */
bool neap_known_hosts_learn(const neap_ssh_host *host, const unsigned char *blob, size_t len, neap_err *err);

#endif
