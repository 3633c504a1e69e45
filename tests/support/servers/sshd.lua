-- sshd.lua: real OpenSSH servers, as servers.sshd and servers.ssh_home.
--
--   local hermes = servers.sshd{ name = "hermes" }        127.0.0.2; atlas is 127.0.0.3, iris is 127.0.0.4, others 127.0.0.5
--   hermes.address  .port  .user  .home  .dir  .key("ed25519")  .host_line{"ecdsa"}  .fingerprint("ed25519")  .log()  .commands()
--   hermes.processes()  .kill_sessions()  .stop()  .start()  .remove()
--   local home = servers.ssh_home{ hermes = hermes, iris = iris }     ssh -F home.config hermes true
--
-- The account behind the server, when we are root, is "deploy" with /bin/sh and an empty home. It is not added to the machine: the
-- server lives in a mount namespace of its own in which /etc/passwd is a copy with one line more, and that goes away with it.
-- Whatever runs in that namespace came in through this server, so processes() and the janitor find a detached job too. When we
-- are not root (or may not make namespaces), the account is the caller's own, whose shell reads its own start files.
-- Rejected: useradd (stays after kill -9, and needs a lock), a PID namespace (a remote pid would mean nothing to a spec).

local child = require "tests.support.child"
local suite = require "tests.support.suite"

local M = {}

local SSHD <const> = "/usr/sbin/sshd"
local ADDRESSES <const> = { hermes = "127.0.0.2", atlas = "127.0.0.3", iris = "127.0.0.4" }
local FIXED <const> = {
  "StrictModes no", "UsePAM no", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin yes",
  "Subsystem sftp internal-sftp", "AllowTcpForwarding yes", "AllowStreamLocalForwarding yes", "LogLevel VERBOSE",
  "AcceptEnv LANG LC_* NEAP_*", "MaxStartups 1000", "MaxSessions 100", "UseDNS no",
}

-- Where /etc/passwd and the others are replaced, in a mount namespace of its own: $1 is the server's directory.
local ENTER <const> = [[
for name in passwd group sudoers; do
  [ ! -e "$1/$name" ] || mount --bind "$1/$name" "/etc/$name" || exit 1
done
exec bash -c 'exec -a "$0" "$@"' "$2" ]] .. SSHD .. [[ -D -e -f "$1/sshd_config"
]]

-- With a network namespace the listener stays outside and each connection is served inside: sshd starts itself anew for each,
-- by the name it was called (9.7 and older) or by a path from its configuration, and that name is this script.
local INSIDE <const> = "#!/bin/sh\nexec nsenter --net=%s %s \"$@\"\n"
local SESSION <const> = "/usr/lib/openssh/sshd-session"

local named = {}
local can_enter

