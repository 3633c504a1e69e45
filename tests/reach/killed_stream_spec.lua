-- A program that feeds a pipe is killed at a moment nobody chose: at once, while it waits for us, while half of a piece is under way. Whoever moves
-- its bytes is told so soon, or is told by its stall limit where a child of the program keeps the pipe open and says nothing; never
-- later. The moments are drawn from a seed that a failure names. NEAP_KILLS=600 is the number of kills, NEAP_SEED=7 repeats a row.

local file = require "native.file"
local process = require "native.process"
local text = require "native.text"
local suite = require "tests.support.suite"
local task = require "native.task"

local KILLS <const> = tonumber(os.getenv("NEAP_KILLS")) or 40
local STALL_MS <const>, MARGIN_MS <const> = 300, 60000             -- what nobody tells of comes to an end after ten minutes

-- What feeds, told its pid by its first line on stderr. `keeps`: what it leaves behind holds its stdout.
local FEEDERS <const> = {
  { "a program", "echo $$ >&2; exec cat /dev/zero" },
  { "a program that pauses", "echo $$ >&2; while :; do head -c 100000 /dev/urandom; sleep 0.02; done" },
  { "a program whose child keeps the pipe", "sleep 600 & echo $$ $! >&2; exec cat /dev/zero", keeps = true },
  { "a program that says nothing", "echo $$ >&2; exec sleep 600" },
}

local WAYS <const> = { {}, { compress = "zstd" }, { compress = "gzip" } }

describe("a stream whose program is killed", function ()
  local seed = tonumber(os.getenv("NEAP_SEED")) or T.now_ms() % 1000000

  -- A number below n, the same for the same seed and turn.
  local function draw(turn, what, n) return tonumber(text.sha256(("%d %d %s"):format(seed, turn, what)):sub(1, 8), 16) % n end

  local function kill_one(turn, feeder, way, path)
    local child <close> = assert(process.start { argv = { "sh", "-c", feeder[2] }, read = true })
    local pid, other = assert(child:stderr():read(100)):match("(%d+) ?(%d*)")
    local sink <close> = assert(file.open(path, "w"))
    local killed_at
    local killer = task.spawn(function ()
      task.sleep(draw(turn, "when", 60))
      os.execute("kill -9 " .. pid)
      killed_at = task.now_ms()
    end)
    local moved, err = child:stdout():pipe(sink, { stall_ms = STALL_MS, compress = way.compress })
    local told_at = task.now_ms()
    killer:join()
    if other ~= "" then os.execute("kill -9 " .. other) end
    local late = told_at - killed_at
    local what = ("seed %d, turn %d, %s, %s: "):format(seed, turn, feeder[1], way.compress or "as it is")
    assert(late < STALL_MS + MARGIN_MS, what .. "told " .. late .. " ms after the kill")
    if feeder.keeps then assert(not moved and err.code == "timeout", what .. "whoever keeps the pipe open is a stall")
    else assert(moved or err.code == "timeout", what .. tostring(err and err.message)) end
    local ended = child:wait()
    assert(ended and ended.signal == 9, what .. "it ended by " .. tostring(ended and (ended.signal or ended.status)))
  end

  local function kill_many(kills)
    local path = suite.temp() .. "/out"
    for turn = 1, kills do
      local feeder, way = FEEDERS[draw(turn, "feeder", #FEEDERS) + 1], WAYS[draw(turn, "way", #WAYS) + 1]
      T.run(function () kill_one(turn, feeder, way, path) end)
    end
  end

  it("is told of in time, wherever the kill comes", function () kill_many(KILLS) end)
  it("is told of in time, wherever 600 kills come #kill #long", function () kill_many(600) end)
end)
