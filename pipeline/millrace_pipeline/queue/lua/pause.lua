#!lua flags=allow-oom
-- pause: the producers of a flow, or its consumers, or both, are to stand still until a person says otherwise.
--
-- Guarantee: from here on no claim takes a batch, and no publish is applied that didn't look behind this. A part that is
-- paused stays so as it was; sent again it changes nothing. Where something changes it is noted in the same step.
--
-- KEYS  1 steering  2 changes
-- ARGV  1 the change's id  2 what it says of itself  3 how many changes are kept  4 by whom and why, as JSON
--       then each part: producers, consumers
-- Returns how many parts are paused by this.
--include change
local steering, changes = KEYS[1], KEYS[2]
local id, told, kept, by = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

may_note(changes, id, told, kept)
assert(string.find(by, '^{".*}$'), 'not by whom')
assert(#ARGV > 4, 'no part')
local parts = {}
for i = 5, #ARGV do
  assert(ARGV[i] == 'producers' or ARGV[i] == 'consumers', 'not a part')
  if not redis.call('HGET', steering, ARGV[i]) then
    parts[#parts + 1] = ARGV[i]
  end
end
if #parts == 0 then
  return 0
end

local clock = redis.call('TIME')
local now = string.format('%d', clock[1] * 1000 + math.floor(clock[2] / 1000))
for _, part in ipairs(parts) do
  redis.call('HSET', steering, part, '{"since":' .. now .. ',' .. string.sub(by, 2))
end
note(changes, id, told, kept, 0)
return #parts
