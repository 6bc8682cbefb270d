-- Takes a job out of its queue.
-- KEYS[1] the queue; see jobs-add.lua
-- ARGV[1] job
redis.pcall('XACK', KEYS[1], 'gateways', ARGV[1])
return redis.call('XDEL', KEYS[1], ARGV[1])
