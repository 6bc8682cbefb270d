-- Removes an entry if it belongs to the caller.
-- KEYS[1] hash: entry key -> JSON
-- KEYS[2] sorted set: entry key, scored with the end of its lease
-- KEYS[3] string: revision, grows with every change
-- ARGV[1] entry key
-- ARGV[2] instance of the caller
-- ARGV[3] PUBLISH or SPUBLISH
-- ARGV[4] channel of changes
-- Returns 1 when it was removed, else 0.
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known then
  return 0
end
local readable, entry = pcall(cjson.decode, known)
if not readable or type(entry) ~= 'table' or entry.instance ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
local time = redis.call('TIME')
local revision = math.max(time[1] * 1000000 + time[2], (tonumber(redis.call('GET', KEYS[3]) or 0)) + 1)
redis.call('SET', KEYS[3], string.format('%.0f', revision), 'KEEPTTL')
redis.call(ARGV[3], ARGV[4], 'changed')
return 1
