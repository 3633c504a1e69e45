/* redact.c -- T.redact(pieces): the text that the streaming redactor makes of a list of pieces, and T.redact_held(pieces): what it has
 * let go of before the end. */
#include <lauxlib.h>

#include "guard/secret.h"
#include "testlib.h"

/* [-0, +1, e] feed the list at 1; the outlet is pushed before or after the end. */
static int feed(lua_State *L, bool to_end) {
    luaL_checktype(L, 1, LUA_TTABLE);
    neap_redactor *r = neap_redactor_new();
    neap_buf out = NEAP_BUF_INIT, rest = NEAP_BUF_INIT;
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, 1); i <= n; i++) {
        size_t len;
        lua_rawgeti(L, 1, i);
        const char *piece = lua_tolstring(L, -1, &len);
        if (piece) neap_redactor_add(r, &out, piece, len);
        lua_pop(L, 1);
    }
    neap_redactor_end(r, to_end ? &out : &rest);
    lua_pushlstring(L, out.data ? out.data : "", out.len);
    neap_buf_close(&out);
    neap_buf_close(&rest);
    return 1;
}

static int redact(lua_State *L) { return feed(L, true); }
static int redact_held(lua_State *L) { return feed(L, false); }

static const luaL_Reg redactions[] = {{"redact", redact}, {"redact_held", redact_held}, {NULL, NULL}};
NEAP_TEST_LIBRARY(redactions)
