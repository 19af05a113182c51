#!lua flags=allow-oom
-- mark: writes beside the list whose it is, unless somebody else has done so since we looked.
--
-- Guarantee: what was there is replaced only where it is what we saw; sent again it changes nothing.
--
-- KEYS  1 project
-- ARGV  1 number of fields, then for each: name, what we saw ('' for nothing), what it becomes
-- Returns 1, or 0 where something else is there.
local project = KEYS[1]

local mine, seen = true, true
for i = 1, ARGV[1] do
  local is = redis.call('HGET', project, ARGV[3 * i - 1]) or ''
  seen = seen and is == ARGV[3 * i]
  mine = mine and is == ARGV[3 * i + 1]
end
if mine then
  return 1
end
if not seen then
  return 0
end
for i = 1, ARGV[1] do
  redis.call('HSET', project, ARGV[3 * i - 1], ARGV[3 * i + 1])
end
return 1
