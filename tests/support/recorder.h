/* recorder.h -- the journal in memory that T.run lends to the gate. */
#ifndef NEAP_TESTS_RECORDER_H
#define NEAP_TESTS_RECORDER_H

#include "guard/recorder.h"
#include "loop/loop.h"

neap_recorder neap_test_recorder(neap_loop *loop);

#endif
