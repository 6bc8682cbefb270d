-- Appends a message to a channel's history and publishes it with its position.
-- KEYS[1] stream of the channel's last messages, under the channel's own name, so that both are in one slot. An entry's id is
--   its offset; its fields are epoch, kind, payload. The last entry is never trimmed: it says what the epoch and the next
--   offset are.
-- ARGV[1] messages to keep
-- ARGV[2] milliseconds until the history is forgotten
-- ARGV[3] what the epoch begins with when this message begins a history
-- ARGV[4] t for text, b for binary
-- ARGV[5] payload
-- ARGV[6] PUBLISH or SPUBLISH
-- Returns {epoch, offset}.

-- An epoch ends with a part of the id that a server's data set has until another server takes over, or the server itself
-- starts anew. Either may have lost the last writes, and would count again what others have counted before.
local lineage = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x%x%x%x%x%x%x%x)')
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local epoch = last and last[2][2] or ''
local offset = 1
if string.sub(epoch, -8) == lineage then
  offset = tonumber(string.match(last[1], '^%d+')) + 1
else
  redis.call('DEL', KEYS[1])
  epoch = ARGV[3] .. lineage
end

local number = string.format('%.0f', offset)
redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[1], number .. '-0', 'epoch', epoch, 'kind', ARGV[4], 'payload', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call(ARGV[6], KEYS[1], '\0p' .. ARGV[4] .. epoch .. '-' .. number .. ' ' .. ARGV[5])
return { epoch, number }
