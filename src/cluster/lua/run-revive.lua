-- Makes a run anew that the server has lost, as an attempt that goes on.
-- KEYS[1] the run's record; see run-create.lua
-- KEYS[2] the run's log; see run-claim.lua
-- ARGV[1] channel for those who follow the run
-- ARGV[2] PUBLISH or SPUBLISH
-- ARGV[3] lane
-- ARGV[4] request as JSON
-- ARGV[5] gateway that holds it
-- ARGV[6] job in the queue
-- ARGV[7] loss policy
-- ARGV[8] epoch, above all that were
-- ARGV[9] milliseconds of the lease
-- ARGV[10] milliseconds until a run of which nothing is heard is forgotten
-- ARGV[11] trace
-- Returns 0 when the run is there, else 1.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local start = ARGV[8] .. '-0'
local fence = '[{"type":"fence","epoch":' .. ARGV[8] .. ',"resume":"restart","base":"0-0"}]'
redis.call('DEL', KEYS[2])
redis.call('XADD', KEYS[2], start, 'f', 0, 'e', fence)
redis.call('HSET', KEYS[1], 'status', 'running', 'outcome', '', 'lane', ARGV[3], 'request', ARGV[4], 'epoch', ARGV[8], 'seq', 0,
  'start', start, 'last', '0-0', 'bytes', 0, 'effects', 0, 'onLoss', ARGV[7], 'holder', ARGV[5], 'lease', now + ARGV[9],
  'job', ARGV[6], 'losses', 1, 'queued', now, 'trace', ARGV[11])
redis.call('PEXPIRE', KEYS[1], ARGV[10])
redis.call('PEXPIRE', KEYS[2], ARGV[10])
redis.call(ARGV[2], ARGV[1], ARGV[8] .. ' 0 1 ' .. fence)
return 1
