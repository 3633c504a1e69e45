/* toy.h -- the toy primitive of toy.c, for states that have no T. */
#ifndef NEAP_TESTS_TOY_H
#define NEAP_TESTS_TOY_H

#include <lua.h>

/* As T.touch. */
int neap_test_touch(lua_State *L);

#endif
