-- `neap show RUNBOOK --markdown`: every shipped runbook as a page with nothing left out; the page of some is pinned; nothing from outside is markup.

local asked = require "tests.support.setups.asked"
local load = require "engine.load"
local servers = require "tests.support.servers"
local setups = require "tests.support.setups"
local source = require "core.source"
local suite = require "tests.support.suite"
local transcript = require "tests.support.transcript"

local function page(name, ...)
  local r = servers.neap({ "show", name, "--markdown", ... }, { cwd = os.getenv("PWD") })
  assert.equal(0, r.code, r.out .. r.err)
  return r.out
end

local function plain(text) return (text:gsub("SHA%-256 `%x+`", "SHA-256 `HASH`")) end

-- What is under a heading of that level, by the heading.
local function parts(text, level)
  local list, current = {}, nil
  for line in text:gmatch "[^\n]*" do
    local title = line:match("^" .. ("#"):rep(level) .. " (.+)$")
    if title then
      current = { title = title, body = "" }
      list[#list + 1] = current
    elseif current then
      if line:match "^##? " then current = nil else current.body = current.body .. line .. "\n" end
    end
  end
  return list
end

describe("a runbook as a page in Markdown", function ()
  for _, name in ipairs(asked.shipped()) do
    it("has no empty part: " .. name, function ()
      local text = page(name)
      local model = T.run(function () return load.load(("runbooks/%s.lua"):format(name), { folders = { "runbooks" } }) end)
      local steps = parts(text, 3)
      assert.equal(#model.order, #steps)
      for i, step in ipairs(model.order) do
        local body = steps[i].body
        assert.matches("^%d+ ", steps[i].title:gsub("%.", " ", 1))
        for clause, words in pairs { needs = "Needs", done = "Skip it when", act = "Do", verify = step.kind == "check" and "Check" or "Prove", undo = "To take it back", after = "Afterwards",
          each = "For each of", destroys = "Destroys", manual = "By hand", run = "Runs another runbook", within = "at the most" } do
          if step.clauses[clause] then assert.matches(words, body, 1, true, ("%s of step %d"):format(clause, i)) end
        end
        if step.clauses.act and not step.clauses.undo then assert.matches("there is no undo: %w", body) end
        local fences = select(2, body:gsub("\n  ```lua\n  [^`%s]", ""))
        local functions = 0
        for _, clause in ipairs { "needs", "done", "act", "verify", "undo", "after", "each" } do functions = functions + (step.clauses[clause] and 1 or 0) end
        assert.equal(functions, fences, ("code of the clauses of step %d"):format(i))
      end
      for _, heading in ipairs { "## Targets", "## Parameters", "## Steps", "Why: %w" } do assert.matches("\n" .. heading, text) end
      assert.is_nil(text:find "\n##+ [^\n]+\n+##? ")
      assert.is_nil(text:find("nil", 1, true) and text:find "table: 0x")
    end)
  end

  for _, name in ipairs { "postgres/vacuum", "incident/revoke-sessions", "redis/enable-aof" } do
    it("is pinned: " .. name, function () transcript.compare("page_" .. name:gsub("%W", "_"), plain(page(name))) end)
  end

  it("holds, with an environment, what the preview says there, word for word", function ()
    local at, why = setups.open "direct"
    if not at then return pending(why) end
    local r = at.neap { "show", "incident/revoke-sessions", "--markdown", "--env", "direct", "--set", "user=u1", "--inventory", at.inventory }
    assert.equal(0, r.code, r.all)
    assert.matches("### 2. Take the sessions of u1 away", r.out, 1, true)
    assert.matches("pg:" .. at.pg.sql "select system_identifier from pg_control_system()", r.out, 1, true)
    local plan = at.plan { "incident/revoke-sessions", "--user", "u1" }
    local shown = 0
    for _, step in ipairs(plan.steps) do
      for _, line in ipairs(step.lines) do
        if line.label == "predicted" then
          assert.matches("  - predicted: `" .. line.text .. "` → `db`", r.out, 1, true)
          shown = shown + 1
        end
      end
    end
    assert.is_true(shown > 0)
    assert.matches("  - enforced: there are no more of them than one user has", r.out, 1, true)
    assert.equal("30", at.pg.sql('select count(*) from "Session"', at.database))
    assert.is_nil(T.entries(at.state))
  end)

  it("lets nothing from outside be markup, a control sequence or the end of its fence", function ()
    local dir = suite.temp()
    suite.write(dir .. "/odd.lua", [[
-- See <script>x</script> and [a link](javascript:x).
runbook "# *Bold* `x` | \27[31mred" { why = "1. <img src=x onerror=y> & more" }
local p = params { ["x"] = { "a | b <b>c</b>", optional = true } }
step "- ![i](http://x) {x}" { verify = function ()
  -- ````
  check(p.x, "<i>never</i> **so**")
end }
]])
    local text = page(dir .. "/odd.lua")
    for _, words in ipairs { "\27", "\n<", " <script", "<img", "<b>" } do assert.is_nil(text:gsub("`````.-`````", ""):find(words, 1, true), words) end
    assert.is_nil(text:gsub("`````.-`````", ""):find "[^\\]%]%(")
    assert.matches([[
# \# \*Bold\* \`x\` \| \]], text, 1, true)
    assert.matches("`````lua\n", text, 1, true)
    assert.matches([[| a \| b &lt;b\>c&lt;/b\> |]], text, 1, true)
  end)

  it("is refused for what is no runbook, with what is near", function ()
    local r = servers.neap({ "show", "postgres/vacum", "--markdown" }, { cwd = os.getenv("PWD") })
    assert.equal(64, r.code)
    assert.matches("Did you mean postgres/vacuum?", r.err, 1, true)
  end)
end)

describe("core.source", function ()
  it("tells a comment from a string that looks like one, and code from both", function ()
    local steps = source.steps [==[
-- Above
-- both lines.
step "a -- b" {
  each = { "x", "y" }, -- beside
  act = function (item)
    local s = "} end --"; local t = [[ ]=] step "no" { } ]]
    if s then f(t) end
  end,
  verify = function () check(true, "it is \"so\"") end,
}
local made = function () return 1 end
local function both (x) return { act = function () g(x) end } end
step "c" (both(1))
]==]
    assert.equal(2, #steps)
    assert.equal("Above both lines.", steps[1].comment)
    assert.equal("beside", steps[1].clauses.each.note)
    assert.equal('local s = "} end --"; local t = [[ ]=] step "no" { } ]]\nif s then f(t) end', steps[1].clauses.act.code)
    assert.equal("item", steps[1].clauses.act.item)
    assert.same({ 'it is "so"' }, steps[1].clauses.verify.truths)
    assert.equal("g(x)", steps[2].clauses.act.code)
  end)

  it("reads any text to its end", function ()
    for _, text in ipairs { "", "-", "--[[", "[==[", "\"", "step", "step \"x\"", "step \"x\" {", "step (", "local function", "local x <const> =", "\\", "\255\0" } do
      assert.is_table(source.steps(text))
      assert.is_table(source.helpers(text))
      source.head(text)
    end
  end)
end)
