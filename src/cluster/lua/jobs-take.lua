-- Gives out jobs of a queue. Who holds a run says the run itself; the group's one consumer only remembers when a job was heard of.
-- KEYS[1] the queue; see jobs-add.lua
-- ARGV[1] how many
-- ARGV[2] milliseconds: jobs that were given out and not heard of for so long; empty: jobs that wait
-- Returns {job, run, ...}.
local function take()
  if ARGV[2] == '' then
    local read = redis.pcall('XREADGROUP', 'GROUP', 'gateways', 'gateways', 'COUNT', ARGV[1], 'STREAMS', KEYS[1], '>')
    return read and (read.err and read or read[1][2]) or {}
  end
  local claimed = redis.pcall('XAUTOCLAIM', KEYS[1], 'gateways', 'gateways', ARGV[2], '0', 'COUNT', ARGV[1])
  return claimed.err and claimed or claimed[2]
end

local entries = take()
if entries.err then
  -- A queue that is new, or that the server has lost.
  redis.pcall('XGROUP', 'CREATE', KEYS[1], 'gateways', '0', 'MKSTREAM')
  entries = take()
  if entries.err then
    return redis.error_reply(entries.err)
  end
end
local answer = {}
for _, entry in ipairs(entries) do
  -- Redis 6 names entries that were deleted.
  if entry and entry[2] then
    answer[#answer + 1] = entry[1]
    answer[#answer + 1] = entry[2][2]
  end
end
return answer
