-- Removes an upstream and its settings.
-- KEYS[1] hash: id -> JSON
-- KEYS[2] hash: weight/ID or drain/ID -> JSON
-- KEYS[3] string: lineage, made by the first write
-- ARGV[1] id
-- ARGV[2] PUBLISH or SPUBLISH
-- ARGV[3] channel of changes
-- Returns 1 when it was there, else 0.
local removed = redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], 'weight/' .. ARGV[1], 'drain/' .. ARGV[1])
local time = redis.call('TIME')
redis.call('SET', KEYS[3], time[1] .. '.' .. time[2], 'NX')
redis.call(ARGV[2], ARGV[3], 'changed')
return removed
