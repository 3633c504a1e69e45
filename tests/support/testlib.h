/* testlib.h -- how a file of tests/support adds functions to `T`, the C library that only neap-test has.
 *
 *     static const luaL_Reg functions[] = {{"free_port", free_port}, {NULL, NULL}};
 *     NEAP_TEST_LIBRARY(functions)
 *
 * The file registers itself before main; no list has to be kept. */
#ifndef NEAP_TESTS_TESTLIB_H
#define NEAP_TESTS_TESTLIB_H

#include <lauxlib.h>
#include <lua.h>

/* Remember functions that become members of T when the state is made. At most 64 libraries. */
void neap_test_add(const luaL_Reg *functions);

#define NEAP_TEST_LIBRARY(functions) \
    __attribute__((constructor)) static void register_##functions(void) { neap_test_add(functions); }

#endif
