-- Adds an upstream, unless its id has another one.
-- KEYS[1] hash: id -> JSON
-- KEYS[2] hash: weight/ID or drain/ID -> JSON
-- KEYS[3] string: lineage, made by the first write
-- ARGV[1] id
-- ARGV[2] upstream as JSON
-- ARGV[3] how many there may be
-- ARGV[4] PUBLISH or SPUBLISH
-- ARGV[5] channel of changes
-- ARGV[6] 1 when the settings of this id are those of an earlier upstream, else 0
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
if ARGV[6] == '1' then
  redis.call('HDEL', KEYS[2], 'weight/' .. ARGV[1], 'drain/' .. ARGV[1])
end
local time = redis.call('TIME')
redis.call('SET', KEYS[3], time[1] .. '.' .. time[2], 'NX')
redis.call(ARGV[4], ARGV[5], 'changed')
return 'added'
