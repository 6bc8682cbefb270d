-- Reads a part of a channel's history, the newest first.
-- KEYS[1] stream of the channel's last messages; see history-publish.lua
-- ARGV[1] epoch of the reader's position; empty for the head alone
-- ARGV[2] offset of the reader's position
-- ARGV[3] offset of the oldest message that the reader has got in an earlier part; 0 for none
-- ARGV[4] bytes after which no more messages are added
-- Returns {} without a history, else {epoch, offset of the head, 1 when there may be more, offset, kind, payload, ...}.
local lineage = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x%x%x%x%x%x%x%x)')
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local epoch = last and last[2][2] or ''
if string.sub(epoch, -8) ~= lineage then
  return {}
end
local answer = { epoch, string.match(last[1], '^%d+'), 0 }
if ARGV[1] == '' then
  return answer
end

local ceiling = ARGV[3] == '0' and '+' or '(' .. ARGV[3] .. '-0'
local floor = ARGV[1] == epoch and '(' .. ARGV[2] .. '-0' or '-'
local bytes = 0
-- A few at a time, since any of them may be large.
local count = 16
repeat
  local entries = redis.call('XREVRANGE', KEYS[1], ceiling, floor, 'COUNT', count)
  for _, entry in ipairs(entries) do
    local fields = entry[2]
    local payload = fields[6] or ''
    -- Small ones cost something too.
    bytes = bytes + #payload + 64
    if bytes > tonumber(ARGV[4]) and #answer > 3 then
      answer[3] = 1
      return answer
    end
    answer[#answer + 1] = string.match(entry[1], '^%d+')
    answer[#answer + 1] = fields[4] or ''
    answer[#answer + 1] = payload
    ceiling = '(' .. entry[1]
  end
until #entries < count
return answer
