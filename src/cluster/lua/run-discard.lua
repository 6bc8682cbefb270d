-- Forgets a run that nobody has begun.
-- KEYS[1] the run's record; see run-create.lua
if redis.call('HGET', KEYS[1], 'epoch') == '0' then
  redis.call('DEL', KEYS[1])
end
return 0
