#!/bin/sh
# test.sh INTERPRETER BINARY: run every suite, show what fails and what is skipped, end with one line of counts.
#
# A suite writes "passed failed skipped state" into its count file while it runs. A state other than "done" means that the
# interpreter died or the time limit ended it: that is one more failure, with the name of the test that ran.
# NEAP_TEST_JOBS interpreters share the spec files between them; each has servers of its own. When nobody says how many: three for two processors,
# because a spec waits for its servers half of the time; six at most.
set -u
interpreter=$1 NEAP_BINARY=$2
export NEAP_BINARY
counts=$(mktemp -d)
trap 'rm -rf "$counts"' EXIT
trap 'exit 130' INT
trap 'kill $pids 2>/dev/null; exit 143' TERM
pids= passed=0 failed=0 skipped=0

claims=
jobs=${NEAP_TEST_JOBS:-$((($(nproc) * 3 + 1) / 2))}
[ "$jobs" -le 6 ] || jobs=6
[ "$jobs" -eq 1 ] || claims=$counts/claims
[ -z "$claims" ] || mkdir "$claims"

# In the background a shell ignores Ctrl-C for its children, and the specs about Ctrl-C would inherit that.
start() { # start NAME COMMAND...: until its end, or the limit
  name=$1; shift
  NEAP_TEST_COUNTS=$counts/$name NEAP_TEST_CLAIMS=$claims \
    env --default-signal=INT,QUIT timeout --foreground --kill-after=20 "${NEAP_TEST_LIMIT:-40m}" "$@" &
  pids="$pids $!"
}

add() { # add NAME CODE: its counts to the sum
  p=0 f=0 s=0 state='not started'
  [ -f "$counts/$1" ] && read -r p f s state <"$counts/$1"
  if [ "$state" != 'done' ]; then
    printf '\nFAIL  suite %s ended with status %s: %s\n' "$1" "$2" "$state"
    f=$((f + 1))
  fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

echo '  TEST  specs'
for n in $(seq "$jobs"); do start "specs-$n" "$interpreter" tests/support/busted.lua ${NEAP_TEST_FILES:-}; done
n=0
for pid in $pids; do
  n=$((n + 1))
  wait "$pid"
  add "specs-$n" $?
done

printf '%d passed, %d failed, %d skipped\n' $passed $failed $skipped
[ $failed -eq 0 ]
