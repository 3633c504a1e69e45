/* state.h -- one Lua state: allocator, safe standard libraries, the embedded standard library as `require` sees it. */
#ifndef NEAP_SCRIPT_STATE_H
#define NEAP_SCRIPT_STATE_H

#include <lua.h>
#include "script/task.h"

/* One module of stdlib/, as bytecode; the array ends with a NULL name. */
typedef struct neap_embedded { const char *name; const unsigned char *code; size_t len; } neap_embedded;
extern const neap_embedded neap_stdlib[];
/* SHA-256 of the sources it was made from: which words a run had. */
extern const char neap_stdlib_hash[];

/* A module in C: "native.pg". The list ends with a NULL name. */
typedef struct neap_opener { const char *name; lua_CFunction open; } neap_opener;

/* A state whose `require` finds these C modules and the embedded standard library, and nothing else: no files, no C libraries, no
 * environment variables. io, os, debug and package are not opened. The host is initialised (lists, counters). NULL: no memory. */
lua_State *neap_state_new(neap_host *host, const neap_opener *openers);

/* Close the state: finalizers run while every primitive refuses (phase DECLARE). */
void neap_state_close(lua_State *L);

/* [-0, +1, e] the modules as package.searchers would give them; for a state that has a `package` library of its own (tests). */
void neap_state_preload(lua_State *L, const neap_opener *openers);

#endif
