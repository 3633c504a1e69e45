/* process_lua.h -- shared by the two files of native.process. */
#ifndef NEAP_BIND_PROCESS_LUA_H
#define NEAP_BIND_PROCESS_LUA_H

#include <lua.h>

/* start{argv=, …} -> child | nil, err. */
int neap_process_start(lua_State *L);

#endif
