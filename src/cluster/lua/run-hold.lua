-- Renews, takes over or gives up the hold on an attempt that goes on.
-- KEYS[1] the run's record; see run-create.lua
-- KEYS[2] the run's log; see run-claim.lua
-- ARGV[1] renew, attach, release, or lose: as release, and its producer was lost
-- ARGV[2] gateway
-- ARGV[3] epoch
-- ARGV[4] milliseconds of the lease
-- ARGV[5] milliseconds until a run of which nothing is heard is forgotten
-- Returns {} when the attempt does not go on, or (all but attach) is another gateway's; else {last event, job, loss policy, lane, last
-- valid event, effects, and for attach the request and the trace}.
local run = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'holder', 'seq', 'job', 'onLoss', 'lane', 'last', 'effects', 'request', 'trace')
if run[1] ~= 'running' or run[2] ~= ARGV[3] or (ARGV[1] ~= 'attach' and run[3] ~= ARGV[2]) then
  return {}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] == 'release' or ARGV[1] == 'lose' then
  redis.call('HSET', KEYS[1], 'status', 'queued', 'holder', '', 'lease', 0, 'queued', now)
  if ARGV[1] == 'lose' then
    redis.call('HINCRBY', KEYS[1], 'losses', 1)
  end
else
  redis.call('HSET', KEYS[1], 'holder', ARGV[2], 'lease', now + ARGV[4])
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
local attaches = ARGV[1] == 'attach'
return { run[4], run[5], run[6], run[7], run[8], run[9], attaches and run[10] or '', attaches and run[11] or '' }
