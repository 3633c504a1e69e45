/* file_lua.h -- shared by the two files of native.file. */
#ifndef NEAP_BIND_FILE_LUA_H
#define NEAP_BIND_FILE_LUA_H

#include "bind/job.h"
#include "script/gate.h"

/* What a pool thread works on; owns everything in it. */
typedef struct neap_file_job {
    neap_job base;                /* first */
    char *path;
    neap_buf in, out;             /* content to write; content or list that was read */
    int mode;
    size_t limit;
    neap_disk_stat stat;
    neap_disk_part part;
    char hex[NEAP_HASH_HEX_SIZE];
    int64_t size, total;
    bool flag;                    /* made, stale: what the verb's run found */
    int fd;                       /* of an open file, -1 */
} neap_file_job;

typedef struct neap_file_op {
    neap_gate gate;               /* first */
    const struct neap_file_verb *verb;
    neap_file_job *job;
    enum { NEAP_FILE_PREVIEW, NEAP_FILE_PREPARE, NEAP_FILE_ACT } stage;
    char *subject, *text, *role;
    neap_buf plan;
} neap_file_op;

/* One row per function of the module. */
typedef struct neap_file_verb {
    const char *name;
    neap_primitive primitive;
    bool entry;                                       /* about the name itself: a last link is not followed */
    void (*look)(neap_job *j);                        /* [pool] for a write in a preview: what is there now; may be NULL */
    void (*prepare)(neap_job *j);                     /* [pool] what belongs into the intent; may be NULL */
    void (*run)(neap_job *j);                         /* [pool] */
    int  (*push)(lua_State *L, neap_file_op *f);      /* [-0, +n, m] the results of a run that went well */
} neap_file_verb;

/* [-0, +1, e] an op for this verb about the path at index 1, with the options (role, mode, limit) at index `options`. */
neap_file_op *neap_file_new(lua_State *L, const neap_file_verb *verb, int options);
/* [-0, +n, e] as `return neap_file_enter(L, f)`. */
int neap_file_enter(lua_State *L, neap_file_op *f);

/* [-0, +1, m] a list of {name=, sha256=}, sorted by bytes, of what neap_disk_hashes gives. */
void neap_file_push_hashes(lua_State *L, const neap_buf *all);

/* open(path, "r"|"w", {mode=, role=}) -> stream | nil, err. */
int neap_file_open(lua_State *L);
/* nothing() -> stream that takes everything and keeps nothing: to read something to its end. Effect: pure. */
int neap_file_nothing(lua_State *L);

#endif
