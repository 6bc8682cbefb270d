-- Makes a queued run, unless it is there.
-- KEYS[1] the run's record, a hash:
--   status (queued, running, ended), outcome (complete, cancelled, failed), lane, request, epoch, seq (last event of the epoch),
--   start (offset of the fence of the last restart), last (offset of the last valid event that is no fence), bytes (of the log), effects,
--   onLoss (continue, restart, fail, auto), holder, lease (when it ends), job, losses, queued (since when),
--   trace (what it continues: JSON, or empty). Times are milliseconds of
--   the server's clock.
-- ARGV[1] lane
-- ARGV[2] request as JSON
-- ARGV[3] milliseconds until a run of which nothing is heard is forgotten
-- ARGV[4] trace
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'status', 'queued', 'outcome', '', 'lane', ARGV[1], 'request', ARGV[2], 'epoch', 0, 'seq', 0,
  'start', '0-0', 'last', '0-0', 'bytes', 0, 'effects', 0, 'onLoss', 'auto', 'holder', '', 'lease', 0, 'job', '',
  'losses', 0, 'queued', now, 'trace', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
