/* raise.h -- errors between C and Lua. In Lua an error is a table {code, message, hint, retry,
 * sqlstate, status, cause} with __tostring (message, then the hint). */
#ifndef NEAP_SCRIPT_RAISE_H
#define NEAP_SCRIPT_RAISE_H

#include <lua.h>
#include "base/err.h"

/* [-0, +1, m] the error as a table; `err` is closed. */
void neap_push_error(lua_State *L, neap_err *err);
/* [-0, +2, m] nil and the error: the contract of native.* for what the world refuses. Returns 2. */
int neap_fail(lua_State *L, neap_err *err);
/* Raises: for the caller's mistakes and for what must not be caught. */
int neap_raise(lua_State *L, neap_err *err) __attribute__((noreturn));
int neap_raisef(lua_State *L, neap_code code, const char *format, ...) __attribute__((noreturn, format(printf, 3, 4)));

#endif
