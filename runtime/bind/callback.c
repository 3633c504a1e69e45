/* callback.c -- see callback.h. A callback has no task, so every wait and every primitive refuses inside it; it
 * sets something or spawns a task. */
#include "bind/callback.h"

#include <lauxlib.h>
#include <unistd.h>

#include "base/escape.h"
#include "guard/secret.h"
#include "script/function.h"

lua_State *neap_callback_main(lua_State *L) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    lua_State *main = lua_tothread(L, -1);
    lua_pop(L, 1);
    luaL_checkstack(main, 16, "callbacks");
    return main;
}

static int describe(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    return 1;
}

void neap_callback_call(lua_State *L, int arguments) {
    if (lua_pcall(L, arguments, 0, 0) == LUA_OK) return;
    neap_function_push(L, "callback.describe", describe, 0);
    lua_insert(L, -2);
    (void)lua_pcall(L, 1, 1, 0);                   /* either way a value is left, mostly a string */
    size_t len = 0;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : "";
    neap_buf clean = NEAP_BUF_INIT, line = NEAP_BUF_INIT;
    neap_redact(&clean, text, len);
    neap_buf_adds(&line, "neap: internal error in a callback: ");
    neap_escape_terminal(&line, clean.data ? clean.data : "", clean.len, false);
    neap_buf_addc(&line, '\n');
    if (write(STDERR_FILENO, line.data, line.len) < 0) { /* nowhere left to say it */ }
    neap_buf_close(&clean);
    neap_buf_close(&line);
    lua_pop(L, 1);
}
