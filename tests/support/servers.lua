-- servers.lua: real servers for the specs and for the demo. The door: one file per kind of server in servers/.
--
--   servers.postgres{…}   servers/postgres.lua      servers.redis{…}      servers/redis.lua
--   servers.sshd{…}       servers/sshd.lua          servers.ssh_home{…}   (an ssh_config for such hosts)
--   servers.hostile_ssh{…}   servers/hostile.lua (an SSH server that misbehaves; hostile_ssh.c)
--   servers.docker{…}     servers/docker.lua        servers.netns(…), servers.link()   servers/netns.lua
--   servers.http()        servers/http.lua
--
-- The same for all but sshd, of which each call makes one: the first caller of a name starts the server and later callers get the same
-- one; the suite stops it; a
-- spec that stops, breaks or restores a server takes one with a name of its own, in its `setup`; all traffic stays on
-- loopback; and whatever way the suite ends, kill -9 included, janitor.sh ends what is left.

local docker = require "tests.support.servers.docker"
local http = require "tests.support.servers.http"
local hostile = require "tests.support.servers.hostile"
local netns = require "tests.support.servers.netns"
local postgres = require "tests.support.servers.postgres"
local redis = require "tests.support.servers.redis"
local sshd = require "tests.support.servers.sshd"

local M = {}

M.neap = require "tests.support.neap"

M.postgres, M.postgres_bin, M.passwords = postgres.start, postgres.bin, postgres.passwords
M.redis = redis.start
M.docker = docker.start
M.http = http.start
M.hostile_ssh = hostile.start
M.netns, M.link = netns.start, netns.link
M.sshd, M.ssh_home = sshd.start, sshd.home

return M
