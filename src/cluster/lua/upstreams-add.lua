-- Adds an upstream, unless its id has another one.
-- KEYS[1] hash: id -> JSON
-- KEYS[2] hash: weight/ID or drain/ID -> JSON
-- KEYS[3] string: there since the first write
-- ARGV[1] id
-- ARGV[2] upstream as JSON
-- ARGV[3] how many there may be
-- ARGV[4] PUBLISH or SPUBLISH
-- ARGV[5] channel of changes
-- Returns added, taken or full.
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known == ARGV[2] then
  return 'added'
end
if known then
  return 'taken'
end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  return 'full'
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
-- What an earlier upstream of this id was set to is not this one's.
redis.call('HDEL', KEYS[2], 'weight/' .. ARGV[1], 'drain/' .. ARGV[1])
redis.call('SET', KEYS[3], '1')
redis.call(ARGV[4], ARGV[5], 'changed')
return 'added'
