-- The kinds of targets there are: the word in the inventory and in `target.KIND`, and the module that
-- speaks to it.
local M = {}

---@return table<string, table> kind -> client module
function M.all()
  return {
    postgres = require "client.postgres", redis = require "client.redis", folder = require "client.folder", command = require "client.command",
    url = require "client.url", webhook = require "client.webhook", host = require "client.host", hosts = require "client.hosts",
    container = require "client.container", service = require "client.service",
  }
end

return M
