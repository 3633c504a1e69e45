/* guard_lua.c -- native.guard: mode, policy and what the gate saw. For the engine only. */
#include <lauxlib.h>

#include "guard/guard.h"
#include "guard/policy.h"
#include "script/function.h"
#include "script/gate.h"
#include "script/raise.h"
#include "script/task.h"

static neap_guard *guard_of(lua_State *L) { return neap_host_of(L)->guard; }

/* mode([name]) -> the mode until now: "plan" or "run". Effect: pure. */
static int mode(lua_State *L) {
    static const char *const modes[] = {"plan", "run", NULL};
    lua_pushstring(L, modes[neap_guard_get_mode(guard_of(L))]);
    if (!lua_isnoneornil(L, 1)) neap_guard_set_mode(guard_of(L), (neap_mode)luaL_checkoption(L, 1, NULL, modes));
    return 1;
}

/* never(pattern, why) -> true | nil, err. Effect: pure. */
static int never(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    if (!neap_guard_add_never(guard_of(L), luaL_checkstring(L, 1), luaL_optstring(L, 2, ""), &err)) return neap_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

/* protect(): the rules that hold in every protected environment. Effect: pure. */
static int protect(lua_State *L) {
    neap_guard_protect(guard_of(L));
    return 0;
}

/* rules() -> list of {name, why}: what is never run in a protected environment. Effect: pure. */
static int rules(lua_State *L) {
    const char *name, *why;
    lua_newtable(L);
    for (size_t i = 0; (name = neap_policy_name(i, &why)); i++) {
        lua_createtable(L, 2, 0);
        lua_pushstring(L, name);
        lua_seti(L, -2, 1);
        lua_pushstring(L, why);
        lua_seti(L, -2, 2);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* allow_host(host). Effect: pure. */
static int allow_host(lua_State *L) {
    neap_guard_add_allowed(guard_of(L), luaL_checkstring(L, 1));
    return 0;
}

/* withheld(subject) -> the step that withholds it, or nil. Effect: pure. */
static int withheld(lua_State *L) {
    lua_pushstring(L, neap_guard_withheld(guard_of(L), luaL_checkstring(L, 1)));
    return 1;
}

/* mark(subject, step): reads of the subject are withheld from now on. Effect: pure. */
static int mark(lua_State *L) {
    neap_guard_mark(guard_of(L), luaL_checkstring(L, 1), luaL_checkstring(L, 2));
    return 0;
}

/* stands(subject, on): a change of all that `on` names withholds the subject too. Effect: pure. */
static int stands(lua_State *L) {
    neap_guard_stands(guard_of(L), luaL_checkstring(L, 1), luaL_checkstring(L, 2));
    return 0;
}

/* clear(): forget every withheld subject. Effect: pure. */
static int clear(lua_State *L) {
    neap_guard_clear(guard_of(L));
    return 0;
}

/* predictions() -> list, emptied. Effect: pure. */
static int predictions(lua_State *L) {
    neap_gate_push_predictions(L);
    return 1;
}

/* reads() -> what was really asked, the first of each label; emptied. Effect: pure. */
static int reads(lua_State *L) {
    neap_gate_push_reads(L);
    return 1;
}

/* effects() -> list of {name, effect, preview}. Effect: pure. */
static int effects(lua_State *L) {
    lua_createtable(L, NEAP_PRIMITIVES, 0);
    for (int i = 0; i < NEAP_PRIMITIVES; i++) {
        lua_createtable(L, 0, 3);
        lua_pushstring(L, neap_primitive_name(i));
        lua_setfield(L, -2, "name");
        lua_pushstring(L, neap_effect_name(neap_primitive_effect(i)));
        lua_setfield(L, -2, "effect");
        lua_pushstring(L, neap_primitive_preview(i));
        lua_setfield(L, -2, "preview");
        lua_seti(L, -2, i + 1);
    }
    return 1;
}

static const luaL_Reg module[] = {
    {"mode", mode}, {"never", never}, {"protect", protect}, {"rules", rules}, {"allow_host", allow_host}, {"withheld", withheld}, {"mark", mark}, {"stands", stands}, {"clear", clear},
    {"predictions", predictions}, {"reads", reads}, {"effects", effects}, {NULL, NULL}};

int neap_open_guard(lua_State *L) {
    neap_function_table(L, "native.guard.", module);
    return 1;
}
