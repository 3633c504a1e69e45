#!/bin/sh
# run.sh BUILD SECONDS TARGET...: run each fuzzer for that long, from what earlier runs found and from its corpus.
#
# What is new is kept in BUILD/found/TARGET, which is no part of the tree. An input that crashes, hangs for 10 s or takes
# 1 GiB is kept as BUILD/crash/TARGET-…, and the end is a failure. Once mended, it belongs into tests/fuzz/corpus/TARGET.
set -u
build=$1 seconds=$2
shift 2
failed=0
mkdir -p "$build/crash" "$build/tmp"
for target in "$@"; do
  mkdir -p "$build/found/$target"
  log=$build/$target.log
  printf '  FUZZ  %s: ' "$target"
  if TMPDIR=$build/tmp "$build/fuzzer-$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
    -artifact_prefix="$build/crash/$target-" "$build/found/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$runs runs, $(ls "$build/found/$target" | wc -l) inputs found"
  else
    failed=$((failed + 1))
    echo 'FAILED'
    grep -a -e 'does not hold' -e 'ERROR: ' -e 'runtime error' -e '^    #[0-9] .* in neap_' -e 'Test unit written' "$log" | head -20
  fi
done
[ $failed -eq 0 ] || { echo "fuzz: $failed targets failed; the inputs are in $build/crash"; exit 1; }
