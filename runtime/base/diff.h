/* diff.h -- the difference of two texts as people read it: unified, by lines, bounded. */
#ifndef NEAP_BASE_DIFF_H
#define NEAP_BASE_DIFF_H

#include "base/buf.h"

/* Append "@@ -1,3 +1,4 @@" hunks with three lines of context; nothing when the texts are equal. Texts that are not text, and
 * differences too large to be read, are told in one line instead. */
void neap_diff(neap_buf *out, const char *old_text, size_t old_len, const char *new_text, size_t new_len);

#endif
