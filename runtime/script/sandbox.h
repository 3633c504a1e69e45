/* sandbox.h -- bounds on what Lua may consume: memory by a counting allocator, time by a timer that hooks Lua and, for
 * what no hook sees (a pattern that backtracks for ever, a loop inside a finalizer), the end of the process.
 *
 * The environment of runbook code (which names it sees) is made in stdlib/engine/sandbox.lua out of allow-lists; this is the part that
 * Lua cannot do for itself. */
#ifndef NEAP_SCRIPT_SANDBOX_H
#define NEAP_SCRIPT_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <lua.h>

struct neap_host;

/* lua_Alloc that counts into a neap_host and refuses beyond its limit. */
void *neap_sandbox_alloc(void *host, void *block, size_t old_size, size_t new_size);

/* Milliseconds of processor time that Lua may compute without waiting (0: no limit), or, when it is `whole`, altogether from now on.
 * Beyond it a hook raises, every few thousand instructions, so that a pcall loop cannot swallow it; beyond a deadline it raises once, as a
 * wait would. Where there is a limit the timer ends the process (70) when even that did not help for `NEAP_SANDBOX_STUCK_MS` more. */
void neap_sandbox_limit(struct neap_host *host, int64_t run_ms, bool whole);

/* The host calls these around each resume; `rearm` when a deadline of the running task changes, or it is cancelled. The
 * process ends NEAP_SANDBOX_STUCK_MS after the limit or after the nearest deadline, whichever comes first. */
void neap_sandbox_enter(struct neap_host *host);
void neap_sandbox_rearm(struct neap_host *host);
void neap_sandbox_leave(struct neap_host *host);

enum { NEAP_SANDBOX_INSTRUCTIONS = 10000, NEAP_SANDBOX_STUCK_MS = 5000 };

#endif
