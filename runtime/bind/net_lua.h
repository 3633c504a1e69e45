/* net_lua.h -- dialers (loop/dial.h) on the Lua stack. Any binding that can reach somebody makes one here, any that needs to takes one. */
#ifndef NEAP_BIND_NET_LUA_H
#define NEAP_BIND_NET_LUA_H

#include <lua.h>
#include "loop/dial.h"

/* [-0, +0, e] the dialer at `index`; raises otherwise (a withheld value raises {withheld}). Borrowed: hold it to keep it. */
neap_dialer *neap_check_dialer(lua_State *L, int index);
/* [-0, +1, m] an opaque value that owns the caller's hold. Should memory run out, the hold is released. */
void neap_push_dialer(lua_State *L, neap_dialer *d);

/* [-0, +0, m] tunnel_lua.c: add `tunnel` to the module on top. */
void neap_tunnel_register(lua_State *L);

#endif
