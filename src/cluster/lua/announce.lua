-- Stores an entry with a new lease, unless its key is live from another instance.
-- KEYS[1] hash: entry key -> JSON
-- KEYS[2] sorted set: entry key, scored with the end of its lease (milliseconds of this server's clock)
-- KEYS[3] string: revision, grows with every change
-- ARGV[1] entry key
-- ARGV[2] instance of the caller
-- ARGV[3] entry as JSON; it names the same instance
-- ARGV[4] lease in milliseconds
-- ARGV[5] PUBLISH or SPUBLISH
-- ARGV[6] channel of changes
-- Returns 1, or 0 when another instance has the key.
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now_ms = math.floor(now_us / 1000)
local known = redis.call('HGET', KEYS[1], ARGV[1])
local lapses_at = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or 0)

if known and known ~= ARGV[3] and lapses_at > now_ms then
  -- What cannot be read is nobody's.
  local readable, entry = pcall(cjson.decode, known)
  if readable and type(entry) == 'table' and type(entry.instance) == 'string' and entry.instance ~= ARGV[2] then
    return 0
  end
end

redis.call('ZADD', KEYS[2], string.format('%.0f', now_ms + ARGV[4]), ARGV[1])
if known ~= ARGV[3] or lapses_at <= now_ms then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  -- Made of the time, so that a server that lost its data never counts up to a revision that was there before.
  local revision = math.max(now_us, (tonumber(redis.call('GET', KEYS[3]) or 0)) + 1)
  redis.call('SET', KEYS[3], string.format('%.0f', revision))
  redis.call(ARGV[5], ARGV[6], 'changed')
end
-- A cluster that is gone leaves nothing behind.
for i = 1, 3 do
  redis.call('PEXPIRE', KEYS[i], ARGV[4] * 100)
end
return 1
