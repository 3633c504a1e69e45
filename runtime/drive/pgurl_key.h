/* pgurl_key.h -- private to drive/pgurl*.c: what each key of a connection URL means. */
#ifndef NEAP_DRIVE_PGURL_KEY_H
#define NEAP_DRIVE_PGURL_KEY_H

#include "drive/pgurl.h"

/* Apply one decoded `key=value`. JDBC means something stronger by ssl=true than the others do. False and err (CONFIG) when the key or its
 * value cannot be honoured. */
bool neap_pgurl_apply(neap_pgurl *u, const char *key, const char *value, bool jdbc, neap_err *err);

/* Add a notice: a full sentence. The same one twice is one. */
void neap_pgurl_notice(neap_pgurl *u, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
