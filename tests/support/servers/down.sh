# down.sh: how a container engine of the tests goes away, by servers/docker.lua at its stop and by the janitor after a kill -9.

# A zombie has ended; its parent only has not looked yet.
alive() { [ -n "$1" ] && grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

# Pids of processes that were started with a file below DIR on their command line: containerd and the shims of the containers.
below() { ps -e -ww -o pid=,args= | awk -v d="$1/" 'index($0, d) && !/awk/ && !/neap-test/ { print $1 }'; }

# engine_down DIR: containers first, then the engine, then what neither took along. Safe to call again.
engine_down() {
  engine=$1 pid=$(cat "$1/dockerd.pid" 2>/dev/null)
  if alive "$pid"; then
    ids=$(DOCKER_HOST=unix://$engine/docker.sock timeout 10 docker ps -q 2>/dev/null)
    [ -z "$ids" ] || DOCKER_HOST=unix://$engine/docker.sock timeout 20 docker kill $ids >/dev/null 2>&1
    kill -TERM "$pid" 2>/dev/null
    tries=0
    while alive "$pid" && [ $tries -lt 200 ]; do sleep 0.1; tries=$((tries + 1)); done
    alive "$pid" && kill -9 "$pid"
  fi
  tries=0
  while pids=$(below "$engine/exec") && [ -n "$pids" ] && [ $tries -lt 100 ]; do                 # shims that lost their engine, and the containers under them
    for pid in $pids; do
      pkill -9 -P "$pid" 2>/dev/null
      kill -9 "$pid" 2>/dev/null
    done
    sleep 0.1
    tries=$((tries + 1))
  done
  awk -v d="$engine/" 'index($2, d) == 1 { print $2 }' /proc/mounts | LC_ALL=C sort -r | while read -r place; do umount -l "$place" 2>/dev/null; done
  group=$(cat "$engine/cgroup" 2>/dev/null)
  tries=0                                                # whoever was killed leaves its group when it is gone
  while [ -n "$group" ] && [ -n "$(find /sys/fs/cgroup -type d -path "*/$group*" 2>/dev/null)" ] && [ $tries -lt 100 ]; do
    [ $tries -eq 0 ] || sleep 0.1
    find /sys/fs/cgroup -depth -type d -path "*/$group*" -exec rmdir {} + 2>/dev/null
    tries=$((tries + 1))
  done
  rm -f "$engine/docker.sock" "$engine/dockerd.pid"
}
