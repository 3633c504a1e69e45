/* system_lua.h -- what main does before anything else. */
#ifndef NEAP_BIND_SYSTEM_LUA_H
#define NEAP_BIND_SYSTEM_LUA_H

/* No core files, no reading of our memory by other processes of the user, files private from birth, and a broken pipe
 * is an error and not a death. */
void neap_system_harden(void);

#endif
