# janitor.sh DIR: waits until its input ends, which is when the test interpreter has ended in any way; then nothing of the run
# may stay: servers (told by the kernel already), containers and their engines, what came in through an sshd of ours, network
# namespaces, and the directory itself with its part in memory. servers/down.sh stands before this text.
trap '' INT TERM HUP
cat >/dev/null
dir=$1

servers() { ls "$dir"/*/data/postmaster.pid >/dev/null 2>&1; }
tries=0
while servers && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done

for engine in "$dir"/dk*; do [ ! -d "$engine" ] || engine_down "$engine"; done

# Is it in a mount namespace that a server of ours made? What lies over /etc/passwd there is ours; the number of a namespace that is gone
# is given to the next one, which may be another run's.
is_inside() { grep -qE "/${dir##*/}/[^ /]+/passwd(//deleted)? /etc/passwd " "/proc/$1/mountinfo" 2>/dev/null; }

# Pids of processes in the mount namespaces that our servers had, and of those whose environment names the run.
strays() {
  if [ -s "$dir/notes/mounts" ]; then
    for pid in $(cd /proc && echo [0-9]*); do
      mount=$(readlink "/proc/$pid/ns/mnt" 2>/dev/null) && grep -qxF "$mount" "$dir/notes/mounts" && is_inside "$pid" && echo "$pid"
    done
  fi
  (cd /proc && grep -lzF "NEAP_TEST_SUITE=$dir" [0-9]*/environ 2>/dev/null; grep -lzF "NEAP_TEST_SSHD=$dir/" [0-9]*/environ 2>/dev/null) | cut -d/ -f1
}
tries=0
while pids=$(strays) && [ -n "$pids" ] && [ $tries -lt 50 ]; do
  kill -9 $pids 2>/dev/null
  sleep 0.1
  tries=$((tries + 1))
done
[ ! -s "$dir/notes/netns" ] || while read -r name; do ip netns del "$name" 2>/dev/null; done <"$dir/notes/netns"
rm -rf "$dir" "/dev/shm/${dir##*/}"
