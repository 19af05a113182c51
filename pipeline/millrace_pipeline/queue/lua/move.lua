#!lua flags=allow-oom
-- move: a person sets the checkpoint of a source, or takes it away.
--
-- Guarantee: a producer that reads from elsewhere publishes nothing from here on, and reads on from there: `moves`, which
-- every publish watches, says so. It is noted in the same step.
--
-- KEYS  1 checkpoints  2 steering  3 changes
-- ARGV  1 the change's id  2 what it says of itself  3 how many changes are kept  4 source  5 the position, as JSON, or
--       empty for none
-- Returns the position that it was, or nothing where there was none.
--include change
local checkpoints, steering, changes = KEYS[1], KEYS[2], KEYS[3]
local id, told, kept, source, position = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

may_note(changes, id, told, kept)
assert(position, 'no position')
local moves = redis.call('HGET', steering, 'moves') or 0
assert(moves % 1 == 0, 'not a whole number')
local before = redis.call('HGET', checkpoints, source)

if position == '' then
  redis.call('HDEL', checkpoints, source)
else
  redis.call('HSET', checkpoints, source, position)
end
redis.call('HINCRBY', steering, 'moves', 1)
note(changes, id, told, kept, 0)
return before
