#!/bin/sh
# images.sh DIR: file systems for three container images, made of what the machine has; nothing is fetched.
#
# DIR/busybox.tar is Debian's static busybox with a link per applet. DIR/machine.tar holds links and entry scripts only: the programs of
# PostgreSQL and Redis come from the machine's own /usr, mounted read-only into the container, so the versions are the tests' own.
set -eu
dir=$1
mkdir -p "$dir/bb/bin" "$dir/bb/tmp" "$dir/bb/etc" "$dir/bb/root"
cp /bin/busybox "$dir/bb/bin/"
for applet in $(/bin/busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$dir/bb/bin/$applet"; done
printf 'root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000::/tmp:/bin/sh\n' >"$dir/bb/etc/passwd"
printf 'root:x:0:\nguest:x:1000:\n' >"$dir/bb/etc/group"
chmod 1777 "$dir/bb/tmp"
tar -C "$dir/bb" --numeric-owner -cf "$dir/busybox.tar" .

machine=$dir/machine
for name in etc tmp run proc sys dev var/lib/pg var/lib/redis usr root; do mkdir -p "$machine/$name"; done
chmod 1777 "$machine/tmp"
chown 999:999 "$machine/var/lib/pg" "$machine/var/lib/redis"
for name in bin sbin lib lib64; do ln -s "usr/$name" "$machine/$name"; done
printf 'root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999::/var/lib/pg:/bin/sh\n' >"$machine/etc/passwd"
printf 'root:x:0:\npostgres:x:999:\n' >"$machine/etc/group"
cat >"$machine/postgres.sh" <<'END'
#!/bin/sh
set -eu
data=/var/lib/pg/data
if [ ! -s $data/PG_VERSION ]; then
  printf %s "${POSTGRES_PASSWORD:-pw}" >/tmp/pw
  initdb -D $data -U "${POSTGRES_USER:-postgres}" --pwfile=/tmp/pw -A scram-sha-256 --auth-local=trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
  rm /tmp/pw
  printf "host all all all scram-sha-256\n" >>$data/pg_hba.conf
  printf "listen_addresses='%s'\nport=%s\nunix_socket_directories='/tmp'\nfsync=off\nshared_buffers=32MB\n" "${PGLISTEN:-}" "${PGPORT:-5432}" >>$data/postgresql.conf
fi
# Not as process 1: PostgreSQL takes an orphan of the container that dies badly for one of its own, and starts anew.
postgres -D $data &
trap 'kill -INT $!' INT TERM
while kill -0 $! 2>/dev/null; do wait $! || :; done
END
cat >"$machine/redis.sh" <<'END'
#!/bin/sh
set -eu
exec redis-server --dir /var/lib/redis --bind "${REDIS_LISTEN:-127.0.0.1}" --port "${REDIS_PORT:-6379}" --requirepass "${REDIS_PASSWORD:-pw}" \
  --save '' --appendonly no --protected-mode no
END
chmod 755 "$machine/postgres.sh" "$machine/redis.sh"
tar -C "$machine" --numeric-owner -cf "$dir/machine.tar" .
rm -rf "$dir/bb" "$machine"
