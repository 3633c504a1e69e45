-- What the far end says may be made to harm the terminal or the memory of whoever listens: escape sequences, a window title, a clipboard (OSC 52), text that runs
-- backwards, NUL, bytes that are no UTF-8; a line of a gibibyte, a stream without end. It comes from a command on a host, a container, its
-- log, a Redis value and an error text, an HTTP header and body, a notice and an error of PostgreSQL, and goes to the screen, a pipe, cron's page, JSON, show and the journal.

local screen = require "tests.support.screen"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local text = require "native.text"

local ODD <const> = "\27]0;owned\7\27[2J\27[31mred\27]52;c;aGk=\7\27P+q\27\\\0\255\254\195(\226\128\174\155" .. "31m\r\b\n"
-- The part that is UTF-8 without NUL: PostgreSQL passes nothing else on.
local TEXT <const> = "\27]0;owned\7\27[2J\27[31mred\27]52;c;aGk=\7\226\128\174\194\155" .. "31m\r\b"
local MOST_KIB <const> = 64 * 1024

local INVENTORY <const> = [[
environment "demo" {
  hermes = host { ssh = "hermes", config = %q, backend = %q },
  cache = redis { url = "redis://127.0.0.1:%d/0" },
  site = url { url = %q },
  db = postgres { url = %q, password = secret { env = "DB_PASSWORD" } },
  self = folder { path = "/proc/self" },
  %s
}
]]

local function hex(s) return (s:gsub(".", function (c) return ("%02x"):format(c:byte()) end)) end
local function octal(s) return (s:gsub(".", function (c) return ("\\%03o"):format(c:byte()) end)) end

-- What must not be in anything that a person or a program reads, as a sentence; nil when nothing of it is there.
local function harm(bytes)
  local bare = bytes:gsub("\27%[[%d;]*[AJmK]", "")
  if bare:find("[%z\1-\8\11\12\14-\31\127]") then return ("a control character: %q"):format(bare:match(".?.?.?.?.?.?[%z\1-\8\11\12\14-\31\127].?.?.?.?.?.?")) end
  if not utf8.len(bare) then return ("no UTF-8 at byte %d"):format(select(2, utf8.len(bare))) end
  if bare:find("\194[\128-\159]") then return "a C1 control character: " .. bare:match(".?.?.?.?.?.?.?.?\194[\128-\159].?.?.?.?") end
  if bare:find("\226\128[\142\143\168-\174]") or bare:find("\226\129[\166-\169]") then return "text that runs the other way" end
  if bytes:find("\27[2J", 1, true) then return "a cleared screen" end
end

local SAY <const> = [[
runbook "Listen" { why = "The far end says what it likes." }
local hermes, cache, site, db = target.host "hermes", target.redis "cache", target.url "site", target.postgres "db"
%s
local function heard() check(true, "it was heard") end
local function why(fn)
  local value, err = try(fn)
  note("refused: " .. err.message .. " " .. (err.hint or ""))
end
step "Hear a host" { act = function ()
  local r = hermes:read { "sh", "-c", "cat %s; cat %s >&2" }
  note("out " .. r:out())
  note("err " .. r:err())
  note(hermes:run({ "cat", %q }):out())
  why(function () hermes:read { "sh", "-c", "cat %s >&2; exit 3" } end)
end, verify = heard }
step "Hear a cache" { act = function ()
  note(cache:get "odd")
  why(function () cache:write("XGROUP", cache:get "odd") end)
end, verify = heard }
step "Hear a web server" { act = function ()
  local r = site:get "/odd"
  note("body " .. r:body())
  note("header " .. r:header "X-Odd")
  why(function () site:get "/odd?status=500" end)
end, verify = heard }
step "Hear a database" { act = function ()
  db:exec "DO $$ BEGIN RAISE NOTICE '%%', convert_from(decode('%s', 'hex'), 'UTF8'); END $$"
  note(db:value "SELECT convert_from(decode('%s', 'hex'), 'UTF8')")
  why(function () db:exec "DO $$ BEGIN RAISE EXCEPTION '%%', convert_from(decode('%s', 'hex'), 'UTF8') USING HINT = convert_from(decode('%s', 'hex'), 'UTF8'); END $$" end)
end, verify = heard }
%s
step "Fail by it" { act = function () hermes:run { "sh", "-c", "cat %s >&2; exit 4" } end, verify = heard }
]]

