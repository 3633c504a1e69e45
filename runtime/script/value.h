/* value.h -- plain data between Lua and JSON: nil, booleans, integers, floats, strings (UTF-8 or
 * bytes as {"$bytes": hex}), arrays, tables with string keys. A userdata whose metatable has a field
 * __placeholder (a secret) becomes its tostring.
 * Functions, threads, userdata and cycles are refused with the path of the offender. */
#ifndef NEAP_SCRIPT_VALUE_H
#define NEAP_SCRIPT_VALUE_H

#include <lua.h>
#include "base/buf.h"
#include "base/err.h"

/* [-0, +0, m] append the canonical JSON (keys sorted) of the value at `index`. */
bool neap_value_encode(lua_State *L, int index, neap_buf *out, neap_err *err);
/* [-0, +1, m] push the value that the JSON text holds; JSON null becomes `nil` in objects, native.null in arrays. */
bool neap_value_decode(lua_State *L, const char *json, size_t len, neap_err *err);
/* Does the table hold nothing but texts, numbers and booleans by name? Then its JSON reads as just the same. */
bool neap_value_is_flat(lua_State *L, int index);
/* [-0, +1, -] the null sentinel (a light userdata, native.null). */
void neap_push_null(lua_State *L);
bool neap_is_null(lua_State *L, int index);

#endif
