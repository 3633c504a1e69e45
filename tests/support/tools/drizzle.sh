#!/bin/sh
# drizzle.sh ARGUMENT...: drizzle-kit in its fixture project; DATABASE_URL comes from the environment.
#
#   migrate = command { argv = { "…/build/tools/drizzle.sh" } }     then: migrate:run({ "migrate" })
set -eu
project=$(cd "$(dirname "$0")/drizzle" && pwd)
cd "$project"
exec node node_modules/drizzle-kit/bin.cjs "$@"
