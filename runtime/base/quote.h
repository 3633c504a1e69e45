/* quote.h -- an argv as one line of a POSIX shell. The only place where words become shell text. */
#ifndef NEAP_BASE_QUOTE_H
#define NEAP_BASE_QUOTE_H

#include "base/buf.h"

/* Add one word. It may be empty and hold any byte but NUL: false, and nothing added, when it holds one. */
bool neap_quote_word(neap_buf *out, const char *word, size_t len);
/* Add it as the next word of the command that is all of `out`: behind a space, or as the first, which is quoted also when the shell
 * would take it for a word of its own ("if"). */
bool neap_quote_add(neap_buf *out, const char *word, size_t len);
/* The words of a command, NULL-terminated, each by neap_quote_add. */
void neap_quote_argv(neap_buf *out, const char *const *argv);

#endif
