-- netns.lua: network namespaces for the specs, as servers.netns and servers.link; root only.
--
--   local ns, why = servers.netns("engine")      ns.name  ns.path  ns.enter(argv) -> argv  ns.sh("iptables …")  ns.remove()
--   local pair = servers.link()                  pair.near, pair.far: two namespaces joined by a cable
--   pair.near.address  pair.far.address  pair.drop("in"|"out"|"both")  pair.refuse(port)  pair.heal()  pair.remove()
--
-- Children run inside by nsenter, which leaves /sys alone: a container engine does not start under `ip netns exec`, which does not.
-- drop() makes the cable swallow packets without a word, as a dead peer does. Names begin with "neap" and the pid of
-- the suite; the janitor deletes those that are noted, and what runs inside is told by the kernel when the suite ends.
-- Where no namespace can be made: nil and the reason.

local child = require "tests.support.child"
local suite = require "tests.support.suite"

local M = {}

local count = 0

local function remove_namespace(ns)
  if ns.gone then return end
  ns.gone = true
  child.run { argv = { "ip", "netns", "del", ns.name } }
end

local function exists(name)
  local file = io.open("/run/netns/" .. name)
  if file then file:close() end
  return file ~= nil
end

--- A new network namespace with its loopback up.
---@param label? string a word in its name
---@return table? ns
---@return string? why there is none
function M.start(label)
  if T.uid() ~= 0 then return nil, "not root: no network namespace can be made" end
  local name
  repeat -- busted forgets this module, and with it the count, after each file; a namespace of an earlier one is there to the end
    count = count + 1
    name = ("neap%d%s%d"):format(T.pid(), label or "", count)
  until not exists(name)
  suite.note("netns", name)
  local made = child.run { argv = { "ip", "netns", "add", name } }
  if made.code ~= 0 then return nil, "no network namespace can be made: " .. made.err end
  local ns = { name = name, path = "/run/netns/" .. name }

  --- The argv that runs `argv` inside.
  function ns.enter(argv)
    return table.move(argv, 1, #argv, 3, { "nsenter", "--net=" .. ns.path })
  end

  --- Run a shell line inside; raises when it fails.
  ---@return string out
  function ns.sh(line) return child.must { argv = ns.enter { "sh", "-ec", line }, timeout = 120000 } end

  --- Delete it. Processes inside keep it alive until they end.
  function ns.remove() remove_namespace(ns) end

  suite.at_end(ns.remove)
  ns.sh("ip link set lo up")
  return ns
end

local CABLE <const> = [[
ip link add %s netns %s type veth peer name %s netns %s
ip -n %s addr add 198.18.7.1/30 dev %s; ip -n %s link set %s up
ip -n %s addr add 198.18.7.2/30 dev %s; ip -n %s link set %s up
]]

--- Two namespaces joined by a cable: near (where the program runs) and far (where the server runs).
---@return table? pair
---@return string? why there is none
function M.link()
  local near, why = M.start("near")
  if not near then return nil, why end
  local far = assert(M.start("far"))
  local a, b = "neap" .. T.pid() .. "a", "neap" .. T.pid() .. "b"
  near.address, far.address = "198.18.7.1", "198.18.7.2"
  local laid = child.run { argv = { "sh", "-ec", CABLE:format(a, near.name, b, far.name, near.name, a, near.name, a, far.name, b, far.name, b) } }
  if laid.code ~= 0 then
    near.remove()
    far.remove()
    return nil, "no cable between namespaces can be laid: " .. laid.err
  end
  local pair = { near = near, far = far }

  --- Swallow packets at the near end: "in" what comes from the far end, "out" what goes there, "both" when omitted.
  function pair.drop(way)
    if way ~= "out" then near.sh("iptables -A INPUT -i " .. a .. " -j DROP") end
    if way ~= "in" then near.sh("iptables -A OUTPUT -o " .. a .. " -j DROP") end
  end

  --- Answer connections to that port of the far end with a reset.
  function pair.refuse(port)
    far.sh(("iptables -A INPUT -p tcp --dport %d -j REJECT --reject-with tcp-reset"):format(port))
  end

  --- Undo drop() and refuse().
  function pair.heal()
    near.sh("iptables -F")
    far.sh("iptables -F")
  end

  function pair.remove()
    near.remove()
    far.remove()
  end

  return pair
end

return M
