-- redis_probes.lua: every command and subcommand of Redis 7.0 (COMMAND LIST), judged: what a read may be, with words to try it, and what
-- it may not. `keys` fills the database the words are about. The server's flags are not what this list is made from: it says
-- what must happen, whatever they say.

local M = {}

--- Commands that fill an empty database.
M.keys = {
  "SET s value", "SET t 7", "PEXPIRE t 3600000", "HSET h f 1", "RPUSH l a b", "SADD u a b", "ZADD z 1 a 2 b", "XADD x 1-1 f v", "XGROUP CREATE x w 0",
  "GEOADD g 1 1 a 2 2 b", "PFADD p a b",
}

--- Reads: the command ("memory|usage") and the words behind it.
M.reads = {
  ["acl|cat"] = "", ["acl|dryrun"] = "default GET s", ["acl|getuser"] = "default", ["acl|help"] = "", ["acl|list"] = "", ["acl|log"] = "",
  ["acl|users"] = "", ["acl|whoami"] = "", bitcount = "s", bitfield_ro = "s GET u8 0", bitpos = "s 1", ["client|getname"] = "",
  ["client|getredir"] = "", ["client|help"] = "", ["client|id"] = "", ["client|info"] = "", ["client|list"] = "",
  ["client|trackinginfo"] = "", ["cluster|count-failure-reports"] = "0", ["cluster|countkeysinslot"] = "0",
  ["cluster|getkeysinslot"] = "0 1", ["cluster|help"] = "", ["cluster|info"] = "", ["cluster|keyslot"] = "s", ["cluster|links"] = "",
  ["cluster|myid"] = "", ["cluster|nodes"] = "", ["cluster|replicas"] = "0", ["cluster|shards"] = "", ["cluster|slaves"] = "0",
  ["cluster|slots"] = "", command = "", ["command|count"] = "", ["command|docs"] = "GET", ["command|getkeys"] = "GET s",
  ["command|getkeysandflags"] = "GET s", ["command|help"] = "", ["command|info"] = "GET", ["command|list"] = "",
  ["config|get"] = "maxmemory", ["config|help"] = "", dbsize = "", dump = "s", echo = "hello", exists = "s", expiretime = "s",
  ["function|dump"] = "", ["function|help"] = "", ["function|list"] = "", ["function|stats"] = "", geodist = "g a b", geohash = "g a",
  geopos = "g a", georadius_ro = "g 1 1 500 km", georadiusbymember_ro = "g a 500 km", geosearch = "g FROMMEMBER a BYRADIUS 500 km",
  get = "s", getbit = "s 3", getrange = "s 0 1", hexists = "h f", hget = "h f", hgetall = "h", hkeys = "h", hlen = "h", hmget = "h f",
  hrandfield = "h", hscan = "h 0", hstrlen = "h f", hvals = "h", info = "", lastsave = "", ["latency|doctor"] = "",
  ["latency|graph"] = "command", ["latency|help"] = "", ["latency|histogram"] = "", ["latency|history"] = "command",
  ["latency|latest"] = "", lcs = "s s", lindex = "l 0", llen = "l", lolwut = "", lpos = "l a", lrange = "l 0 -1", ["memory|doctor"] = "",
  ["memory|help"] = "", ["memory|malloc-stats"] = "", ["memory|stats"] = "", ["memory|usage"] = "s", mget = "s t", ["module|help"] = "",
  ["module|list"] = "", ["object|encoding"] = "s", ["object|freq"] = "s", ["object|help"] = "", ["object|idletime"] = "s",
  ["object|refcount"] = "s", pexpiretime = "s", ping = "", pttl = "s", ["pubsub|channels"] = "", ["pubsub|help"] = "",
  ["pubsub|numpat"] = "", ["pubsub|numsub"] = "", ["pubsub|shardchannels"] = "", ["pubsub|shardnumsub"] = "", randomkey = "", role = "",
  scan = "0", scard = "u", ["script|exists"] = "0123", ["script|help"] = "", sdiff = "u", sinter = "u", sintercard = "1 u",
  sismember = "u a", ["slowlog|get"] = "", ["slowlog|help"] = "", ["slowlog|len"] = "", smembers = "u", smismember = "u a",
  srandmember = "u", sscan = "u 0", strlen = "s", substr = "s 0 1", sunion = "u", time = "", ttl = "s", type = "s", ["xgroup|help"] = "",
  ["xinfo|consumers"] = "x w", ["xinfo|groups"] = "x", ["xinfo|help"] = "", ["xinfo|stream"] = "x", xlen = "x", xpending = "x w",
  xrange = "x - +", xread = "STREAMS x 0", xrevrange = "x + -", zcard = "z", zcount = "z 0 9", zdiff = "1 z", zinter = "1 z",
  zintercard = "1 z", zlexcount = "z - +", zmscore = "z a", zrandmember = "z", zrange = "z 0 -1", zrangebylex = "z - +",
  zrangebyscore = "z 0 9", zrank = "z a", zrevrange = "z 0 -1", zrevrangebylex = "z + -", zrevrangebyscore = "z 9 0", zrevrank = "z a",
  zscan = "z 0", zscore = "z a", zunion = "1 z",
}

