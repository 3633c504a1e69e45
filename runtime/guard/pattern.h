/* pattern.h -- the forms in which a far end may send a secret back. */
#ifndef NEAP_GUARD_PATTERN_H
#define NEAP_GUARD_PATTERN_H

#include <stddef.h>

typedef void (*neap_pattern_fn)(void *arg, const char *bytes, size_t len);

/* Call `each` with every form of the value and, where it has several lines, of each line of 6 bytes or more.
 * Percent and backslash escapes are not listed here: the redactor reads the text through them. */
void neap_pattern_each(const char *bytes, size_t len, neap_pattern_fn each, void *arg);

#endif
