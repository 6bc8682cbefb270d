-- Puts a run into a queue, unless too many wait, or one for too long.
-- KEYS[1] the queue, a stream with one consumer group, `gateways`: an entry waits until it is delivered, and is deleted when it is done
-- ARGV[1] run's id
-- ARGV[2] runs that may wait; empty: any number
-- ARGV[3] milliseconds that one may wait
-- ARGV[4] a job that this one takes the place of; empty: none
-- Returns {job} or {'', runs that wait, milliseconds for which the first of them has waited}.
local function group()
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
  if groups.err or #groups == 0 then
    redis.pcall('XGROUP', 'CREATE', KEYS[1], 'gateways', '0', 'MKSTREAM')
    groups = redis.call('XINFO', 'GROUPS', KEYS[1])
  end
  local fields = {}
  for i = 1, #groups[1], 2 do
    fields[groups[1][i]] = groups[1][i + 1]
  end
  return fields
end

local known = group()
if ARGV[4] ~= '' then
  redis.call('XACK', KEYS[1], 'gateways', ARGV[4])
  redis.call('XDEL', KEYS[1], ARGV[4])
end
if ARGV[2] ~= '' then
  local depth = redis.call('XLEN', KEYS[1]) - known['pending']
  if depth > 0 then
    local first = redis.call('XRANGE', KEYS[1], '(' .. known['last-delivered-id'], '+', 'COUNT', 1)[1]
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local age = first and now - string.match(first[1], '^%d+') or 0
    if depth >= tonumber(ARGV[2]) or age > tonumber(ARGV[3]) then
      return { '', depth, age }
    end
  end
end
local job = redis.call('XADD', KEYS[1], '*', 'run', ARGV[1])
-- A queue of a name that nobody asks for any more goes after a day.
redis.call('PEXPIRE', KEYS[1], 86400000)
return { job }
