/* secret_lua.h -- secrets on the Lua stack. */
#ifndef NEAP_BIND_SECRET_LUA_H
#define NEAP_BIND_SECRET_LUA_H

#include <lua.h>
#include "guard/secret.h"

/* [-0, +0, -] the secret at `index`, borrowed; NULL when it is none. */
neap_secret *neap_to_secret(lua_State *L, int index);

/* [-0, +1, m] make one and push it: a secret, or nil. On nil, err says why. The bytes stay the caller's to overwrite. */
bool neap_push_secret(lua_State *L, const char *name, const char *bytes, size_t len, neap_err *err);

#endif
