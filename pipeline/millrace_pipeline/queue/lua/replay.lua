#!lua flags=allow-oom
-- replay: put a dead letter's record back on the list, at the end that is taken first.
--
-- Guarantee: the record is on the list or a dead letter, never both; replayed once, however often it is sent.
-- A record that is not an envelope of ours will be counted as foreign when it is acked; if it was counted before, that
-- is taken back here, so that the books balance. What a person did is noted in the same step.
--
-- KEYS  1 ready  2 dead  3 counters  4 changes
-- ARGV  1 the dead letter's id  2 the record, as it is or edited  3 1 if it is foreign else 0
--       4 the change's id  5 what it says of itself  6 how many changes are kept
-- Returns 1, or 0 where there is no such dead letter (any more).
--include change
local ready, dead, counters, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local letter, record = ARGV[1], ARGV[2]
local id, told, kept = ARGV[4], ARGV[5], ARGV[6]

-- What a failed command leaves behind in a script stays: so ask first whatever can fail.
local uncounted = string.format('%d', -ARGV[3]) -- in text, since a number would go out as -0
local counted = redis.call('HGET', counters, 'foreign') or 0
assert(counted % 1 == 0, 'not a whole number')
redis.call('LLEN', ready)
may_note(changes, id, told, kept)

if redis.call('XDEL', dead, letter) == 0 then
  return 0
end
redis.call('RPUSH', ready, record)
redis.call('HINCRBY', counters, 'foreign', uncounted)
note(changes, id, told, kept, 1)
return 1
