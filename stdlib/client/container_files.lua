--- Files of a container, through the Engine's archive: nothing is started in it to look at them, and it need not be running.
--
-- A file that is put goes to its name with ".part" behind it, is proved by its hash, and is then renamed. The last two run `sha256sum` and `mv` in
-- the container; where its image has neither, `direct = true` writes to the name itself and proves the size. What comes out is proved
-- the same way where it can be. A directory is moved as one stream: output_to({ "tar", "-C", path, "-cf", "-", "." }, …).

local engines = require "client.container_engine"
local file = require "native.file"
local raise = require "core.raise"
local reads = require "client.container_reads"
local run = require "client.container_command"
local tar = require "client.tar"
local writes = require "client.container_writes"

local methods = {}

local READ_MOST <const> = 16 * 1024 * 1024

local function check_path(path)
  if type(path) ~= "string" or path:sub(1, 1) ~= "/" then raise("usage", "a path in a container is absolute: it begins with \"/\"") end
  return path
end

-- Its archive and its entry; nil when there is no such thing.
local function open(o, path)
  local id, engine = engines.id(o)
  local stream, err = engine:archive_get { container = id, path = check_path(path) }
  if not stream then
    if err.status == 404 then return nil end
    error(err, 0)
  end
  return stream, tar.entry(stream)
end

local function open_file(o, path)
  local stream, entry = open(o, path)
  if not stream then raise("remote", ("there is no \"%s\" in %s"):format(path, o.role), nil, { status = 404 }) end
  if entry and entry.kind == "file" then return stream, entry end
  stream:close()
  raise("remote", ("\"%s\" in %s is a %s, not a file"):format(path, o.role, entry and entry.kind or "nothing"))
end

--- What there is at a path: { name =, kind = "file"|"directory"|"link"|…, size =, mode =, mtime_ms =, link = }; nil when there is nothing.
---@param path string
---@return table|nil
---@effect read
function methods.stat(o, path)
  local stream, entry = open(o, path)
  if not stream then return nil end
  stream:close()
  return entry
end

--- Is there something at that path?
---@param path string
---@return boolean
---@effect read
function methods.has(o, path) return methods.stat(o, path) ~= nil end

