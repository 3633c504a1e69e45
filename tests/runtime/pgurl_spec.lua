--- Connection URLs as people have them (drive/pgurl.c): understood, or refused with the key's name.

local sql = require("native.sql")

local SECRET = "s3cr3t"

--- { URL, pairs, more? }: password is true, never its text. `more`: search_path, pooled, notices = how many.
local understood = {
  libpq = {
    { "postgresql://", {} },
    { "postgresql://localhost", { host = "localhost" } },
    { "postgres://app@localhost:5433/shop", { user = "app", host = "localhost", port = "5433", dbname = "shop" } },
    { "postgresql://app:s3cr3t@localhost/", { user = "app", password = true, host = "localhost" } },
    { "postgresql://h1:1,h2:2/db?target_session_attrs=read-write",
      { host = "h1,h2", port = "1,2", dbname = "db", target_session_attrs = "read-write" } },
    { "postgresql://h1,h2:5433/db", { host = "h1,h2", port = ",5433", dbname = "db" } },
    { "postgresql://[2001:db8::1]:5432/db", { host = "2001:db8::1", port = "5432", dbname = "db" } },
    { "postgresql://[::1],db.example/db", { host = "::1,db.example", dbname = "db" } },
    { "postgresql:///db?host=/var/run/postgresql", { dbname = "db", host = "/var/run/postgresql" } },
    { "postgresql://%2Fvar%2Frun%2Fpostgresql/db", { host = "/var/run/postgresql", dbname = "db" } },
    { "postgresql://u@h/d%20b?options=-c%20geqo%3Doff&connect_timeout=3",
      { user = "u", host = "h", dbname = "d b", options = "-c geqo=off", connect_timeout = "3" } },
    { "postgresql://u:p%40ss%2Fw%3Fx%23@h/db", { user = "u", password = true, host = "h", dbname = "db" } },
    { "postgresql://u:a?b#c@h/db", { user = "u", password = true, host = "h", dbname = "db" } },
    { "postgresql://?user=u&password=s3cr3t&dbname=d", { user = "u", password = true, dbname = "d" } },
    { "host=localhost port=5432 dbname=shop user=app password='it\\'s 1'",
      { host = "localhost", port = "5432", dbname = "shop", user = "app", password = true } },
    { "  host = /tmp  dbname=''  ", { host = "/tmp" } },
    { "service=orders", { service = "orders" } },
    { "postgresql://h/db?sslmode=&&application_name=a+b", { host = "h", dbname = "db", application_name = "a+b" } },
  },
  prisma = {
    { "postgresql://app:s3cr3t@db:5432/shop?schema=public",
      { user = "app", password = true, host = "db", port = "5432", dbname = "shop" }, { search_path = "public" } },
    { "postgresql://db/shop?schema=Tenant-1", { host = "db", dbname = "shop" }, { search_path = '"Tenant-1"' } },
    { "postgresql://db/shop?connection_limit=1&pool_timeout=0&socket_timeout=3&statement_cache_size=0",
      { host = "db", dbname = "shop" }, { notices = 4 } },
    { "postgres://db:6543/shop?pgbouncer=true&connection_limit=1",
      { host = "db", port = "6543", dbname = "shop" }, { pooled = true, notices = 1 } },
    { "postgresql://db/shop?sslmode=require&sslaccept=strict",
      { host = "db", dbname = "shop", sslmode = "verify-full" } },
    { "postgresql://db/shop?sslaccept=accept_invalid_certs",
      { host = "db", dbname = "shop", sslmode = "require" }, { notices = 1 } },
    { "postgresql://db/shop?sslidentity=client.p12&sslpassword=s3cr3t",
      { host = "db", dbname = "shop", sslpassword = true }, { notices = 1 } },
    { "postgresql://u:p@localhost/db?host=/var/run/postgresql/",
      { user = "u", password = true, host = "/var/run/postgresql/", dbname = "db" } },
  },
  ["drizzle and node-postgres"] = {
    { "postgres://u:s3cr3t@ep-x.neon.tech/db?sslmode=require&channel_binding=require",
      { user = "u", password = true, host = "ep-x.neon.tech", dbname = "db", sslmode = "require",
        channel_binding = "require" } },
    { "postgres://h/db?ssl=true", { host = "h", dbname = "db", sslmode = "require" } },
    { "postgres://h/db?ssl=0", { host = "h", dbname = "db", sslmode = "disable" } },
    { "postgres://h/db?sslmode=no-verify", { host = "h", dbname = "db", sslmode = "require" }, { notices = 1 } },
    { "postgres://h/db?max=10&idle_timeout=20&prepare=false", { host = "h", dbname = "db" }, { notices = 3 } },
    { "postgres://h/db?uselibpqcompat=true&sslmode=prefer",
      { host = "h", dbname = "db", sslmode = "prefer" }, { notices = 1 } },
    { "postgres://h/db?pool_size=5&supa=base-pooler.x", { host = "h", dbname = "db" }, { notices = 2 } },
  },
  jdbc = {
    { "jdbc:postgresql://db:5432/shop?user=app&password=s3cr3t&ssl=true",
      { host = "db", port = "5432", dbname = "shop", user = "app", password = true, sslmode = "verify-full" } },
    { "jdbc:postgresql:shop", { dbname = "shop" } },
    { "jdbc:postgresql:shop?currentSchema=a,b", { dbname = "shop" }, { search_path = "a,b" } },
    { "jdbc:postgresql://a:1,b:2/shop?targetServerType=primary&loadBalanceHosts=true",
      { host = "a,b", port = "1,2", dbname = "shop", target_session_attrs = "primary" }, { notices = 1 } },
    { "jdbc:postgresql://db/shop?ApplicationName=api&tcpKeepAlive=true&loginTimeout=5",
      { host = "db", dbname = "shop", application_name = "api", keepalives = "1", connect_timeout = "5" } },
    { "jdbc:postgresql://db/shop?sslfactory=org.postgresql.ssl.NonValidatingFactory",
      { host = "db", dbname = "shop", sslmode = "require" }, { notices = 1 } },
    { "jdbc:postgresql://db/shop?reWriteBatchedInserts=true&prepareThreshold=0",
      { host = "db", dbname = "shop" }, { notices = 2 } },
  },
  doctrine = {
    { "pgsql://u:s3cr3t@db:5432/shop?charset=utf8&serverVersion=15",
      { user = "u", password = true, host = "db", port = "5432", dbname = "shop" }, { notices = 1 } },
    { "pdo-pgsql://db/shop?charset=latin1", { host = "db", dbname = "shop" }, { notices = 1 } },
    { "postgresql://db/shop?serverVersion=14.2&charset=utf8", { host = "db", dbname = "shop" }, { notices = 1 } },
  },
  sqlalchemy = {
    { "postgresql+psycopg2://u:s3cr3t@db/shop", { user = "u", password = true, host = "db", dbname = "shop" } },
    { "postgresql+asyncpg://db/shop?ssl=verify-full&prepared_statement_cache_size=0",
      { host = "db", dbname = "shop", sslmode = "verify-full" }, { notices = 1 } },
    { "postgresql+psycopg://u@/shop?host=/var/run/postgresql",
      { user = "u", host = "/var/run/postgresql", dbname = "shop" } },
    { "postgresql+pg8000://db/shop?client_encoding=utf8", { host = "db", dbname = "shop" } },
  },
  go = {
    { "postgres://u@db/shop?sslmode=disable&search_path=app,public",
      { user = "u", host = "db", dbname = "shop", sslmode = "disable" }, { search_path = "app,public" } },
    { "postgres://db/shop?pool_max_conns=10&pool_max_conn_lifetime=1h&default_query_exec_mode=exec",
      { host = "db", dbname = "shop" }, { notices = 3 } },
    { "host=db user=gorm password=s3cr3t dbname=gorm port=9920 sslmode=disable TimeZone=Asia/Shanghai",
      { host = "db", user = "gorm", password = true, dbname = "gorm", port = "9920", sslmode = "disable" },
      { notices = 1 } },
    { "postgres://db/shop?x-migrations-table=m&binary_parameters=yes",
      { host = "db", dbname = "shop" }, { notices = 2 } },
  },
  ["rails and django"] = {
    { "postgresql://u:s3cr3t@db/shop?pool=5&encoding=unicode&prepared_statements=false",
      { user = "u", password = true, host = "db", dbname = "shop" }, { notices = 2 } },
    { "postgres://db/shop?schema_search_path=app", { host = "db", dbname = "shop" }, { search_path = "app" } },
    { "postgis://db/shop?conn_max_age=60&ssl_require=true",
      { host = "db", dbname = "shop", sslmode = "require" }, { notices = 1 } },
  },
}

