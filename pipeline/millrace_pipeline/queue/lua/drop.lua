#!lua flags=allow-oom
-- drop: throw a dead letter away, for good.
--
-- Guarantee: it counts as discarded, and is noted as what a person did, in the same step.
--
-- KEYS  1 dead  2 counters  3 changes
-- ARGV  1 the dead letter's id  2 the change's id  3 what it says of itself  4 how many changes are kept
-- Returns 1, or 0 where there is no such dead letter (any more).
--include change
local dead, counters, changes = KEYS[1], KEYS[2], KEYS[3]
local id, told, kept = ARGV[2], ARGV[3], ARGV[4]

local discarded = redis.call('HGET', counters, 'discarded') or 0
assert(discarded % 1 == 0, 'not a whole number') -- before anything is written, since nothing is undone
may_note(changes, id, told, kept)
if redis.call('XDEL', dead, ARGV[1]) == 0 then
  return 0
end
redis.call('HINCRBY', counters, 'discarded', 1)
note(changes, id, told, kept, 1)
return 1
