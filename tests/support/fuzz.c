/* fuzz.c -- T.fuzz: the fuzz targets of tests/fuzz, for the replay of their corpora. */
#include "../fuzz/fuzz.h"

#include <string.h>

#include "testlib.h"

enum { TARGETS = 32 };

static struct { const char *name; neap_fuzz_fn run; } targets[TARGETS];
static int target_count;

void neap_fuzz_add(const char *name, neap_fuzz_fn run) {
    if (target_count == TARGETS) abort();
    targets[target_count].name = name;
    targets[target_count++].run = run;
}

/* T.fuzz(name, bytes): give the bytes to the target. What must not be, ends the process. */
static int fuzz(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    uint8_t *copy = malloc(len ? len : 1);                 /* of its own, so that a sanitizer sees one byte too many */
    memcpy(copy, bytes, len);
    int found = 0;
    for (int i = 0; i < target_count; i++)
        if (strcmp(targets[i].name, name) == 0) found = 1, targets[i].run(copy, len);
    free(copy);
    return found ? 0 : luaL_error(L, "no fuzz target \"%s\"", name);
}

/* T.fuzz_targets() -> list of names */
static int fuzz_targets(lua_State *L) {
    lua_newtable(L);
    for (int i = 0; i < target_count; i++) {
        lua_pushstring(L, targets[i].name);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static const luaL_Reg fuzzing[] = {{"fuzz", fuzz}, {"fuzz_targets", fuzz_targets}, {NULL, NULL}};
NEAP_TEST_LIBRARY(fuzzing)
