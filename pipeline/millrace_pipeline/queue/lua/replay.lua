#!lua flags=allow-oom
-- replay: put a dead letter's record back on the list, at the end that is taken first.
--
-- Guarantee: the record is on the list or a dead letter, never both; replayed once, however often it is sent.
-- A record that is not an envelope of ours will be counted as foreign when it is acked; if it was counted before, that
-- is taken back here, so that the books balance.
--
-- KEYS  1 ready  2 dead  3 counters
-- ARGV  1 the dead letter's id  2 the record, as it is or edited  3 1 if it is foreign else 0
-- Returns 1, or 0 where there is no such dead letter (any more).
local ready, dead, counters = KEYS[1], KEYS[2], KEYS[3]
local id, record = ARGV[1], ARGV[2]

-- What a failed command leaves behind in a script stays: so ask first whatever can fail.
local uncounted = string.format('%d', -ARGV[3]) -- in text, since a number would go out as -0
local counted = redis.call('HGET', counters, 'foreign') or 0
assert(counted % 1 == 0, 'not a whole number')
redis.call('LLEN', ready)

if redis.call('XDEL', dead, id) == 0 then
  return 0
end
redis.call('RPUSH', ready, record)
redis.call('HINCRBY', counters, 'foreign', uncounted)
return 1
