/* stream_lua.h -- byte streams on the Lua stack. Any binding that has a neap_stream makes its handle here. */
#ifndef NEAP_BIND_STREAM_LUA_H
#define NEAP_BIND_STREAM_LUA_H

#include <lua.h>
#include "base/hash.h"
#include "loop/stream.h"
#include "script/op.h"

/* The head of a handle's userdata. A kind with more to say embeds it first and sets the two functions. */
typedef struct neap_stream_handle neap_stream_handle;
struct neap_stream_handle {
    neap_stream *stream;          /* NULL: not open yet, or closed */
    neap_op *reader, *writer;     /* whose waits are under way */
    long long moved;              /* bytes read and written so far */
    neap_hash *hash;              /* of the bytes written; NULL: nobody asks */
    bool of_act;                  /* opened by an act: nobody else writes to it */
    bool broken;                  /* bytes that were to be written are missing: what is there is not whole */
    /* [-0, +n, e] close with a last word (`good`: the scope ended well); may wait. NULL: just close. */
    int  (*close)(lua_State *L, neap_stream_handle *h, bool good);
    /* Give up without a Lua state to wait in (__gc); NULL: just close. */
    void (*drop)(neap_stream_handle *h);
};

/* [-0, +1, m] a closed handle of `size` bytes (0: the head alone) with one user value. Set `stream` afterwards: made closed,
 * then opened, so that __gc is right at every moment. */
neap_stream_handle *neap_stream_new_handle(lua_State *L, size_t size);
/* [-0, +0, -] the handle at `index`, open or closed; NULL when it is none. */
neap_stream_handle *neap_to_stream_handle(lua_State *L, int index);
/* [-0, +0, e] the same, open; raises otherwise (a withheld value raises {withheld}). */
neap_stream_handle *neap_check_stream(lua_State *L, int index);
/* [-0, +0, e] the same, to be written to by the clause that runs: one that only asks gets {refused} for what an act opened. */
neap_stream_handle *neap_check_sink(lua_State *L, int index);
/* Free the stream and mark the handle closed. */
void neap_stream_handle_close(neap_stream_handle *h);

#endif
