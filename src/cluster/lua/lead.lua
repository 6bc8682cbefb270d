-- Takes or renews an exclusive lease.
-- KEYS[1] string: owner of the lease; expires with it
-- ARGV[1] owner that asks
-- ARGV[2] length in milliseconds
-- Returns 1 when the caller holds the lease now, else 0.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
