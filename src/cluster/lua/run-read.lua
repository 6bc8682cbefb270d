-- Reads a part of a run's log.
-- KEYS[1] the run's record; see run-create.lua
-- KEYS[2] the run's log; see run-claim.lua
-- ARGV[1], ARGV[2] epoch and seq behind which to read; what a restart made invalid is passed over
-- ARGV[3] bytes of events after which no more entries are added
-- Returns {} without a run, else {status, outcome, lane, epoch, seq, start, milliseconds left of the lease, milliseconds since it was
-- queued, 1 when there is more, then for each entry: id, number of its first event, events}.
local run = redis.call('HMGET', KEYS[1], 'status', 'outcome', 'lane', 'epoch', 'seq', 'start', 'lease', 'queued', 'bytes')
if not run[1] then
  return {}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left = run[1] == 'running' and tonumber(run[7]) - now or 0
local answer = { run[1], run[2], run[3], run[4], run[5], run[6], tostring(left), tostring(now - run[8]), '0' }

local startEpoch, startSeq = string.match(run[6], '^(%d+)-(%d+)$')
local afterEpoch, afterSeq = tonumber(ARGV[1]), tonumber(ARGV[2])
local isBefore = afterEpoch < tonumber(startEpoch) or (afterEpoch == tonumber(startEpoch) and afterSeq < tonumber(startSeq))
local from = isBefore and run[6] or '(' .. ARGV[1] .. '-' .. ARGV[2]
-- Redis has no entry 0-0, and does not take it as an open end.
if from == '(0-0' or from == '0-0' then
  from = '-'
end
local most = tonumber(ARGV[3])
local bytes, found = 0, 0
-- As many as there should be room for: what is read beyond that is copied in vain.
local count = math.max(1, math.min(1000, math.ceil(most * redis.call('XLEN', KEYS[2]) / math.max(tonumber(run[9]), 1))))
repeat
  local entries = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', count)
  for _, entry in ipairs(entries) do
    local events = entry[2][4]
    if found > 0 and bytes + #events > most then
      answer[9] = '1'
      return answer
    end
    bytes = bytes + #events
    found = found + 1
    answer[#answer + 1] = entry[1]
    answer[#answer + 1] = entry[2][2]
    answer[#answer + 1] = events
    from = '(' .. entry[1]
  end
  local isLast = #entries < count
  count = math.max(1, math.min(1000, math.ceil((most - bytes) * found / math.max(bytes, 1))))
until isLast
return answer
