-- native.term on a pseudo-terminal: a second interpreter sits on it.

local child = require "tests.support.child"
local suite = require "tests.support.suite"
local system = require "native.system"

local INTERPRETER = assert(system.realpath("/proc/self/exe"))

-- After the code, "settings" shows what the terminal looks like then.
local PRELUDE = [[
local term, task, secret, system = require "native.term", require "native.task", require "native.secret", require "native.system"
local function echo() local p = io.popen("stty -a <&0") local s = p:read("a") p:close() return s:find("%-echo ") and "hidden" or "shown" end
]]

local function start(code, options)
  options = options or {}
  options.argv = { INTERPRETER, "-e", PRELUDE .. code }
  if options.tty == nil then options.tty = true end
  return child.start(options)
end

-- The same under a shell, which says what the terminal looks like afterwards.
local function after(code)
  local script = [["$0" -e "$1"; echo "ended $?"; if stty -a | grep -q -- "-echo "; then echo left hidden; else echo left shown; fi]]
  return child.start { tty = true, argv = { "sh", "-c", script, INTERPRETER, PRELUDE .. code } }
end

describe("term.read_line", function()
  it("reads what is typed, edited by the kernel", function()
    local c = start [[T.run(function() print("got " .. term.read_line("name? ")) end) print("settings " .. echo())]]
    c:expect("name? ")
    c:write("mooo\127n\n")
    c:expect("got moon")
    c:expect("settings shown")
    assert.equal(0, c:finish().code)
  end)

  it("hides what is typed, and gives it back as a secret", function()
    local c = start [[
      T.run(function()
        local s = term.read_line("password: ", { secret = "db.password" })
        print("got " .. tostring(s), (require "native.text".redact "typed-canary-1"))
      end)
      print("settings " .. echo())]]
    c:expect("password: ")
    c:write("typed-canary-1\n")
    local seen = c:expect("settings shown")
    assert.is_nil(seen:find("typed", 1, true))
    assert.matches("got ‹secret db.password›%s+‹secret db.password›", seen)
    c:finish()
  end)

  it("throws away what was typed before the question", function()
    local c = start [[
      print "ready" io.stdout:flush() io.read("l")
      os.execute("sleep 0.2")
      T.run(function() print("got <" .. term.read_line("sure? ") .. ">") end)]]
    c:expect("ready")
    c:write("\nyes\n")
    c:expect("sure? ")
    c:write("no\n")
    c:expect("got <no>")
    c:finish()
  end)

  it("is ended by a deadline and restores the terminal", function()
    local c = start [[
      T.run(function()
        task.deadline(100)
        local ok, err = pcall(term.read_line, "password: ", { mask = true })
        print(ok, err.code, "settings " .. echo())
      end)]]
    c:expect("password: ")
    assert.matches("false%s+timeout%s+settings shown", c:expect("shown"))
    c:finish()
  end)

  it("restores the terminal when the process exits in the middle", function()
    local c = after([[
      local function late() task.sleep(50) print("now " .. echo()) io.stdout:flush() os.exit(7, false) end
      T.run(function() task.spawn(late) term.read_line("password: ", { mask = true }) end)]])
    c:expect("now hidden")
    c:expect("ended 7")
    c:expect("left shown")
    c:finish()
  end)

  it("restores the terminal before a third signal ends the process", function()
    local c = after [[
      T.run(function()
        system.signal(function() end)
        task.spawn(function() task.sleep(50) for _ = 1, 3 do os.execute("kill -TERM " .. system.pid()) end end)
        term.read_line("password: ", { mask = true })
      end)]]
    c:expect("ended 143")
    c:expect("left shown")
    c:finish()
  end)

  it("lends the terminal to the shell while it is stopped, and asks on after that", function()
    local c = child.start { tty = true, argv = { "bash", "-mc", [["$0" -e "$1"; echo "stopped $?"
      stty -a | grep -q -- "-echo " && echo left hidden || echo left shown; fg >/dev/null; echo "ended $?"]], INTERPRETER, PRELUDE .. [[
      T.run(function() print("got " .. tostring(term.read_line("password: ", { secret = "a.b" }))) end)
      print("settings " .. echo())]] } }
    c:expect("password: ")
    c:write("\26")
    c:expect("stopped 148")
    c:expect("left shown")
    local until_ms = T.now_ms() + 60000
    while c.handle:echoes() and T.now_ms() < until_ms do T.pause(5) end        -- until the question has the terminal back
    c:write("typed-canary-2\n")
    assert.is_nil(c:expect("settings shown"):find("typed", 1, true))
    c:expect("ended 0")
    c:finish()
  end)

  it("says so at the end of the input", function()
    local c = start [[T.run(function() local line, err = term.read_line("name? ") print(line, err.code) end)]]
    c:expect("name? ")
    c:write("\4")
    c:expect("nil\tclosed")
    c:finish()
  end)

  it("asks one question at a time", function()
    local c = start [[
      T.run(function()
        local first = task.spawn(function() return term.read_line("first? ") end)
        task.sleep(10)
        local line, err = term.read_line("second? ")
        print(line, err.code)
        print(first:join())
      end)]]
    c:expect("nil\tbusy")
    c:write("x\n")
    c:expect("true\tx")
    c:finish()
  end)

  it("does not wait where there is no terminal", function()
    local c = start([[T.run(function() local line, err = term.read_line("name? ") print(line, err.code, err.hint) end)]], { tty = false })
    assert.matches("nil%s+closed%s+Give the answer", c:finish().out)
  end)
end)

