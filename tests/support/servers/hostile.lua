-- hostile.lua: T.hostile_ssh with what an ssh client needs to reach it, as servers.hostile_ssh.
--
--   local far <close> = servers.hostile_ssh { mode = "no_exit_status" }       the modes stand in hostile_ssh.c
--   local home = servers.ssh_home { far = far }                               ssh -F home.config far true
--
-- It has the words of a server of servers.sshd that ssh_home and most specs use: address, port, user, key(), host_line(). Each
-- call starts one; it ends at its close(), after the running `it`, or at the end of the suite.

local sshd = require "tests.support.servers.sshd"
local suite = require "tests.support.suite"

local M = {}

--- A hostile server. options: mode, size (of what some modes send), address (127.…).
---@param options { mode: string, size?: integer, address?: string }
---@return table server
function M.start(options)
  local key = sshd.user_key("ed25519")
  local address = options.address or "127.0.0.1"
  local handle = T.hostile_ssh { mode = options.mode, size = options.size, address = address, allow = key .. ".pub" }
  local server = { name = options.mode, mode = options.mode, address = address, port = handle:port(), user = "anybody" }

  --- Path of the private key that may log in.
  function server.key() return key end

  --- Its line for known_hosts.
  function server.host_line() return ("[%s]:%d %s"):format(address, server.port, handle:host_key()) end

  function server.close() handle:close() end

  suite.after(server.close)
  return setmetatable(server, { __close = server.close })
end

return M
