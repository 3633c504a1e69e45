#!/bin/sh
# run.sh: the bench, in a network namespace of its own where we may make one: there a server may listen on every address of loopback
# without listening to the world. `sh tests/bench/run.sh build/release/neap-test`
if unshare --net true 2>/dev/null; then
  NEAP_BENCH_ALONE=1 exec unshare --net sh -c 'ip link set lo up && exec "$0" tests/bench/run.lua' "$1"
fi
exec "$1" tests/bench/run.lua
