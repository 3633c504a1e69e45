/* json.h -- writing JSON text. Reading is jansson's business. */
#ifndef NEAP_BASE_JSON_H
#define NEAP_BASE_JSON_H

#include "base/buf.h"

/* A JSON string with its quotes. Invalid UTF-8 becomes U+FFFD; control characters are escaped. */
void neap_json_string(neap_buf *out, const char *text, size_t len);
/* ,"name":"text" (the comma only when something that is not an opening brace stands before it); nothing when text is NULL. */
void neap_json_member(neap_buf *out, const char *name, const char *text);
void neap_json_member_int(neap_buf *out, const char *name, long long value);

/* Is it valid UTF-8 (no surrogates, no overlong forms)? */
bool neap_json_is_utf8(const char *text, size_t len);

#endif
