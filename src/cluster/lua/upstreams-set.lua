-- Sets what an operator wants of an upstream, or takes it back.
-- KEYS[1] hash: id -> JSON
-- KEYS[2] hash: weight/ID or drain/ID -> JSON
-- KEYS[3] string: lineage, made by the first write
-- ARGV[1] field
-- ARGV[2] JSON; empty deletes the field
-- ARGV[3] how many fields there may be
-- ARGV[4] PUBLISH or SPUBLISH
-- ARGV[5] channel of changes
-- Returns 1.
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  if not redis.call('HGET', KEYS[2], ARGV[1]) and redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[3]) then
    -- Settings of upstreams that came and went by DNS are taken back by nobody: the oldest one goes.
    local oldest, oldest_at
    for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
      local at = tonumber(string.match(redis.call('HGET', KEYS[2], field), '"at":(%d+)') or 0)
      if not oldest or at < oldest_at then
        oldest, oldest_at = field, at
      end
    end
    redis.call('HDEL', KEYS[2], oldest)
  end
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
local time = redis.call('TIME')
redis.call('SET', KEYS[3], time[1] .. '.' .. time[2], 'NX')
redis.call(ARGV[4], ARGV[5], 'changed')
return 1
