/* ssh_lines.h -- which lines of the user's ssh_config apply to a name, where that can be told without ssh; see ssh_shared.h. */
#ifndef NEAP_DRIVE_SSH_LINES_H
#define NEAP_DRIVE_SSH_LINES_H

#include <stdbool.h>
#include "base/buf.h"

typedef struct neap_ssh_lines {
    neap_buf trace;                 /* the files, and the Host lines that apply, in the order ssh meets them */
    neap_buf files;                 /* which files these were: device, inode, size, times */
    char *hostname;                 /* where the name leads */
} neap_ssh_lines;

/* Read `file` (NULL: the user's and the system's) for a name without a user. False: only ssh can tell. Close it in either case. */
bool neap_ssh_lines_read(neap_ssh_lines *l, const char *file, const char *name);
/* Did ssh, by what `ssh -G -v` said and printed, read the same files, take the same lines, and go to the same place? */
bool neap_ssh_lines_agree(const neap_ssh_lines *l, const char *said, const char *printed);
void neap_ssh_lines_close(neap_ssh_lines *l);

#endif
