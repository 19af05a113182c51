#!lua flags=allow-oom
-- restore: put a record from the variant list on the list of the ready, at the end that is taken first.
--
-- Guarantee: the record is on one of the two lists, never on both. Sent again after a lost reply it finds the record
-- gone; of two that are equal to the byte it may then move the other, which is as good. It is noted in the same step.
--
-- KEYS  1 ready  2 variants  3 changes
-- ARGV  1 the record as it stands on the variant list  2 as it is to stand on the other  3 the change's id
--       4 what it says of itself  5 how many changes are kept
-- Returns 1, or 0 where there is no such variant (any more).
--include change
local ready, variants, changes = KEYS[1], KEYS[2], KEYS[3]
local record, id, told, kept = ARGV[2], ARGV[3], ARGV[4], ARGV[5]

may_note(changes, id, told, kept)
redis.call('LLEN', ready) -- fails, if it does, before anything is written: nothing is undone
if redis.call('LREM', variants, 1, ARGV[1]) == 0 then
  return 0
end
redis.call('RPUSH', ready, record)
note(changes, id, told, kept, 1)
return 1
