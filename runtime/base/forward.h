/* forward.h -- functions of a library that is loaded when the first of them is called.
 *
 * A library that many runs do not need is not linked: FORWARD defines a function of the same name, which looks its namesake up at its
 * first call. The compiler checks it against the library's own header. Each file that uses this defines LIBRARY, the
 * library's soname.
 *
 * A machine without the library ends at the first use instead of at the start: 71, with the linker's words. What is loaded this way
 * is used while a run looks at its targets, before it has written anything.
 *
 * Rejected: -z lazy, which delays the look-ups but not the libraries, and a table of pointers, which every caller would have to spell. */
#ifndef NEAP_BASE_FORWARD_H
#define NEAP_BASE_FORWARD_H

#include <stdatomic.h>

/* The address; never NULL. From any thread: loading twice gives the same library. */
void *neap_forward_find(const char *library, const char *name);

#define NEAP_FORWARD_NAMESAKE(name)                                                       \
    static _Atomic(__typeof__(&name)) namesake;                                           \
    if (!namesake) namesake = (__typeof__(&name))neap_forward_find(LIBRARY, #name)

#define FORWARD(type, name, parameters, arguments)                                        \
    type name parameters {                                                                \
        NEAP_FORWARD_NAMESAKE(name);                                                      \
        return namesake arguments;                                                        \
    }

/* The same for functions that return nothing. */
#define FORWARD_VOID(name, parameters, arguments)                                         \
    void name parameters {                                                                \
        NEAP_FORWARD_NAMESAKE(name);                                                      \
        namesake arguments;                                                               \
    }

#endif
