-- Lets an idempotency key name a run, unless it names one already.
-- KEYS[1] the key; its value is the run's id, a space, and the hash of the request
-- ARGV[1] run's id
-- ARGV[2] hash of the request
-- ARGV[3] milliseconds for which the key names the run
-- Returns {run, hash}: what the key names now.
local named = redis.call('GET', KEYS[1])
if not named then
  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
  return { ARGV[1], ARGV[2] }
end
return { string.match(named, '^(%S+) (%S*)$') }
