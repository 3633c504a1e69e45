/* callback.h -- Lua called from the loop, outside any task: for news (a signal, a watcher that joined), not for work. */
#ifndef NEAP_BIND_CALLBACK_H
#define NEAP_BIND_CALLBACK_H

#include <lua.h>

/* The main thread of the state: where callbacks run. Keep this one, never the L of a call. */
lua_State *neap_callback_main(lua_State *L);

/* [-(n+1), +0, -] call the function below its n arguments. It may not wait. What it raises is told on
 * standard error (redacted, escaped), because nobody is there to catch it. */
void neap_callback_call(lua_State *L, int arguments);

#endif
