#!lua flags=allow-oom
-- mark: writes beside the list whose it is, unless somebody else has done so since we looked.
--
-- Guarantee: what was there is replaced only where it is what we saw; sent again it changes nothing.
--
-- KEYS  1 project
-- ARGV  1 number of fields, then for each: name, what we saw ('' for nothing), what it becomes
-- Returns 1, or 0 where something else is there.
local project = KEYS[1]

local count = tonumber(ARGV[1])
if not count or count < 1 or #ARGV ~= 1 + 3 * count then
  return redis.error_reply('ERR mark: a count of fields, then three words for each')
end

local mine, seen, fields = true, true, {}
for i = 1, count do
  local name, was, becomes = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  local is = redis.call('HGET', project, name) or ''
  seen = seen and is == was
  mine = mine and is == becomes
  fields[2 * i - 1], fields[2 * i] = name, becomes
end
if mine then
  return 1
end
if not seen then
  return 0
end
redis.call('HSET', project, unpack(fields))
return 1
