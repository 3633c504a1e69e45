-- A hostile SSH server (tests/support/hostile_ssh.c), mode by mode, against both back ends: an answer in bounded time and memory, an
-- error that is a sentence without control characters, and never a success that was not one.

local servers = require "tests.support.servers"
local ssh = require "native.ssh"
local task = require "native.task"

-- The last is how long a slow machine may need to come round to what is over; who hangs never does.
local CONNECT_MS <const>, WITHIN_MS <const>, GRACE_MS <const> = 2500, 1500, 60000
local PATIENT_MS <const> = 30000                                                 -- for who does nothing wrong
local MOST_BYTES <const>, SIDE_BY_SIDE <const> = 64 << 20, 20
local OTHER_KEY <const> = "[%s]:%d ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q\n"

local function peak()
  local file = assert(io.open("/proc/self/status"))
  local text = file:read("a")
  file:close()
  return tonumber(text:match("VmHWM:%s*(%d+)")) * 1024
end

local function forget_peak()
  collectgarbage()
  local file = assert(io.open("/proc/self/clear_refs", "w"))
  file:write("5")
  file:close()
end

-- Sanitizers keep freed memory, so their peak says nothing.
local function counts_memory() return not os.getenv("ASAN_OPTIONS") end

local function is_sentence(err)
  return type(err) == "table" and type(err.message) == "string" and #err.message > 8 and not err.message:find("[%z\1-\8\11-\31\127]")
end

-- Reach the server and ask it for a word; what the caller is told, and how long that took. In a task.
local function try(far, backend, more)
  more = more or {}
  local home = servers.ssh_home { far = far, known = more.known }
  local began = task.now_ms()
  local session, err = ssh.open { name = "far", role = "far", config = home.config, backend = backend, connect_ms = more.within_ms or CONNECT_MS }
  if not session then return nil, err, task.now_ms() - began end
  local value
  do
    local h <close> = session
    value, err = h:read { argv = { "sh", "-c", "echo word" }, within_ms = more.within_ms or WITHIN_MS, stdin = more.stdin }
  end
  return value, err, task.now_ms() - began
end

local PLAIN <const> = { status = 0, out = "word\n", err = "", truncated = false }

-- "fails": always an error. "word": the word as it was said, or an error. "much": the word is somewhere behind much, or an error.
local MODES <const> = {
  plain = "plain", silent = "fails", hangs_in_kex = "fails", hangs_in_auth = "fails", hangs_in_channel = "fails", hangs_in_exec = "fails",
  endless_banner = "fails", endless_line = "fails", other_host_key = "fails", refuses_auth = "fails", refuses_channel = "fails",
  refuses_exec = "fails", no_exit_status = "word", exit_signal = "word", exit_status_then_cut = "word", close_without_eof = "word",
  no_close = "word", ends_at_once = "word", no_window = "word", cut_in_output = "fails", huge_stderr = "much", long_line = "much", endless_output = "fails",
  escapes = "much", late_rekey = "plain", rekey_never_ends = "fails", garbage = "fails", oversize = "fails",
  many_banners = "fails", flood_requests = "fails", flood_adjusts = "fails", flood_ignored = "fails", flood_channels = "fails",
  other_channel = "fails", ignores_window = "fails", bad_length = "fails", truncated = "fails", disconnects = "fails",
}

