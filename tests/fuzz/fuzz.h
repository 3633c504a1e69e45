/* fuzz.h -- a fuzz target: one function that is given bytes and must survive them.
 *
 *     NEAP_FUZZ(pgurl) { …; return 0; }              one target per file, named as the file
 *
 * Built twice from the same source. With clang and libFuzzer (make fuzz) it is LLVMFuzzerTestOneInput. In the test interpreter it
 * enters a list, and fuzz_spec.lua gives it every file of tests/fuzz/corpus/NAME, so that what was found once stays found.
 * NEAP_FUZZ_CHECK states what must hold for any input; when it does not, the process aborts, which both ways is a failure. */
#ifndef NEAP_TESTS_FUZZ_H
#define NEAP_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef int (*neap_fuzz_fn)(const uint8_t *data, size_t size);

#ifdef NEAP_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
#define NEAP_FUZZ(name) int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
#else
void neap_fuzz_add(const char *name, neap_fuzz_fn run);
#define NEAP_FUZZ(name)                                                                    \
    static int run_##name(const uint8_t *data, size_t size);                               \
    __attribute__((constructor)) static void add_##name(void) { neap_fuzz_add(#name, run_##name); } \
    static int run_##name(const uint8_t *data, size_t size)
#endif

#define NEAP_FUZZ_CHECK(truth)                                                             \
    do {                                                                                   \
        if (!(truth)) {                                                                    \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #truth);     \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

#endif