--- Refused as reads: whatever changes something, or may, whatever the server's flags say.
M.refused = {}
for name in ([[
  acl acl|deluser acl|genpass acl|load acl|save acl|setuser append asking auth bgrewriteaof bgsave bitfield bitop blmove blmpop blpop
  brpop brpoplpush bzmpop bzpopmax bzpopmin client client|caching client|kill client|no-evict client|pause client|reply client|setname
  client|tracking client|unblock client|unpause cluster cluster|addslots cluster|addslotsrange cluster|bumpepoch cluster|delslots
  cluster|delslotsrange cluster|failover cluster|flushslots cluster|forget cluster|meet cluster|replicate cluster|reset
  cluster|saveconfig cluster|set-config-epoch cluster|setslot config config|resetstat config|rewrite config|set copy debug decr decrby
  del discard eval eval_ro evalsha evalsha_ro exec expire expireat failover fcall fcall_ro flushall flushdb function function|delete
  function|flush function|kill function|load function|restore geoadd georadius georadiusbymember geosearchstore getdel getex getset hdel
  hello hincrby hincrbyfloat hmset hset hsetnx incr incrby incrbyfloat keys latency latency|reset linsert lmove lmpop lpop lpush lpushx
  lrem lset ltrim memory memory|purge migrate module module|load module|loadex module|unload monitor move mset msetnx multi object
  persist pexpire pexpireat pfadd pfcount pfdebug pfmerge pfselftest psetex psubscribe psync publish pubsub punsubscribe quit readonly
  readwrite rename renamenx replconf replicaof reset restore restore-asking rpop rpoplpush rpush rpushx sadd save script script|debug
  script|flush script|kill script|load sdiffstore select set setbit setex setnx setrange shutdown sinterstore slaveof slowlog
  slowlog|reset smove sort sort_ro spop spublish srem ssubscribe subscribe sunionstore sunsubscribe swapdb sync touch unlink unsubscribe
  unwatch wait watch xack xadd xautoclaim xclaim xdel xgroup xgroup|create xgroup|createconsumer xgroup|delconsumer xgroup|destroy
  xgroup|setid xinfo xreadgroup xsetid xtrim zadd zdiffstore zincrby zinterstore zmpop zpopmax zpopmin zrangestore zrem zremrangebylex
  zremrangebyrank zremrangebyscore zunionstore]]):gmatch("%S+") do M.refused[#M.refused + 1] = name end

--- Refused although the command is, or sounds like, a read: by their words.
M.tricks = {
  "XREAD BLOCK 0 STREAMS x $", "xread count 1 block 10 streams x 0", "ACL LOG RESET", "ACL LOG reset", "CLIENT", "CONFIG", "OBJECT", "MEMORY PURGE",
  "SORT l BY nosort STORE m", "GEORADIUS g 1 1 500 km STORE m", "GETEX s PERSIST", "GETDEL s", "PFCOUNT p", "TOUCH s", "KEYS *", "EVAL_RO return(1) 0",
  "EVAL redis.call('slowlog','reset') 0", "FCALL_RO f 0", "BITFIELD s SET u8 0 1", "BITFIELD s GET u8 0", "XREADGROUP GROUP w me STREAMS x >",
  "CLIENT KILL ID 1", "CLIENT NO-EVICT on", "DEBUG DIGEST", "SCRIPT LOAD return(1)", "FUNCTION RESTORE x", "SLOWLOG RESET", "SUBSCRIBE c", "PSUBSCRIBE c*",
  "MULTI", "EXEC", "WATCH s", "WAIT 0 0", "SELECT 1", "AUTH default x", "HELLO 3", "RESET", "QUIT", "MONITOR", "SYNC", "NOSUCHCOMMAND s", "Get\0 s", "\255 s",
}

--- Commands that `write` refuses and `remove` takes.
M.destroying = {
  "FLUSHALL", "FLUSHDB", "DEL s", "UNLINK s", "SWAPDB 0 1", "GETDEL s", "RENAME s t", "HDEL h f", "SREM u a", "ZREM z a", "LTRIM l 0 0", "XTRIM x MAXLEN 0", "XDEL x 1-1",
  "EVAL return(1) 0", "EVALSHA 0123 0", "FCALL f 0", "SCRIPT FLUSH", "FUNCTION FLUSH", "DEBUG RELOAD", "SHUTDOWN NOSAVE", "REPLICAOF h 1", "SLAVEOF h 1",
  "MIGRATE h 1 s 0 10", "ACL DELUSER x", "CLUSTER RESET", "XGROUP DESTROY x w",
}

--- Commands that neither write nor remove takes: they change the connection itself.
M.ours = { "SELECT 1", "AUTH x", "HELLO 3", "RESET", "QUIT", "MULTI", "EXEC", "DISCARD", "WATCH s", "UNWATCH", "SUBSCRIBE c", "PSUBSCRIBE c", "SSUBSCRIBE c",
  "MONITOR", "SYNC", "PSYNC x 1", "REPLCONF x", "CLIENT REPLY OFF", "CLIENT TRACKING ON", "CLIENT SETNAME x" }

return M
