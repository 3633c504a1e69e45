-- A bound folder: names inside it, patterns of a shell, one way to fail.
local folders = require "client.folder"
local suite = require "tests.support.suite"

local dir, folder

local function put(name, content)
  local handle = assert(io.open(dir .. "/" .. name, "wb"))
  handle:write(content)
  handle:close()
end

local function fails(code, fn)
  local ok, err = pcall(T.run, fn)
  assert.is_false(ok)
  assert.equal(code, err.code)
  return err
end

describe("a folder", function()
  before_each(function()
    dir = suite.temp()
    os.execute("mkdir " .. dir .. "/sub")
    put("b.sql", "two")
    put("a.sql", "one")
    put("a+b.txt", "odd")
    put("sub/c.sql", "three")
    folder = folders.bind("migrations", { path = dir })
  end)

  it("lists names in order, and by a shell's patterns", function()
    T.run(function()
      assert.same({ "a+b.txt", "a.sql", "b.sql", "sub" }, folder:list())
      assert.same({ "a.sql", "b.sql" }, folder:list("*.sql"))
      assert.same({ "a.sql" }, folder:list("?.sql") and folder:list("a.???"))
      assert.same({ "a+b.txt" }, folder:list("a+*"))
      assert.same({ "sub/c.sql" }, folder:list("sub/*"))
    end)
  end)

  it("hashes all files that fit a pattern, in one question", function()
    local function names(pattern)
      local list = {}
      for i, found in ipairs(folder:hashes(pattern)) do
        assert.equal(folder:hash(found.name), found.sha256)
        list[i] = found.name
      end
      return list
    end
    put(".hidden.sql", "four")
    put("sub/a.sql", "")
    os.execute(("mkdir %s/a-b %s/x.sql && ln -s ../b.sql %s/sub/link.sql && ln -s nowhere %s/sub/gone.sql"):format(dir, dir, dir, dir))
    put("a-b/c.sql", "five")
    T.run(function()
      assert.same({ ".hidden.sql", "a.sql", "b.sql" }, names("*.sql"))       -- x.sql is a directory
      assert.same({ "a-b/c.sql", "sub/c.sql" }, names("*/c.sql"))
      assert.same({ "sub/a.sql", "sub/c.sql", "sub/link.sql" }, names("sub/*"))
      assert.same({ "a+b.txt" }, names("a+?.txt"))
      assert.same({}, names("none/*.sql"))
    end)
    for _, pattern in ipairs { "/etc/*", "../*", "*/../../*", "" } do fails("usage", function() folder:hashes(pattern) end) end
    assert.matches("no brackets", fails("usage", function() folder:hashes("[ab].sql") end).hint)
    assert.matches("no such file", fails("remote", function() folders.bind("f", { path = dir .. "/none" }):hashes("*") end).message)
  end)

  it("answers questions about a file", function()
    T.run(function()
      assert.is_true(folder:has("sub/c.sql"))
      assert.is_false(folder:has("none"))
      assert.is_false(folder:has("a.sql/none"))
      assert.equal("one", folder:read("a.sql"))
      assert.equal(3, folder:size("a.sql"))
      assert.equal("7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed", folder:hash("a.sql"))
      assert.equal(dir .. "/x", folder:path("x"))
      assert.is_true(folder:space() > 0)
    end)
  end)

  it("raises what the world refuses", function()
    assert.matches("no such file", fails("remote", function() folder:read("none") end).message)
    fails("remote", function() folder:size("none") end)
  end)

  it("never leads outside", function()
    for _, name in ipairs { "/etc/passwd", "../x", "a/../../x", "..", "" } do
      fails("usage", function() folder:read(name) end)
    end
  end)

  it("writes and removes", function()
    T.run(function()
      assert.equal(3, folder:write("new", "abc").bytes)
      assert.equal("abc", folder:read("new"))
      folder:remove("new")
      assert.is_false(folder:has("new"))
      do
        local out <close> = folder:open("sub/streamed", "w")
        out:write("xyz")
      end
      assert.equal("xyz", folder:read("sub/streamed"))
    end)
  end)

  it("has a card, also when it is not there", function()
    T.run(function()
      local card = folder:card()
      assert.equal("file:" .. dir, card.id)
      assert.same({ "entries", "4" }, card.lines[2])
      assert.matches("no such directory", folders.bind("f", { path = dir .. "/none" }):card().lines[2][2])
      assert.matches("it is a file", folders.bind("f", { path = dir .. "/a.sql" }):card().lines[2][2])
    end)
  end)

  it("needs a path", function() fails("config", function() folders.bind("f", {}) end) end)
end)