local BOXED <const> = [[
step "Hear a container" { act = function ()
  local r = box:read { "printf", %q }
  note(r:out())
  note(box:run({ "sh", "-c", "printf \"$1\" >&2", "sh", %q }):err())
  note(box:logs { tail = 5 }.out)
  why(function () box:read { "sh", "-c", "printf \"$1\" >&2; exit 3", "sh", %q } end)
end, verify = heard }
]]

describe("hostile output", function ()
  local hermes, home, cache, web, pg, engine, box, database, dir

  setup(function ()
    hermes, cache, web, pg, engine = servers.sshd { name = "hermes" }, servers.redis { name = "plain", open = true }, servers.http(), servers.postgres(), servers.docker()
    home, database = servers.ssh_home { hermes = hermes }, pg.database()
    cache.cli { "-x", "set", "odd", input = ODD }
    if engine then box = engine.busybox { name = "odd-" .. T.pid(), cmd = { "sh", "-c", "printf '" .. octal(ODD) .. "'; sleep 3600" } } end
  end)

  before_each(function ()
    dir = suite.memory()
    cache.cli { "-x", "set", "odd", input = ODD }
    os.execute(("chmod 711 %s %s"):format(suite.directory(), dir))
    T.mode(suite.write(dir .. "/odd", ODD), tonumber("644", 8))
  end)

  local function write(book, backend)
    local url = ("postgresql://owner@127.0.0.1:%d/%s"):format(pg.port, database)
    suite.write(dir .. "/inventory.lua", INVENTORY:format(home.config, backend or "auto", cache.port, web.url, url,
      box and ("box = container { name = %q, docker = %q },"):format(box.name, engine.url) or ""))
    suite.write(dir .. "/book.lua", book)
  end

  local function neap(words, options)
    options = options or {}
    options.env = { DB_PASSWORD = servers.passwords.owner }
    options.timeout = options.timeout or 60000
    table.move({ "--state", dir .. "/state" }, 1, 2, #words + 1, words)
    if words[1] == "run" or words[1] == "plan" then
      words[2] = dir .. "/book.lua"
      table.move({ "--env", "demo", "--inventory", dir .. "/inventory.lua" }, 1, 4, #words + 1, words)
    end
    return servers.neap(words, options)
  end

  local function say(backend)
    local odd = dir .. "/odd"
    write(SAY:format(box and 'local box = target.container "box"' or "", odd, odd, odd, odd, hex(TEXT), hex(TEXT), hex(TEXT), hex(TEXT),
      box and BOXED:format(octal(ODD), octal(ODD), octal(ODD)) or "", odd), backend)
  end

  local function is_harmless(what, r)
    assert.is_nil(harm(r.out), what)
    assert.is_nil(harm(r.err), what)
    return r
  end

  for _, backend in ipairs { "libssh2", "program" } do
    it("reaches no reader raw, by " .. backend, function ()
      say(backend)
      local r = is_harmless("a terminal", neap({ "run", "", "--no-input" }, { tty = true, columns = 100 }))
      assert.equal(1, r.code, r.out)
      local page = screen.page(r.out, 100)
      assert.matches("owned", page, 1, true)
      assert.matches("Hear a database", page, 1, true)
      local run = neap({ "history", "--json" }).out:match('"run":"(%x+)"')
      is_harmless("show on a terminal", neap({ "show", run }, { tty = true, columns = 100 }))
      is_harmless("show in a pipe", neap { "show", run, "--verbose" })
      local seen = is_harmless("show as JSON", neap { "show", run, "--json" }).out
      local notes = 0
      for line in seen:gmatch("[^\n]+") do
        local record = text.parse(line)
        if record.kind == "note" or record.kind == "notice" then notes = notes + 1 end
      end
      assert.is_true(notes >= 10, seen)
      local path = ("%s/state/runs/%s/evidence.db"):format(dir, run)
      for _, raw in ipairs { "\27]0;", "\27[2J", "\27]52;" } do assert.is_nil(suite.read(path):find(raw, 1, true), "the journal holds it raw") end
    end)
  end

  it("reaches neither a pipe, nor cron's page, nor JSON", function ()
    for _, words in ipairs { { "run", "", "--no-input" }, { "run", "", "--no-input", "--quiet" }, { "run", "", "--no-input", "--json" }, { "run", "", "--no-input", "--verbose", "--ascii" } } do
      os.execute("rm -rf " .. dir .. "/state")
      say("auto")
      local what = table.concat(words, " ")
      local r = is_harmless(what, neap(words))
      assert.equal(1, r.code, what .. r.out .. r.err)
      assert.matches("owned", r.out .. r.err, 1, true)
    end
  end)

  -- neap looks at itself at the end: the peak of its memory, in KiB.
  local MEMORY <const> = [[
    runbook "Much" { why = "The far end does not stop." }
    local hermes, cache, site, self, db = target.host "hermes", target.redis "cache", target.url "site", target.folder "self", target.postgres "db"
    %s
    step "Hear it" { act = function () %s end, verify = function () note("peak " .. self:read "status":match "VmHWM:%%s*(%%d+)") check(true, "it was heard") end }
  ]]

  local function peak(body, backend, needs_box)
    write(MEMORY:format(needs_box and 'local box = target.container "box"' or "", body), backend)
    local r = neap({ "run", "", "--no-input", "--json" }, { timeout = 240000 })
    assert.equal(0, r.code, r.out .. r.err)
    local kib = tonumber(r.out:match("peak (%d+)"))
    if os.getenv("NEAP_SHOW") then io.stderr:write(("%6d KiB  %s %s\n"):format(kib, backend or "", body:sub(1, 60))) end
    if not os.getenv("ASAN_OPTIONS") then assert.is_true(kib < MOST_KIB, kib .. " KiB: " .. body) end
  end

  local MUCH <const>, MORE <const> = 96 << 20, 1 << 30
  local LINE <const> = [[local r = %s:read({ "sh", "-c", "head -c %d /dev/zero | tr '\\0' x" }, { within = "120s" })
    check.same(#r:out(), 1048576, "the last mebibyte is kept")]]
  local ENDLESS <const> = [[local r, err = try(function () return %s:read({ "sh", "-c", "yes; yes >&2" }, { within = "2s" }) end)
    check.same(err.code, "timeout", "it is given up")]]

  for _, backend in ipairs { "libssh2", "program" } do
    it("is not kept whole: a line of 96 MiB from a host by " .. backend, function () peak(LINE:format("hermes", MUCH), backend) end)
    it("is not kept whole: a line of 1 GiB from a host by " .. backend .. " #bulk #long", function () peak(LINE:format("hermes", MORE), backend) end)
    it("is not kept whole: a stream without end from a host by " .. backend, function () peak(ENDLESS:format "hermes", backend) end)
  end

  local function in_box(name, body)
    it("is not kept whole: " .. name .. " from a container", function ()
      if not engine then return pending "no engine runs here" end
      peak(body, nil, true)
    end)
  end
  in_box("a line of 96 MiB", LINE:format("box", MUCH))
  in_box("a stream without end", ENDLESS:format "box")
  it("is not kept whole: a line of 1 GiB from a container #bulk #long", function ()
    if not engine then return pending "no engine runs here" end
    peak(LINE:format("box", MORE), nil, true)
  end)

  it("is not kept whole: a body of 1 GiB from a web server, a value of 256 MiB from Redis", function ()
    peak [[local r, err = try(function () return site:get "/big?bytes=1073741824" end) check.same(err ~= nil, true, "it is refused")]]
    cache.cli("setrange", "large", 268435455, "x")
    peak [[local r, err = try(function () return cache:get "large" end) check.same(err ~= nil, true, "it is refused")]]
    cache.cli("del", "large")
  end)

  it("is not kept whole: notices of a mebibyte, and without end", function ()
    peak [[local r, err = try(function () return db:exec "DO $$ BEGIN FOR i IN 1..300 LOOP RAISE NOTICE '%', repeat('x', 1000000); END LOOP; END $$" end)
      check.same(err, nil, "it is heard")]]
  end)
end)