--- { URL, what the message must say, what the hint must say }
local refused = {
  { "prisma+postgres://accelerate.prisma-data.net/?api_key=s3cr3t", "leads to a Prisma proxy", "direct URL" },
  { "prisma://accelerate.prisma-data.net/?api_key=s3cr3t", "leads to a Prisma proxy", "direct URL" },
  { "mysql://u:s3cr3t@db/shop", '"mysql" is not a scheme', "postgresql://" },
  { "jdbc:mysql:shop", '"mysql" is not a scheme', "postgresql://" },
  { "localhost", "not a connection URL", "postgresql://" },
  { "", "not a connection URL", "postgresql://" },
  { "postgres://db/shop?sslmod=require", 'unknown key "sslmod"', "Did you mean sslmode?" },
  { "postgres://db/shop?shema=public", 'unknown key "shema"', "Did you mean schema?" },
  { "postgres://db/shop?Application_Name=x", 'unknown key "Application_Name"', "Did you mean application_name?" },
  { "postgres://db/shop?conection_limit=1", 'unknown key "conection_limit"', "Did you mean connection_limit?" },
  { "postgres://db/shop?colour=blue", 'unknown key "colour"', "remove it" },
  { "host=db colour=blue", 'unknown key "colour"', "remove it" },
  { "postgres://db/shop?replication=database", '"replication"', "remove the key" },
  { "postgres://db/shop?sslmode=maybe", 'sslmode="maybe"', "verify%-full" },
  { "postgres://db/shop?pgbouncer=perhaps", 'pgbouncer="perhaps"', "true or false" },
  { "postgres://db/shop?sslaccept=lax", 'sslaccept="lax"', "strict" },
  { "jdbc:postgresql://db/shop?targetServerType=some", 'targetServerType="some"', "primary" },
  { "postgres://u:s3cr3t%zz@db/shop", "password of the connection URL has a bad percent escape", "%%25" },
  { "postgres://u:s3cr3t%4@db/shop", "password of the connection URL has a bad percent escape", "%%25" },
  { "postgres://u:s3cr3t%00@db/shop", "password of the connection URL has a bad percent escape", "%%25" },
  { "postgres://db/sh%op", "database name of the connection URL has a bad percent escape", "%%25" },
  { "postgres://db/shop?options=%", "query of the connection URL has a bad percent escape", "%%25" },
  { "postgres://u:s3cr3t@x@db/shop", "two @", "%%40" },
  { "postgres://u:s3cr3t/x@db/shop", "port", "%%2F" },
  { "postgres://u:123/s3cr3t@db/shop", "@ behind the first /", "%%2F" },
  { "postgres://u:123/x?s3cr3t@db", "has no value", "%%3F" },
  { "postgres://db/shop?x&s3cr3t*=1", "no value", "key=value" },
  { "postgres://db/shop?s3cr3t*=1", "not a word", "%%3F" },
  { "postgres://db/shop#s3cr3t", "# behind the host", "%%23" },
  { "postgres://db:0/shop", "port", "" },
  { "postgres://db:65536/shop", "port", "" },
  { "postgres://a:1,b:0,c:2/shop", "port", "" },
  { "postgres://db/shop?port=s3cr3t", "port", "" },
  { "host=db port=+1", "port", "" },
  { "postgres://db:99999999999999999999/shop", "port", "" },
  { "postgres://[::1/shop", 'not closed by "]"', "" },
  { "postgres://[::1]5432/shop", 'not closed by "]"', "" },
  { "host=db password='s3cr3t", "open quote", "" },
  { "host=db user", "key without a value", "" },
}

