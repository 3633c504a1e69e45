/* ssh_config.h -- a host as the user's own ssh knows it: what `ssh -G -- NAME` prints, and what that means for us.
 *
 *     ask ──► done(host, NULL)    the host is the receiver's (neap_ssh_host_free)
 *         └─► done(NULL, err)     no ssh program, a name that is none, a file ssh cannot read, the deadline
 *         └─► cancel              nobody is called any more
 *
 * `ssh -G` runs the commands of "Match exec" and may ask the name service (CanonicalizeHostname): whoever previews says that it did. */
#ifndef NEAP_DRIVE_SSH_CONFIG_H
#define NEAP_DRIVE_SSH_CONFIG_H

#include "drive/ssh.h"

typedef struct neap_ssh_config neap_ssh_config;      /* one question under way */
typedef void (*neap_ssh_config_fn)(void *arg, neap_ssh_host *host, const neap_err *err);

/* Ask about a name ("hermes", "app@hermes"), in `file` when it is given (-F). The whole chain of ProxyJump is asked for too. `done`
 * comes from the loop. within_ms 0: fifteen seconds. */
neap_ssh_config *neap_ssh_config_ask(neap_loop *loop, const char *name, const char *file, int64_t within_ms, neap_ssh_config_fn done, void *arg);
void neap_ssh_config_cancel(neap_ssh_config *q);     /* before `done` only */

/* May the name be handed to ssh? False and err (USAGE) for one that is an option or holds what a shell would read. */
bool neap_ssh_config_check_name(const char *name, neap_err *err);
/* One output of `ssh -G`, pure. `jumps`: where its ProxyJump goes as text, NULL when none. `behind`: another jump leads to this host, so
 * its own ProxyJump and ProxyCommand do not count. Fields that cannot be expanded here make needs_program. */
neap_ssh_host *neap_ssh_config_parse(const char *name, const char *text, size_t len, bool behind, char **jumps, neap_err *err);

/* The home of who runs neap, from the accounts; NULL when there is none. Not to be freed. */
const char *neap_ssh_home(void);
/* The type of the key in an identity file, by its .pub or its own head, without a passphrase: "ssh-ed25519", "ssh-rsa",
 * "sk-ssh-ed25519@openssh.com", a certificate's; NULL when it cannot be told. Static or interned; not to be freed. */
const char *neap_ssh_identity_type(const char *path);

#endif
