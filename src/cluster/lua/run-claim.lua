-- Begins the next attempt of a run, or ends it when its loss policy says so.
-- KEYS[1] the run's record; see run-create.lua
-- KEYS[2] the run's log, a stream: ids are `<epoch>-<number of the entry's last event>`, fields `f` (number of its first event) and `e`
--   (the events, a JSON array). An attempt begins with a fence, number 0.
-- ARGV[1] channel for those who follow the run
-- ARGV[2] PUBLISH or SPUBLISH
-- ARGV[3] gateway that claims it
-- ARGV[4] job in the queue
-- ARGV[5] loss policy of the producers that it is for
-- ARGV[6] the epoch that this gateway holds and whose producer is lost; empty: the lease must have ended
-- ARGV[7] milliseconds of the lease
-- ARGV[8] losses that a run may have
-- ARGV[9] event that ends the run when it may not go on, a JSON object
-- ARGV[10] milliseconds until an ended run is forgotten
-- ARGV[11] milliseconds until a run of which nothing is heard is forgotten
-- Returns {result} or {'claimed', epoch, base or '', request, trace, milliseconds in the queue}.
local run = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'holder', 'lease', 'last', 'effects', 'onLoss', 'losses', 'request', 'trace',
  'queued')
local status, epoch, holder, last, policy = run[1], tonumber(run[2]), run[3], run[5], run[7]
if not status then
  return { 'missing' }
end
if status == 'ended' then
  return { 'ended' }
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[6] ~= '' then
  if status ~= 'running' or holder ~= ARGV[3] or epoch ~= tonumber(ARGV[6]) then
    return { 'held' }
  end
elseif status == 'running' and tonumber(run[4]) > now then
  return { 'held' }
end

local losses = tonumber(run[8]) + (status == 'running' and 1 or 0)
local isTouched = last ~= '0-0'
local mustFail = policy == 'fail' or (policy == 'auto' and run[6] == '1')
if losses > tonumber(ARGV[8]) or (isTouched and mustFail) then
  -- As run-finish.lua does it.
  epoch = epoch + 1
  local entry = '[' .. string.sub(ARGV[9], 1, -2) .. ',"base":"' .. last .. '"}]'
  redis.call('XADD', KEYS[2], epoch .. '-0', 'f', 0, 'e', entry)
  redis.call('HSET', KEYS[1], 'status', 'ended', 'outcome', 'failed', 'epoch', epoch, 'seq', 0, 'holder', '', 'lease', 0)
  redis.call('PEXPIRE', KEYS[1], ARGV[10])
  redis.call('PEXPIRE', KEYS[2], ARGV[10])
  redis.call(ARGV[2], ARGV[1], epoch .. ' 0 1 ' .. entry)
  return { 'failed' }
end

epoch = epoch + 1
local continues = isTouched and policy == 'continue'
local base = continues and last or '0-0'
local fence = '[{"type":"fence","epoch":' .. epoch .. ',"resume":"' .. (continues and 'continue' or 'restart') .. '","base":"' .. base .. '"}]'
redis.call('XADD', KEYS[2], epoch .. '-0', 'f', 0, 'e', fence)
redis.call('HSET', KEYS[1], 'status', 'running', 'epoch', epoch, 'seq', 0, 'holder', ARGV[3], 'lease', now + ARGV[7], 'job', ARGV[4],
  'onLoss', ARGV[5], 'losses', losses)
if not continues then
  redis.call('HSET', KEYS[1], 'start', epoch .. '-0', 'last', '0-0', 'effects', 0)
end
redis.call('PEXPIRE', KEYS[1], ARGV[11])
redis.call('PEXPIRE', KEYS[2], ARGV[11])
redis.call(ARGV[2], ARGV[1], epoch .. ' 0 1 ' .. fence)
return { 'claimed', epoch, continues and base or '', run[9], run[10] or '', now - tonumber(run[11]) }