--- The bytes of a file.
---@param path string
---@param given? { limit: integer } most bytes; 16 MiB when omitted
---@return string
---@effect read
function methods.read_file(o, path, given)
  local stream <close>, entry = open_file(o, path)
  local most, parts = given and given.limit or READ_MOST, {}
  if entry.size > most then raise("remote", ("\"%s\" in %s has %d bytes, more than %d"):format(path, o.role, entry.size, most), "Copy it out, or ask for more with limit.") end
  tar.each_piece(stream, entry.size, function (piece) parts[#parts + 1] = piece end)
  return table.concat(parts)
end

local NOT_THERE <const> = { 126, 127 }

--- The SHA-256 of a file, in hex, as `sha256sum` in the container has it; nil when its image has none, or it does not run.
---@param path string
---@return string|nil
---@effect read
function methods.hash(o, path)
  if not engines.inspect(o).State.Running then return nil end
  local said = reads.read(o, { "sha256sum", check_path(path) }, { allow = NOT_THERE })
  return said.values.status == 0 and said.values.out:match("^\\?(%x+)") or nil
end

local function follow(o, text, total)
  local at = { bytes = 0 }
  at.following = o.context.progress and o.context.progress(function () return at.bytes, total, text end)
  return at
end

--- Copy a file out, to a path of this machine (it has its name only when it is whole and proved) or into a stream.
---@param path string
---@param to userdata|string
---@return { bytes: integer, proved: "hash"|"size" }
---@effect write
function methods.copy_out(o, path, to)
  local out, own = run.stream(to, "w")
  if run.is_preview() then return own end
  local _ <close> = own
  local stream <close>, entry = open_file(o, path)
  local at = follow(o, path, entry.size)
  local _ <close> = at.following
  tar.each_piece(stream, entry.size, function (piece)
    raise.check(out:write(piece))
    at.bytes = at.bytes + #piece
  end)
  if not own then return { bytes = entry.size, proved = "size" } end
  local there = methods.hash(o, path)
  raise.check(own:close())
  local here = there and raise.check(file.hash(to))
  if here ~= there then
    raise("remote", ("\"%s\" in %s changed while it was copied: %s here, %s there"):format(path, o.role, here:sub(1, 12), there:sub(1, 12)),
      ("What is in \"%s\" is not the file; copy it again."):format(to))
  end
  return { bytes = entry.size, proved = there and "hash" or "size" }
end

local function parts_of(path)
  local directory, name = check_path(path):match("^(.*)/([^/]+)$")
  if not name then raise("usage", ("\"%s\" names no file"):format(path)) end
  return directory == "" and "/" or directory, name
end

-- A source of known size: a path of this machine, or a stream whose size is given.
local function source_of(from, given)
  if type(from) ~= "string" then
    if math.type(given.size) ~= "integer" then raise("usage", "copy_in of a stream needs its size: an archive says it first") end
    return from, nil, { size = given.size }
  end
  local there = raise.check(file.stat(from))
  if not there then raise("remote", ("there is no \"%s\""):format(from)) end
  local stream = raise.check(file.open(from, "r"))
  return stream, stream, there
end

local function send(put, stream, name, there, given)
  local mode = given.mode or there.mode and there.mode & 511
  local before, after = tar.wrap(name, there.size, { mode = mode, uid = given.uid, gid = given.gid, mtime = there.mtime_ms and there.mtime_ms // 1000 })
  raise.check(put:write(before))
  local moved = raise.check(stream:pipe(put))
  if moved.bytes ~= there.size then
    raise("remote", ("%d bytes came where %d were announced"):format(moved.bytes, there.size), "The file changed while it was copied; copy it again.")
  end
  raise.check(put:write(after))
  raise.check(put:close())
  return moved
end

-- Where it was put it is what was sent; else it is said, and it stays for who looks.
local function prove(o, path, moved)
  local there = methods.hash(o, path)
  if there then
    if there ~= moved.sha256 then raise("remote", ("\"%s\" in %s is not what was sent: %s there, %s here"):format(path, o.role, there:sub(1, 12), moved.sha256:sub(1, 12))) end
    return "hash"
  end
  local entry = methods.stat(o, path)
  if not entry or entry.size ~= moved.bytes then raise("remote", ("\"%s\" in %s has %s bytes, not %d"):format(path, o.role, entry and entry.size or "no", moved.bytes)) end
  return "size"
end

--- Copy a file of this machine, or a stream of known size, into the container: whole and proved under its name, or not at all.
---@param from userdata|string
---@param path string
---@param given? { size: integer?, mode: integer?, uid: integer?, gid: integer?, direct: boolean? } size: of a stream; direct: under its own name from the beginning
---@return { bytes: integer, sha256: string, proved: "hash"|"size" }
---@effect write
function methods.copy_in(o, from, path, given)
  given = given or {}
  local directory, name = parts_of(path)
  local stream, own, there = source_of(from, given)
  local _ <close> = own
  local id, engine = engines.id(o)
  local first = given.direct and name or name .. ".part"
  local put <close> = raise.check(engine:archive_put { container = id, path = directory, file = first, size = there.size })
  local rename = { "mv", "-f", directory:gsub("/$", "") .. "/" .. first, path }
  if run.is_preview() then
    return given.direct and put or writes.run(o, rename)
  end
  local before = stream:moved()
  local following <close> = o.context.progress and o.context.progress(function () return stream:moved() - before, there.size, path end)
  local moved = send(put, stream, first, there, given)
  moved.proved = prove(o, rename[3], moved)
  if not given.direct then writes.run(o, rename) end
  return moved
end

return methods
