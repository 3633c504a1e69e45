/* forward.c -- see forward.h. */
#include "base/forward.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

enum { EXIT_SYSTEM = 71 };

void *neap_forward_find(const char *library, const char *name) {
    void *handle = dlopen(library, RTLD_LAZY | RTLD_LOCAL), *found = handle ? dlsym(handle, name) : NULL;
    if (found) return found;
    fprintf(stderr, "neap: a library cannot be used: %s\n", dlerror());
    _Exit(EXIT_SYSTEM);
}
