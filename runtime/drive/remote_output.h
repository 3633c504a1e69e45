/* remote_output.h -- stdout of a command on another host (remote_script.h): a stream that begins and ends where the command did.
 *
 * It begins behind the first word: what a login shell prints before is not the command's. Where the command marks, its end is the last word that
 * the far shell writes into it, and nothing else: what the command left behind may hold it open for ever, and a connection that breaks may
 * end in the same way as an output that is whole. */
#ifndef NEAP_DRIVE_REMOTE_OUTPUT_H
#define NEAP_DRIVE_REMOTE_OUTPUT_H

#include <stdbool.h>
#include "loop/stream.h"

typedef struct neap_remote_output neap_remote_output;
/* Over `below`, which is taken. `marks`: its end is a word. `place` and `slot` must live until it is told; `slot` is set to NULL when its owner frees the stream. */
neap_remote_output *neap_remote_output_new(neap_loop *loop, neap_stream *below, const char *nonce, bool marks, const char *place, neap_remote_output **slot);
neap_stream *neap_remote_output_stream(neap_remote_output *o);
/* Once: no more words will come. One whose command has ended, and said so, and which has no last word is not whole: that is an
 * error. One whose command never began, or of whose end nobody knows, just ends: what there is to say is said by others. */
void neap_remote_output_told(neap_remote_output *o, bool ended);
/* Once, instead: whoever would have told is gone. */
void neap_remote_output_left(neap_remote_output *o);

#endif
