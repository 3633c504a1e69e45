/* pg_handle.h -- the handle's life, for pg_lua.c and pg_open.c. */
#ifndef NEAP_BIND_PG_HANDLE_H
#define NEAP_BIND_PG_HANDLE_H

#include "bind/pg_private.h"

pg_handle *neap_pg_handle_new(lua_State *L);                /* [-0, +1, m] */
void neap_pg_handle_renew(pg_handle *h);                    /* a fresh driver connection, the old one freed */
pg_handle *neap_pg_to_handle(lua_State *L, int index);      /* [-0, +0, e] also a closed one */
int  neap_pg_handle_close(lua_State *L);                    /* [-0, +0, e] of argument 1; twice is harmless */
int  neap_pg_handle_gc(lua_State *L);
void neap_pg_forget_identity(pg_handle *h);
void neap_pg_clear_notices(pg_handle *h);
int  neap_pg_open(lua_State *L);                            /* conn:open(); pg_open.c */
int  neap_pg_card(lua_State *L);

#endif
