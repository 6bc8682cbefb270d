-- Adds an entry to a run's log, renews the lease of the attempt, and publishes the entry.
-- KEYS[1] the run's record; see run-create.lua
-- KEYS[2] the run's log; see run-claim.lua
-- ARGV[1] channel for those who follow the run
-- ARGV[2] PUBLISH or SPUBLISH
-- ARGV[3] gateway that holds the run
-- ARGV[4] epoch
-- ARGV[5] number of the first event
-- ARGV[6] how many there are
-- ARGV[7] the events, a JSON array
-- ARGV[8] 1 when one of them had an effect on the outside
-- ARGV[9] outcome when the last of them ends the run, else empty
-- ARGV[10] milliseconds of the lease
-- ARGV[11] bytes that a log may have
-- ARGV[12] milliseconds until an ended run is forgotten
-- Returns {result, last event of the present epoch}.
local run = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'seq', 'holder', 'bytes', 'outcome')
local status = run[1]
if not status then
  return { 'missing', 0 }
end
local epoch, seq = tonumber(run[2]), tonumber(run[3])
local first = tonumber(ARGV[5])
local last = first + ARGV[6] - 1
if tonumber(ARGV[4]) > epoch then
  return { 'hole', seq }
end
if tonumber(ARGV[4]) < epoch then
  return { status == 'ended' and 'ended' or 'fenced', seq }
end
if status == 'ended' then
  local isOwn = ARGV[9] ~= '' and ARGV[9] == run[6]
  return { (last < seq or (last == seq and isOwn)) and 'duplicate' or 'ended', seq }
end
if last <= seq then
  return { 'duplicate', seq }
end
if status == 'queued' or run[4] ~= ARGV[3] then
  return { 'fenced', seq }
end
if first > seq + 1 then
  return { 'hole', seq }
end
if first <= seq then
  return { 'overlap', seq }
end
local bytes = tonumber(run[5]) + #ARGV[7]
if ARGV[9] == '' and bytes > tonumber(ARGV[11]) then
  return { 'full', seq }
end

local id = epoch .. '-' .. last
redis.call('XADD', KEYS[2], id, 'f', first, 'e', ARGV[7])
if ARGV[9] == '' then
  local time = redis.call('TIME')
  local lease = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[10]
  redis.call('HSET', KEYS[1], 'seq', last, 'last', id, 'bytes', bytes, 'lease', lease)
else
  redis.call('HSET', KEYS[1], 'seq', last, 'last', id, 'bytes', bytes, 'lease', 0, 'holder', '', 'status', 'ended', 'outcome', ARGV[9])
  redis.call('PEXPIRE', KEYS[1], ARGV[12])
  redis.call('PEXPIRE', KEYS[2], ARGV[12])
end
if ARGV[8] == '1' then
  redis.call('HSET', KEYS[1], 'effects', 1)
end
redis.call(ARGV[2], ARGV[1], epoch .. ' ' .. first .. ' ' .. ARGV[6] .. ' ' .. ARGV[7])
return { 'appended', last }
