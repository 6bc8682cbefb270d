-- Ends a run from outside, under a condition.
-- KEYS[1] the run's record; see run-create.lua
-- KEYS[2] the run's log; see run-claim.lua
-- ARGV[1] channel for those who follow the run
-- ARGV[2] PUBLISH or SPUBLISH
-- ARGV[3] the event, a JSON object
-- ARGV[4] outcome
-- ARGV[5] condition: live; queued; lapsed (its producer's lease has ended); or the epoch that must go on
-- ARGV[6] milliseconds until an ended run is forgotten
-- Returns {result, lane, job, former holder}.
local run = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'last', 'lease', 'lane', 'job', 'holder')
local status = run[1]
if not status then
  return { 'missing', '', '', '' }
end
if status == 'ended' then
  return { 'ended', run[5], run[6], '' }
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local when = ARGV[5]
local holds = when == 'live' or (when == 'queued' and status == 'queued')
  or (status == 'running' and ((when == 'lapsed' and tonumber(run[4]) <= now) or when == run[2]))
if not holds then
  return { 'kept', run[5], run[6], run[7] }
end
-- In an epoch of its own: events behind the last known one may have been made, and read, before a server lost them.
local epoch = tonumber(run[2]) + 1
local entry = '[' .. string.sub(ARGV[3], 1, -2) .. ',"base":"' .. run[3] .. '"}]'
redis.call('XADD', KEYS[2], epoch .. '-0', 'f', 0, 'e', entry)
redis.call('HSET', KEYS[1], 'status', 'ended', 'outcome', ARGV[4], 'epoch', epoch, 'seq', 0, 'holder', '', 'lease', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
redis.call(ARGV[2], ARGV[1], epoch .. ' 0 1 ' .. entry)
return { 'finished', run[5], run[6], run[7] }
