-- Removes lapsed entries and returns the live ones. Redis expires nothing by itself here: whoever reads first sees to it.
-- KEYS[1] hash: entry key -> JSON
-- KEYS[2] sorted set: entry key, scored with the end of its lease (milliseconds of this server's clock)
-- KEYS[3] string: revision, grows with every change
-- ARGV[1] revision that the caller has; 0 for none
-- ARGV[2] largest entry in bytes; a larger one is returned as an empty string
-- ARGV[3] PUBLISH or SPUBLISH
-- ARGV[4] channel of changes
-- Returns {revision, milliseconds until the next lease ends or -1, 1 when entries follow, key, JSON, key, JSON, ...}.
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now_ms = math.floor(now_us / 1000)
local revision = tonumber(redis.call('GET', KEYS[3]) or 0)

local lapsed = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now_ms))
for _, key in ipairs(lapsed) do
  redis.call('ZREM', KEYS[2], key)
  redis.call('HDEL', KEYS[1], key)
end
if #lapsed > 0 then
  revision = math.max(now_us, revision + 1)
  redis.call('SET', KEYS[3], string.format('%.0f', revision), 'KEEPTTL')
  redis.call(ARGV[3], ARGV[4], 'changed')
end

local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local lapses_in = -1
if first[2] then
  -- Within what a timer can take, whatever score a foreign program wrote.
  lapses_in = math.min(1000000000, math.max(0, math.ceil(tonumber(first[2]) - now_ms)))
end
local answer = { string.format('%.0f', revision), string.format('%.0f', lapses_in), 1 }
if revision > 0 and revision == tonumber(ARGV[1]) then
  answer[3] = 0
  return answer
end
for _, key in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local entry = ''
  if redis.call('HSTRLEN', KEYS[1], key) <= tonumber(ARGV[2]) then
    entry = redis.call('HGET', KEYS[1], key) or ''
  end
  answer[#answer + 1] = key
  answer[#answer + 1] = entry
end
return answer
