#!lua flags=allow-oom
-- resume: the producers of a flow, or its consumers, or both, go on.
--
-- Guarantee: sent again it changes nothing. Where something changes it is noted in the same step.
--
-- KEYS  1 steering  2 changes
-- ARGV  1 the change's id  2 what it says of itself  3 how many changes are kept
--       then each part: producers, consumers
-- Returns how many parts go on by this.
--include change
local steering, changes = KEYS[1], KEYS[2]
local id, told, kept = ARGV[1], ARGV[2], ARGV[3]

may_note(changes, id, told, kept)
assert(#ARGV > 3, 'no part')
for i = 4, #ARGV do
  assert(ARGV[i] == 'producers' or ARGV[i] == 'consumers', 'not a part')
end
local parts = redis.call('HDEL', steering, unpack(ARGV, 4))
if parts > 0 then
  note(changes, id, told, kept, 0)
end
return parts