local names = {}
for mode in pairs(MODES) do names[#names + 1] = mode end
table.sort(names)

-- What is wrong with an answer, as a sentence; nil when nothing is.
local function complaint(want, value, err, took)
  local function is_plain() return value.status == 0 and value.out == PLAIN.out and value.err == "" end
  if want ~= "plain" and took > CONNECT_MS + WITHIN_MS + GRACE_MS then return ("it took %d ms"):format(took) end
  if not value then
    if want == "plain" then return "it fails: " .. err.message end
    return not is_sentence(err) and "its error is no sentence: " .. tostring(err and err.message) or nil
  end
  if want == "fails" then return "it succeeds" end
  if want == "much" then return not value.out:find("word\n$") and "the word is not there" or nil end
  return not is_plain() and ("it says %q"):format(value.out:sub(1, 80)) or nil
end

for _, backend in ipairs { "libssh2", "program" } do
  describe("a hostile SSH server, by " .. backend, function ()
    it("gets nowhere by any of its modes: an error in time, in little memory, and no success that was none", function ()
      local wrong = {}
      forget_peak()
      local before = peak()
      T.run(function ()
        local tasks, running = {}, 0
        for i, mode in ipairs(names) do
          local far = servers.hostile_ssh { mode = mode, size = mode == "long_line" and 256 << 20 or mode == "huge_stderr" and 16 << 20 or nil }
          tasks[i] = task.spawn(function ()
            while running >= SIDE_BY_SIDE do task.sleep(20) end
            running = running + 1
            local value, err, took = try(far, backend, { within_ms = MODES[mode] == "plain" and PATIENT_MS or nil })
            running = running - 1
            far.close()
            if os.getenv("NEAP_SHOW") then io.stderr:write(("%-8s %-22s %6d ms %s\n"):format(backend, mode, took, err and err.code .. ": " .. err.message or "")) end
            local what = complaint(MODES[mode], value, err, took)
            if what then wrong[#wrong + 1] = mode .. ": " .. what end
          end)
        end
        for _, one in ipairs(tasks) do assert(one:join()) end
      end)
      assert.same({}, wrong)
      if counts_memory() then assert.is_true(peak() - before < MOST_BYTES, ("it needs %d KiB more"):format((peak() - before) >> 10)) end
    end)

    it("is not spoken to with a key that is not its own", function ()
      local far <close> = servers.hostile_ssh { mode = "plain" }
      T.run(function ()
        local value, err = try(far, backend, { known = OTHER_KEY:format(far.address, far.port) })
        assert.is_nil(value)
        assert.is_true(err.code == "refused" or err.code == "auth", err.code .. ": " .. err.message)
        assert.is_true(is_sentence(err))
      end)
    end)

    -- The end of the connection must not overtake a reader that has not asked for the rest yet.
    it("that ends the connection behind the last byte takes nothing back", function ()
      for _, bytes in ipairs { 6000, 60000, 150000 } do
        local far <close> = servers.hostile_ssh { mode = "ends_at_once" }
        T.run(function ()
          local home = servers.ssh_home { far = far }
          local session <close> = assert(ssh.open { name = "far", role = "far", config = home.config, backend = backend, connect_ms = PATIENT_MS })
          local command <close> = assert(session:start { argv = { "head", "-c", tostring(bytes), "/dev/zero" }, read = true })
          local came = 0
          repeat
            local piece = command:stdout():read(4096)
            came = came + #(piece or "")
          until not piece
          assert.equal(bytes, came)
          assert.same({ status = 0 }, command:wait())
        end)
      end
    end)

    it("that takes no input holds up nobody", function ()
      local far <close> = servers.hostile_ssh { mode = "no_window" }
      T.run(function ()
        local value, err, took = try(far, backend, { stdin = ("x"):rep(1 << 20) })
        assert.is_nil(value)
        assert.is_true(is_sentence(err))
        assert.is_true(took < CONNECT_MS + WITHIN_MS + GRACE_MS)
      end)
    end)
  end)
end

-- All of one kind at once: a stalled one delays nobody.
describe("hostile SSH servers side by side", function ()
  it("are told apart, and the good one is not slowed down", function ()
    T.run(function ()
      local far <close> = servers.hostile_ssh { mode = "plain" }
      local bad <close> = servers.hostile_ssh { mode = "flood_ignored" }
      local home = servers.ssh_home { far = far, bad = bad }
      local flood = task.spawn(function ()
        local h <close> = assert(ssh.open { name = "bad", role = "bad", config = home.config, backend = "libssh2", connect_ms = CONNECT_MS })
        return h:read { argv = { "true" }, within_ms = WITHIN_MS }
      end)
      local h <close> = assert(ssh.open { name = "far", role = "far", config = home.config, backend = "libssh2", connect_ms = PATIENT_MS })
      for _ = 1, 5 do assert.same({ PLAIN }, { h:read { argv = { "sh", "-c", "echo word" }, within_ms = PATIENT_MS } }) end
      flood:join()
    end)
  end)
end)
