/* ssh_shared.h -- one answer of `ssh -G` for all names that meet the same lines of the user's ssh_config.
 *
 *     new ──► NULL                     ask ssh about this name alone
 *         ──► first: ask `ssh -G -v`, then answer (or free) it
 *         ──► else told(arg, text)     the answer, with this name's own HostName in front; or
 *             told(arg, NULL)          it came to nothing: ask ssh about this name alone
 *         └─► free at any time: nobody is called any more */
#ifndef NEAP_DRIVE_SSH_SHARED_H
#define NEAP_DRIVE_SSH_SHARED_H

#include "base/buf.h"
#include "loop/loop.h"

typedef struct neap_ssh_shared neap_ssh_shared;
typedef void (*neap_ssh_told_fn)(void *arg, const char *text);

/* `words`: what else of the command line decides, as text: the user and the port it names. `told` comes from the loop. */
neap_ssh_shared *neap_ssh_shared_new(neap_loop *loop, const char *file, const char *words, const char *name, neap_ssh_told_fn told, void *arg);
bool neap_ssh_shared_is_first(const neap_ssh_shared *s);
void neap_ssh_shared_answer(neap_ssh_shared *s, const char *printed, const char *said);
void neap_ssh_shared_free(neap_ssh_shared *s);       /* NULL allowed */

#endif
