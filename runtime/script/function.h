/* function.h -- the one way in which a C function gets into Lua.
 *
 * Each function is given under its name in guard/functions.def ("native.file.write", "journal:append"); a name without a row there
 * raises {bug}, so a binding that forgot its row cannot even be opened. What was given can be asked for its row: the
 * gate does (a function may not bring it more than its row says), and so does the test that walks an environment.
 *
 * Nothing else calls lua_pushcclosure and its relatives; a test reads the sources for that. Rejected: rows found by
 * comparing names after the fact, because the walk would then trust the names it is meant to check.
 */
#ifndef NEAP_SCRIPT_FUNCTION_H
#define NEAP_SCRIPT_FUNCTION_H

#include <lauxlib.h>
#include <lua.h>
#include "guard/guard.h"

/* [-upvalues, +1, e] lua_pushcclosure for the function of this name. */
void neap_function_push(lua_State *L, const char *name, lua_CFunction function, int upvalues);

/* [-upvalues, +0, e] luaL_setfuncs: the list's functions into the table below the upvalues. Their names follow `prefix`. */
void neap_function_set(lua_State *L, const char *prefix, const luaL_Reg *list, int upvalues);

/* [-0, +1, e] luaL_newlib: a new table of them. */
void neap_function_table(lua_State *L, const char *prefix, const luaL_Reg *list);

/* [-0, +0, m] a table of functions that are not ours (Lua's own libraries): those with a row are known from now on, those without
 * are taken out of it. */
void neap_function_adopt(lua_State *L, int table, const char *prefix);

/* The strongest row of the C function at this index; NULL for one that nobody registered. Sets `row` when there is one. */
const char *neap_function_row(lua_State *L, int index, neap_primitive *row);

/* The names of functions.def, from 0; NULL after the last. */
const char *neap_function_name(int row);

#endif
