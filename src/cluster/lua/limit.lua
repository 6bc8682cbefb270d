-- Counts what one key has used of a window, which begins with its first use.
-- KEYS[1] string: the count
-- ARGV[1] how many more, ARGV[2] seconds that a window lasts
-- Returns the count, and the milliseconds until the window ends.
local count = redis.call('INCRBY', KEYS[1], ARGV[1])
local ttl = redis.call('PTTL', KEYS[1])
if ttl < 0 then
  ttl = ARGV[2] * 1000
  redis.call('PEXPIRE', KEYS[1], ttl)
end
return {count, ttl}
