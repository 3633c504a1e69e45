#!/bin/sh
# prisma.sh ARGUMENT...: Prisma's command line in its fixture project; DATABASE_URL comes from the environment.
#
#   migrate = command { argv = { "…/build/tools/prisma.sh" } }      then: migrate:run({ "migrate", "deploy" })
#
# The command line insists on native engine files before anything else, and never uses them with the WebAssembly engine:
# /bin/true stands in for them (it must exit 0).
set -eu
project=$(cd "$(dirname "$0")/prisma" && pwd)
cd "$project"
export CHECKPOINT_DISABLE=1 PRISMA_HIDE_UPDATE_MESSAGE=1
export PRISMA_QUERY_ENGINE_LIBRARY=/bin/true PRISMA_SCHEMA_ENGINE_BINARY=/bin/true
exec node node_modules/prisma/build/index.js "$@"
