-- web.lua: what the set-ups have of the web, by busybox's own server: an application that serves a page while it runs, and a place
-- that keeps what is posted to it. Neither needs anything that is not on the machine.

local child = require "tests.support.child"
local suite = require "tests.support.suite"

local M = {}

local HOOK <const> = [[
#!/bin/sh
head -c "$CONTENT_LENGTH" >>%s/said
echo >>%s/said
printf 'Content-Type: text/plain\r\n\r\nok\n'
]]

-- up and down wait: whoever started it may ask for its page, whoever stopped it may not.
local UP <const> = [[
#!/bin/sh
%s/is-up && exit 0
setsid /bin/busybox httpd -f -p 127.0.0.1:%d -h %s/www </dev/null >/dev/null 2>&1 &
echo $! >%s/pid
until /bin/busybox wget -q -O /dev/null http://127.0.0.1:%d/health; do sleep 0.02; done
]]
local IS_UP <const> = [[
#!/bin/sh
pid=$(cat %s/pid 2>/dev/null) && kill -0 "$pid" 2>/dev/null
]]
local DOWN <const> = [[
#!/bin/sh
%s/is-up || exit 0
kill "$(cat %s/pid)"
while %s/is-up; do sleep 0.02; done
rm %s/pid
]]

local function script(path, text) T.mode(suite.write(path, text), tonumber("755", 8)) end

--- Wait until a page is there.
---@param url string
---@param enter? fun(argv: string[]): string[] as netns.enter
function M.wait_for(url, enter)
  local argv = { "/bin/busybox", "wget", "-q", "-O", "/dev/null", url }
  local until_ms = T.now_ms() + 60000
  while child.run({ argv = enter and enter(argv) or argv }).code ~= 0 do
    if T.now_ms() > until_ms then error("no page at " .. url, 0) end
    T.pause(10)
  end
end

--- Is there what all this is made of?
---@return boolean
function M.is_possible()
  local file = io.open("/bin/busybox")
  if file then file:close() end
  return file ~= nil
end

--- A place for what is posted: url, said() (a line for each post), clear().
---@param enter? fun(argv: string[]): string[] as netns.enter: it is then there
---@return table
function M.chat(enter)
  local dir, port = suite.temp(), T.free_port()
  os.execute(("mkdir -p %s/www/cgi-bin"):format(dir))
  script(dir .. "/www/cgi-bin/hook", HOOK:format(dir, dir))
  suite.write(dir .. "/www/ready", "yes\n")
  local argv = { "/bin/busybox", "httpd", "-f", "-p", "127.0.0.1:" .. port, "-h", dir .. "/www" }
  local process = T.start { argv = enter and enter(argv) or argv, cwd = "/", log = dir .. "/log" }
  suite.kept[process:pid()] = true
  suite.at_end(function ()
    process:kill(15)
    process:wait(30000)
    process:close()
  end)
  local address = "http://127.0.0.1:" .. port
  M.wait_for(address .. "/ready", enter)
  local chat = { url = address .. "/cgi-bin/hook" }

  function chat.clear() os.remove(dir .. "/said") end

  function chat.said()
    local list, file = {}, io.open(dir .. "/said")
    for line in file and file:lines() or function () end do list[#list + 1] = line end
    if file then file:close() end
    return list
  end

  return chat
end

--- An application on this machine, seen to by three commands: port, commands { start, stop, status }, running(), start(), stop().
---@return table
function M.app()
  local dir, port = suite.temp(), T.free_port()
  os.execute(("mkdir -p %s/www"):format(dir))
  suite.write(dir .. "/www/health", "fine\n")
  script(dir .. "/up", UP:format(dir, port, dir, dir, port))
  script(dir .. "/is-up", IS_UP:format(dir))
  script(dir .. "/down", DOWN:format(dir, dir, dir, dir))
  local app = { dir = dir, port = port, commands = { start = dir .. "/up", stop = dir .. "/down", status = dir .. "/is-up" } }
  function app.running() return child.run({ argv = { dir .. "/is-up" } }).code == 0 end
  function app.start() child.must { argv = { dir .. "/up" } } end
  function app.stop() child.must { argv = { dir .. "/down" } } end
  suite.at_end(app.stop)
  return app
end

return M
