/* faultproxy.h -- what T.proxy tells its process (faultproxy.c), and the process itself (faultlane.c). */
#ifndef NEAP_TESTS_FAULTPROXY_H
#define NEAP_TESTS_FAULTPROXY_H

#include <stdbool.h>
#include <stdint.h>

enum { NEAP_WAY_TO = 1, NEAP_WAY_FROM = 2 };                        /* towards the server; from it */
enum { NEAP_LOSE_ANSWER, NEAP_LOSE_REQUEST, NEAP_LOSE_SILENCE };
enum { NEAP_ASK_SET = 1, NEAP_ASK_CUT, NEAP_ASK_COUNT };

typedef struct neap_faults {
    char    host[46], socket[108];       /* the back end: host and port, or a unix socket */
    int     port;
    bool    refuse;
    int     way, blackhole;              /* bits of NEAP_WAY_* */
    int64_t reset_at, close_at, stall_at, corrupt_at;      /* -1: never */
    int64_t bytes, rate, delay_ms;       /* 0: as they come */
    char    when[256];                   /* "" : nothing is lost */
    int     when_len, lose;
} neap_faults;

typedef struct neap_proxy_ask { int what; bool arm; neap_faults faults; } neap_proxy_ask;      /* arm: `when` may come once more */
typedef struct neap_proxy_counts { int64_t connections, open, to, from, lost; } neap_proxy_counts;

/* Serve connections of the listener until the other end of `control` is closed. Answers each neap_proxy_ask that comes from
 * there with counts, when it has been obeyed. Does not return. */
_Noreturn void neap_proxy_serve(int listener, int control, const neap_faults *faults);

#endif