describe("term.write", function()
  it("keeps the order, whatever it has to wait for", function()
    local c = start([[
      for i = 1, 20000 do assert(term.write(1, ("line %d of the output\n"):format(i))) end
      T.run(function() term.flush(1) end)]], { tty = false })
    local expected = {}
    for i = 1, 20000 do expected[i] = ("line %d of the output\n"):format(i) end
    assert.is_true(c:finish().out == table.concat(expected))
  end)

  it("does not hold the loop when nobody reads", function()
    local c = start([[
      for _ = 1, 300 do term.write(1, ("x"):rep(1000)) end
      T.run(function() task.sleep(50) end)
      io.stderr:write("still turning\n")
      local ok, err = true, nil
      for _ = 1, 20 do if ok then ok, err = term.write(1, ("x"):rep(1000000)) end end
      io.stderr:write(tostring(ok), " ", err.code, "\n")
      T.run(function() task.deadline(50) io.stderr:write(tostring(select(2, pcall(term.flush, 1)).code), "\n") end)
      system.exit_now(0)]], { tty = false })
    assert.is_nil(c.handle:wait(1))
    local _, why, _ = c.handle:wait(60000)
    assert.is_nil(why)
    local r = c:finish()
    assert.equal("still turning\nnil busy\ntimeout\n", r.err)
  end)

  it("tells once that the reader is gone, and never raises", function()
    local pipe = suite.temp() .. "/pipe"
    local unread = [[trap '' PIPE; mkfifo "$2"; exec 5<>"$2" 4>"$2" 5<&-; "$0" -e "$1" 2>&1 >&4]]      -- 5, which alone could read, is closed again
    for _, command in ipairs { [["$0" -e "$1" 2>&1 >/dev/full]], unread } do
      local r = child.run { argv = { "bash", "-c", command, INTERPRETER, PRELUDE .. [[
        for _ = 1, 2 do
          local ok, err = term.write(1, "x")
          io.stderr:write(tostring(ok), " ", err and err.code or "", "\n")
        end]], pipe } }
      assert.equal("nil closed\nnil closed\n", r.out)
    end
  end)

  it("survives a terminal that hangs up", function()
    local out = suite.temp() .. "/result"
    local c = start(([[
      T.setenv("X", "1")
      system.signal(function() end)
      local function state() local ok, err = term.write(1, "x") return ok and "fine" or err.code end
      print("ready " .. state()) io.stdout:flush()
      local last
      for _ = 1, 6000 do T.run(function() task.sleep(10) end) last = state() if last ~= "fine" then break end end
      system.signal(nil)
      local f = io.open("%s", "w") f:write(last) f:close()]]):format(out))
    c:expect("ready")
    c:close()
    c.handle:wait(60000)
    assert.equal("closed", suite.read(out))
  end)
end)

describe("term.size and term.on_resize", function()
  it("follow the window", function()
    local c = start [[
      T.run(function()
        local seen
        term.on_resize(function() seen = table.concat({ term.size() }, "x") end)
        print("before " .. table.concat({ term.size() }, "x"))
        while not seen do task.sleep(5) end
        print("after " .. seen)
        term.on_resize(nil)
      end)]]
    c:expect("before 100x40")
    c:resize(50, 132)
    c:expect("after 132x50")
    assert.equal(0, c:finish().code)
  end)

  it("take 80 by 24 without a terminal", function()
    local c = start([[print(term.size()) print(term.is_tty(1))]], { tty = false })
    assert.equal("80\t24\nfalse\n", c:finish().out)
  end)
end)
