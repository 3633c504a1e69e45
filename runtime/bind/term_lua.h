/* term_lua.h -- what other bindings need of the terminal. */
#ifndef NEAP_BIND_TERM_LUA_H
#define NEAP_BIND_TERM_LUA_H

/* Give the terminal back its settings when a hidden line is being read. Safe in a signal handler; harmless otherwise. */
void neap_term_restore(void);

#endif
