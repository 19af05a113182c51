#!lua flags=allow-oom
-- discard: throw a record of the variant list away, for good.
--
-- Guarantee: it counts as discarded, and is noted as what a person did, in the same step.
--
-- KEYS  1 variants  2 counters  3 changes
-- ARGV  1 the record as it stands on the variant list  2 the change's id  3 what it says of itself
--       4 how many changes are kept
-- Returns 1, or 0 where there is no such variant (any more).
--include change
local variants, counters, changes = KEYS[1], KEYS[2], KEYS[3]
local id, told, kept = ARGV[2], ARGV[3], ARGV[4]

local discarded = redis.call('HGET', counters, 'discarded') or 0
assert(discarded % 1 == 0, 'not a whole number') -- before anything is written, since nothing is undone
may_note(changes, id, told, kept)
if redis.call('LREM', variants, 1, ARGV[1]) == 0 then
  return 0
end
redis.call('HINCRBY', counters, 'discarded', 1)
note(changes, id, told, kept, 1)
return 1