-- A file with a private key; made when first asked for.
local function make_key(path, kind)
  if not io.open(path) then
    local argv = { "ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "neap test", "-f", path }
    if kind == "rsa" then table.move({ "-b", "2048" }, 1, 2, #argv + 1, argv) end
    child.must { argv = argv }
  end
  return path
end

--- Path of a private key of the suite: every server lets the same ones in.
---@param kind string
---@return string
function M.user_key(kind)
  local dir = suite.directory() .. "/keys"
  if not T.entries(dir) then os.execute("mkdir -m 711 " .. dir) end
  return make_key(dir .. "/user_" .. kind, kind)
end

local function user_id() return 300000 + T.pid() % 300000 end

-- True when we may give the server an account that only it sees.
local function has_namespaces()
  if can_enter == nil then
    can_enter = T.uid() == 0 and child.run { argv = { "unshare", "--mount", "--propagation", "slave", "true" } }.code == 0
  end
  return can_enter
end

-- Name and home of the caller as the machine knows them, which is what sshd goes by.
local function own_account()
  local line = child.must { argv = { "sh", "-c", "getent passwd \"$(id -u)\"" } }
  return line:match("^([^:]+)"), line:match("([^:]*):[^:]*$")
end

-- The machine's accounts, but root's home is a directory of ours: what somebody who came in leaves there goes away with us.
local function accounts(server)
  os.execute("mkdir -p -m 700 " .. server.dir .. "/root")
  return (suite.read("/etc/passwd"):gsub("^root:([^\n]-):[^:\n]*:[^:\n]*\n", function (known) return ("root:%s:%s/root:/bin/sh\n"):format(known, server.dir) end))
end

local function write_account(server, options)
  local id = options.root and 0 or user_id()
  server.user, server.home, server.uid = options.root and "root" or "deploy", server.dir .. (options.root and "/root" or "/home"), id
  os.execute("mkdir -p -m 700 " .. server.home)
  T.owner(server.home, id)
  local hash = options.password and child.must { argv = { "openssl", "passwd", "-6", "-stdin" }, input = options.password }:gsub("%s", "") or "*"
  if options.root then return suite.write(server.dir .. "/passwd", accounts(server)) end
  suite.write(server.dir .. "/passwd", ("%sdeploy:%s:%d:%d::%s:/bin/sh\n"):format(accounts(server), hash, id, id, server.home))
  suite.write(server.dir .. "/group", ("%sdeploy:x:%d:\n"):format(suite.read("/etc/group"), id))
  if options.sudo then
    local kept = {}
    for variable in pairs(server.env) do kept[#kept + 1] = ('Defaults env_keep += "%s"\n'):format(variable) end
    suite.write(server.dir .. "/sudoers", "Defaults env_reset\n" .. table.concat(kept) .. "root ALL=(ALL:ALL) ALL\ndeploy ALL=(ALL:ALL) NOPASSWD: ALL\n")
    T.mode(server.dir .. "/sudoers", tonumber("440", 8))
  end
end

local function write_authorized(server)
  local lines = {}
  for _, kind in ipairs(server.user_keys) do lines[#lines + 1] = suite.read(M.user_key(kind) .. ".pub") end
  T.mode(suite.write(server.dir .. "/authorized_keys", table.concat(lines)), tonumber("644", 8))
end

local function write_wrapper(server)
  local session = io.open(SESSION) and SESSION
  server.wrapper = server.dir .. "/inside.sh"
  T.mode(suite.write(server.wrapper, INSIDE:format(server.netns.path, session or SSHD)), tonumber("755", 8))
  if session then table.insert(server.extra, "SshdSessionPath " .. server.wrapper) end
end

local function write_config(server)
  local lines = table.move(server.extra, 1, #server.extra, 1, {})
  local function add(...) lines[#lines + 1] = (...):format(select(2, ...)) end
  add("ListenAddress %s:%d", server.address, server.port)
  add("PidFile none")
  add("AuthorizedKeysFile %s/authorized_keys", server.dir)
  local set = { "SetEnv NEAP_TEST_SSHD=" .. server.dir }   -- sshd obeys only the first such line
  for variable, value in pairs(server.env) do set[#set + 1] = variable .. "=" .. value end
  add("%s", table.concat(set, " "))
  for _, kind in ipairs(server.host_keys) do add("HostKey %s", make_key(server.dir .. "/host_" .. kind, kind)) end
  table.move(FIXED, 1, #FIXED, #lines + 1, lines)
  suite.write(server.dir .. "/sshd_config", table.concat(lines, "\n") .. "\n")
end

-- Start the program; true when it listens, else false and what it said.
local function try_start(server)
  local seen = #server.log()
  local argv = { SSHD, "-D", "-e", "-f", server.dir .. "/sshd_config" }
  if server.uid then argv = { "unshare", "--mount", "--propagation", "slave", "sh", "-c", ENTER, "sshd", server.dir, server.wrapper or SSHD } end
  server.process = T.start { argv = argv, cwd = "/", log = server.dir .. "/sshd.log" }
  suite.kept[server.process:pid()] = true
  local until_ms = T.now_ms() + 90000
  while not server.log():find("Server listening on", seen + 1, true) do
    if server.process:wait(10) or T.now_ms() > until_ms then
      server.process:close()
      server.process = nil
      return false, server.log():sub(seen + 1)
    end
  end
  if server.uid then
    server.mount = T.mount_of(server.process:pid())
    assert(server.mount ~= T.mount_of(T.pid()), "the sshd has no namespace of its own")
    suite.note("mounts", server.mount)
  end
  return true
end

-- Add those whose parent is among them, and theirs.
local function add_descendants(found, all)
  local more
  repeat
    more = false
    for pid, p in pairs(all) do
      if not found[pid] and found[p.parent] then
        found[pid], more = p.name, true
      end
    end
  until not more
end

-- Is the process in the namespace that we made? The kernel gives the number of one that is gone to the next, which may be another suite's: what
-- lies over /etc/passwd there is ours or not.
local function is_inside(server, pid)
  local file = io.open("/proc/" .. pid .. "/mountinfo")
  local mounts = file and file:read("a") or ""
  if file then file:close() end
  local ours = server.dir:match("/[^/]+/[^/]+$") .. "/passwd"
  return mounts:find(ours .. " /etc/passwd ", 1, true) ~= nil or mounts:find(ours .. "//deleted /etc/passwd ", 1, true) ~= nil
end

-- Every process that came in through this server, the listener not counted: {[pid] = name}. Without a namespace: the listener's
-- descendants, those of sessions that outlived it, and whoever has its mark in the environment.
local function processes(server)
  local found, all = {}, T.processes("NEAP_TEST_SSHD=" .. server.dir)
  local listener = server.process and server.process:pid()
  for pid, p in pairs(all) do
    local is_ours = server.mount and p.mount == server.mount and is_inside(server, pid)
    if not server.mount then is_ours = p.marked or server.sessions[pid] or pid == listener end
    if is_ours then found[pid] = p.name end
  end
  if not server.mount then add_descendants(found, all) end
  for pid in pairs(found) do
    if pid == listener or all[pid].state == "Z" then found[pid] = nil end
  end
  return found
end

-- End those that `wanted` names, and wait until they are gone.
local function kill_all(server, wanted)
  local until_ms = T.now_ms() + 60000
  repeat
    local left = false
    for pid, name in pairs(processes(server)) do
      if wanted(name) then left = T.signal(pid, 9) or left end
    end
    if left then T.pause(5) end
  until not left or T.now_ms() > until_ms
end

local function is_sshd(name) return name:find("^sshd") ~= nil end

local function add_life(server)
  --- Start it again after stop(), on the same port with the same keys.
  function server.start()
    local ok, why = try_start(server)
    if not ok then error("sshd did not start:\n" .. why, 2) end
  end

  --- End the listener. Connections that are open stay open, as they do when sshd is restarted on a real host.
  function server.stop()
    if not server.process then return end
    server.sessions = processes(server)
    server.process:kill(15)
    if not server.process:wait(30000) then server.process:kill(9) end
    server.process:close()
    server.process = nil
  end

  --- Cut every connection at once, as when the host loses its sshd; what the sessions had started is left running.
  function server.kill_sessions() kill_all(server, is_sshd) end

  --- Processes that came in through this server (sessions and what they left), the listener not counted.
  ---@return table<integer, string> names by pid
  function server.processes() return processes(server) end

  --- End everything that came in through it.
  function server.kill_all() kill_all(server, function () return true end) end

  --- Stop it with everything that came in through it, and remove its files.
  function server.remove()
    server.kill_all()
    server.stop()
    server.kill_all()
    T.remove_tree(server.dir)
  end
end

local function add_words(server)
  --- Everything it logged (LogLevel VERBOSE).
  function server.log()
    local file = io.open(server.dir .. "/sshd.log")
    if not file then return "" end
    local text = file:read("a")
    file:close()
    return text
  end

  --- How many commands it has begun.
  function server.commands() return select(2, server.log():gsub("Starting session: command", "")) end

  --- Path of a private key that may log in; a kind that was not asked for before is made and let in.
  ---@param kind? string "ed25519" (the default), "ecdsa" or "rsa"
  function server.key(kind)
    kind = kind or "ed25519"
    for _, known in ipairs(server.user_keys) do
      if known == kind then return M.user_key(kind) end
    end
    table.insert(server.user_keys, kind)
    write_authorized(server)
    return M.user_key(kind)
  end

  --- Lines for known_hosts, one per kind of key.
  ---@param kinds? string[] all that the server has when omitted
  function server.host_line(kinds)
    local lines = {}
    for _, kind in ipairs(kinds or server.host_keys) do
      local text = suite.read(server.dir .. "/host_" .. kind .. ".pub")
      lines[#lines + 1] = ("[%s]:%d %s"):format(server.address, server.port, text:match("^(%S+ %S+)"))
    end
    return table.concat(lines, "\n")
  end

  --- "SHA256:…" of a host key, as ssh-keygen -l prints it.
  ---@param kind? string "ed25519" when omitted
  function server.fingerprint(kind)
    local out = child.must { argv = { "ssh-keygen", "-l", "-f", ("%s/host_%s.pub"):format(server.dir, kind or "ed25519") } }
    return out:match("(SHA256:%S+)")
  end
end

--- A running sshd. options: name, address, config (lines that go first in sshd_config, so they win), host_keys and user_keys (kinds;
--- ed25519 and ecdsa when omitted), password (of the account; also give config = {"PasswordAuthentication yes"}), sudo (the
--- account may `sudo -n` everything), root (true: the account is root, with a home of its own), env (names and values that sessions, and
--- what they start by sudo, see), netns (a namespace of servers.netns or of an engine: sessions live in it, the listener
--- does not), own (true: the caller's own account even as root).
---@param options? table
---@return table server
function M.start(options)
  options = options or {}
  local name = options.name or "hermes"
  -- Each call makes one: what a spec leaves in the account's home, or does to the listener, is no other spec's.
  named[name] = (named[name] or 0) + 1
  local dir = ("%s/%s%s"):format(suite.directory(), name, named[name] > 1 and "." .. named[name] or "")
  os.execute("mkdir -m 711 " .. dir)
  local server = { name = name, dir = dir,
    address = options.address or ADDRESSES[name] or "127.0.0.5", extra = table.move(options.config or {}, 1, #(options.config or {}), 1, {}), netns = options.netns,
    host_keys = options.host_keys or { "ed25519", "ecdsa" }, user_keys = options.user_keys or { "ed25519", "ecdsa" }, sessions = {}, env = options.env or {} }
  add_words(server)
  add_life(server)
  if T.uid() == 0 then os.execute("mkdir -p -m 755 /run/sshd") end -- where it parts from its privileges; the package's service makes it too
  if has_namespaces() and not options.own then write_account(server, options) else server.user, server.home = own_account() end
  write_authorized(server)
  if server.netns then write_wrapper(server) end
  local ok, why
  for _ = 1, 3 do -- a port that is free on 127.0.0.1 may be taken on another address
    server.port = T.free_port()
    write_config(server)
    ok, why = try_start(server)
    if ok then break end
  end
  if not ok then error("sshd did not start:\n" .. why, 2) end
  suite.at_end(server.remove)
  return server
end

local function host_block(alias, server, more)
  local lines = table.move(more, 1, #more, 2, { "Host " .. alias })
  for _, line in ipairs { "HostName " .. server.address, "Port " .. server.port, "User " .. server.user, "IdentityFile " .. server.key(),
    "IdentitiesOnly yes" } do lines[#lines + 1] = line end
  return table.concat(lines, "\n  ")
end

--- An ssh_config for servers, by alias, and a known_hosts with all their keys. More fields: lines (go first), more = { alias =
--- lines of its block that win }, known (the text of known_hosts instead).
---@param hosts table
---@return { config: string, known_hosts: string, dir: string }
function M.home(hosts)
  local dir = suite.temp()
  local home = { dir = dir, config = dir .. "/config", known_hosts = dir .. "/known_hosts" }
  local config, known = table.move(hosts.lines or {}, 1, #(hosts.lines or {}), 1, {}), {}
  for alias, server in pairs(hosts) do
    if type(server) == "table" and server.host_line then
      config[#config + 1] = host_block(alias, server, hosts.more and hosts.more[alias] or {})
      known[#known + 1] = server.host_line()
    end
  end
  config[#config + 1] = table.concat({ "Host *", "  UserKnownHostsFile " .. home.known_hosts, "  GlobalKnownHostsFile /dev/null",
    "  StrictHostKeyChecking yes", "  BatchMode yes" }, "\n")
  suite.write(home.config, table.concat(config, "\n") .. "\n")
  suite.write(home.known_hosts, hosts.known or table.concat(known, "\n") .. "\n")
  return home
end

return M