describe("a connection URL", function()
  local count = 0
  for owner, list in pairs(understood) do
    for _, fixture in ipairs(list) do
      count = count + 1
      it("of " .. owner .. " is understood: " .. fixture[1], function()
        local url = assert(sql.url(fixture[1]))
        local more = fixture[3] or {}
        assert.same(fixture[2], url.pairs)
        assert.equal(more.search_path, url.search_path)
        assert.equal(more.pooled or false, url.pooled)
        assert.equal(more.notices or 0, #url.notices)
        for _, notice in ipairs(url.notices) do
          assert.truthy(notice:find("%.$"))
          assert.falsy(notice:find(SECRET, 1, true))
        end
      end)
    end
  end

  for _, fixture in ipairs(refused) do
    count = count + 1
    it("is refused with the reason: " .. fixture[1], function()
      local url, err = sql.url(fixture[1])
      assert.is_nil(url)
      assert.equal("config", err.code)
      assert.truthy(err.message:find(fixture[2], 1, true), err.message)
      assert.truthy((err.hint or ""):find(fixture[3]), err.hint)
      assert.falsy((err.message .. (err.hint or "")):find(SECRET, 1, true))
    end)
  end

  it("has at least forty fixtures", function() assert.is_true(count >= 40) end)

  it("takes the last of two values for a key", function()
    assert.equal("b", sql.url("postgres://h/db?application_name=a&application_name=b").pairs.application_name)
  end)

  it("names the owner of a key that is dropped", function()
    local url = assert(sql.url("postgres://h/db?connection_limit=5&connection_limit=6"))
    assert.same({ "connection_limit belongs to Prisma and is ignored." }, url.notices)
  end)

  it("survives every cut of a long one", function()
    local text = "jdbc:postgresql+x://us%65r:pa%20ss@[::1]:5432,h2:1/d%62?sslmode=require&schema=Aa&ssl=true#"
    for i = 0, #text do
      local url, err = sql.url(text:sub(1, i))
      assert.is_true(url ~= nil or err.code == "config")
    end
  end)
end)

describe("a written URL", function()
  local function same_back(text)
    local written = assert(T.pgurl_write(text, false))
    assert.same(sql.url(text).pairs, sql.url(written).pairs)
    assert.equal(written, T.pgurl_write(written, false))
    return written
  end

  it("is read back as the same connection", function()
    for _, list in pairs(understood) do
      for _, fixture in ipairs(list) do same_back(fixture[1]) end
    end
  end)

  it("percent-encodes whatever might be read otherwise", function()
    assert.equal("postgresql://u%40x:p%3A%40%2F%3F%23%25%20%C3%A9@h:5433/d%2Fb",
      same_back("postgresql://u%40x:p%3A%40%2F%3F%23%25%20é@h:5433/d%2Fb"))
  end)

  it("keeps hosts, ports and addresses together", function()
    assert.equal("postgresql://h1:1,[::1]:2/db", same_back("postgresql://h1:1,[::1]:2/db"))
    assert.equal("postgresql://h1:5432,h2:5432/db", T.pgurl_write("host=h1,h2 port=5432 dbname=db", false))
    assert.equal("postgresql:///db?host=%2Ftmp&port=5433", T.pgurl_write("host=/tmp port=5433 dbname=db", false))
  end)

  it("speaks Prisma's words to Prisma", function()
    assert.equal("postgresql://u:p@h:5432/db?schema=Tenant-1&sslmode=require&sslaccept=strict&sslcert=ca.pem",
      T.pgurl_write("postgresql://u:p@h:5432/db?"
        .. "schema=Tenant-1&sslmode=verify-full&sslrootcert=ca.pem&keepalives=1", true))
    assert.equal("postgresql://localhost:5433/db?host=%2Ftmp&pgbouncer=true",
      T.pgurl_write("postgresql:///db?host=/tmp&port=5433&pgbouncer=true", true))
    assert.equal('postgresql://h/db?schema=a', T.pgurl_write("postgres://h/db?search_path=a, b", true))
    assert.equal('postgresql://h/db?schema=a%22b', T.pgurl_write("postgres://h/db?schema=a%22b", true))
  end)
end)
