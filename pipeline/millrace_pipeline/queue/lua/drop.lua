#!lua flags=allow-oom
-- drop: throw a dead letter away, for good.
--
-- Guarantee: it counts as discarded in the same step.
--
-- KEYS  1 dead  2 counters
-- ARGV  1 the dead letter's id
-- Returns 1, or 0 where there is no such dead letter (any more).
local dead, counters = KEYS[1], KEYS[2]

local discarded = redis.call('HGET', counters, 'discarded') or 0
assert(discarded % 1 == 0, 'not a whole number') -- before anything is written, since nothing is undone
if redis.call('XDEL', dead, ARGV[1]) == 0 then
  return 0
end
redis.call('HINCRBY', counters, 'discarded', 1)
return 1
