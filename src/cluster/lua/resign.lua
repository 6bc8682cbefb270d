-- Gives an exclusive lease back, if it is still the caller's.
-- KEYS[1] string: owner of the lease
-- ARGV[1] owner that gives it back
-- Returns 1 when it was given back, else 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
