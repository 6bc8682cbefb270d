-- Reads all upstreams and settings, if they are not those that the caller has.
-- KEYS[1] hash: id -> JSON
-- KEYS[2] hash: weight/ID or drain/ID -> JSON
-- KEYS[3] string: lineage, made by the first write
-- ARGV[1] digest that the caller has; empty for none
-- ARGV[2] how many upstreams are read
-- ARGV[3] how many settings are read
-- ARGV[4] largest value in bytes; a larger one is returned as an empty string
-- Returns {} when nothing has changed, else {digest, lineage or empty, upstreams beyond ARGV[2],
--   {id, JSON, ...}, {field, JSON, ...}}.

-- By key, so that the same content has the same digest at every server.
local function content(hash, most)
  local count = redis.call('HLEN', hash)
  -- Somebody's accident: sorting it would stop the server for all others.
  if count > 10 * most then
    return {}, count
  end
  local keys = redis.call('HKEYS', hash)
  table.sort(keys)
  local flat = {}
  for i = 1, math.min(#keys, most) do
    flat[#flat + 1] = keys[i]
    local fits = redis.call('HSTRLEN', hash, keys[i]) <= tonumber(ARGV[4])
    flat[#flat + 1] = fits and redis.call('HGET', hash, keys[i]) or ''
  end
  return flat, math.max(0, #keys - most)
end

local entries, left = content(KEYS[1], tonumber(ARGV[2]))
local settings = content(KEYS[2], tonumber(ARGV[3]))
local lineage = redis.call('GET', KEYS[3]) or ''
local all = { lineage, left, table.concat(entries, '\n'), table.concat(settings, '\n') }
local digest = redis.sha1hex(table.concat(all, '\0'))
if digest == ARGV[1] then
  return {}
end
return { digest, lineage, left, entries, settings }
