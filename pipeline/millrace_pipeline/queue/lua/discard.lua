#!lua flags=allow-oom
-- discard: throw a record of the variant list away, for good.
--
-- Guarantee: it counts as discarded in the same step.
--
-- KEYS  1 variants  2 counters
-- ARGV  1 the record as it stands on the variant list
-- Returns 1, or 0 where there is no such variant (any more).
local variants, counters = KEYS[1], KEYS[2]

local discarded = redis.call('HGET', counters, 'discarded') or 0
assert(discarded % 1 == 0, 'not a whole number') -- before anything is written, since nothing is undone
if redis.call('LREM', variants, 1, ARGV[1]) == 0 then
  return 0
end
redis.call('HINCRBY', counters, 'discarded', 1)
return 1
