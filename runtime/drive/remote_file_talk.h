/* remote_file_talk.h -- a script of remote_file.h, said to a host over whichever connection is open then.
 *
 *     a question      answer ──► done                         short: all it prints is kept
 *     a reader        size ──► bytes ──► end | error          the end only when the far end said that all went well
 *     a writer        part ──► bytes ──► shut: it has all     the error is the far end's, where it has one
 *
 * Lost connections are not hidden: what was under way is an error, and who asks again opens the connection again. */
#ifndef NEAP_DRIVE_REMOTE_FILE_TALK_H
#define NEAP_DRIVE_REMOTE_FILE_TALK_H

#include "drive/remote_attached.h"
#include "drive/remote_file.h"

/* What is asked. Texts are copied. `doing` is what an error calls it: "read \"/x\"". Unused arguments are NULL. */
typedef struct neap_far_request {
    neap_far_verb verb;
    const char *args[5];
    const char *sudo, *doing;
    const char *input;               /* question: stdin, which must live until it is over; NULL: none */
    size_t input_len;
    size_t most;                     /* question: more than this of output is REFUSED */
} neap_far_request;

typedef struct neap_far_question neap_far_question;
/* Once. `status` is the script's; NEAP_FAR_NOTHING comes with `err` too. `out` is the receiver's to read, not to keep. */
typedef void (*neap_far_answer_fn)(void *arg, int status, neap_buf *out, const neap_err *err);
neap_far_question *neap_far_ask(neap_ssh_link *link, const neap_far_request *r, neap_far_answer_fn done, void *arg);
/* End what runs there; done is called when that is seen. */
void neap_far_question_end(neap_far_question *q);
/* Never calls back. NULL allowed. */
void neap_far_question_free(neap_far_question *q);

/* A stream whose far end is a script. `opened` once: the first line it printed, or why there is none. Before that the stream is only to
 * be freed. */
typedef void (*neap_far_opened_fn)(void *arg, const char *line, const neap_err *err);
neap_stream *neap_far_open(neap_ssh_link *link, const neap_far_request *r, neap_far_opened_fn opened, void *arg);
/* Has its script ended? */
bool neap_far_is_over(const neap_stream *s);

#endif
