#!lua flags=allow-oom
-- crawl_steer: pause a crawl, stop it for good, or have it go on.
--
-- Guarantee: from here on no request is given out, or is again; sent again it changes nothing. Noted in the same step.
--
-- KEYS  1 crawl  2 changes
-- ARGV  1 the change's id  2 what it says of itself  3 how many changes are kept  4 paused or stopped
--       5 by whom and why; empty to have it go on
-- Returns 1 where something changed, 0 where nothing did, -1 where there is no such crawl.
--include change
local crawl, changes = KEYS[1], KEYS[2]
local change, told, kept, part, why = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

may_note(changes, change, told, kept)
assert(part == 'paused' or part == 'stopped', 'neither paused nor stopped')
assert(#ARGV == 5, 'not so many arguments')
if not redis.call('HGET', crawl, 'began') then
  return -1
end
local was = redis.call('HGET', crawl, part)
if (was and why ~= '') or (not was and why == '') then
  return 0
end
if why == '' then
  redis.call('HDEL', crawl, part)
else
  redis.call('HSET', crawl, part, why)
end
note(changes, change, told, kept, 0)
return 1
