/* pgurl.c -- T.pgurl_write(url, prisma): the URL that neap_pgurl_write makes of a URL. For tests only: it shows passwords. */
#include <stdlib.h>

#include "drive/pgurl.h"
#include "script/raise.h"
#include "testlib.h"

/* pgurl_write(url, prisma) -> text | nil, err */
static int pgurl_write(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    neap_pgurl u;
    if (!neap_pgurl_read(&u, luaL_checkstring(L, 1), &err)) return neap_fail(L, &err);
    char *text = neap_pgurl_write(&u, lua_toboolean(L, 2));
    neap_pgurl_close(&u);
    lua_pushstring(L, text);
    free(text);
    return 1;
}

static const luaL_Reg pgurl[] = {{"pgurl_write", pgurl_write}, {NULL, NULL}};
NEAP_TEST_LIBRARY(pgurl)
