#!lua flags=allow-oom
-- resign: stop leading, so that a standby needn't wait for the lease to run out.
--
-- KEYS  1 leader
-- ARGV  1 session
-- Returns 1, or 0 where another leads already.
local leader, session = KEYS[1], ARGV[1]

if redis.call('HGET', leader, 'session') ~= session then
  return 0
end
redis.call('HSET', leader, 'until', 0)
return 1
