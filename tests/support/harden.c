/* harden.c -- T.harden(): what main does first, for an interpreter that a spec looks at from outside. */
#include <lauxlib.h>

#include "bind/system_lua.h"
#include "testlib.h"

static int harden(lua_State *L) {
    (void)L;
    neap_system_harden();
    return 0;
}

static const luaL_Reg hardening[] = {{"harden", harden}, {NULL, NULL}};
NEAP_TEST_LIBRARY(hardening)
