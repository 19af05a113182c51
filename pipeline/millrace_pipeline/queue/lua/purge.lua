#!lua flags=allow-oom
-- purge: the oldest so many records of the list become dead letters, or are thrown away.
--
-- Guarantee: all or nothing, and only where these are the very records that were looked at. They count as foreign as far
-- as somebody else pushed them, and as discarded where they are thrown away; it is noted in the same step.
--
-- KEYS  1 ready  2 woken  3 dead  4 counters  5 changes
-- ARGV  1 the change's id  2 what it says of itself  3 how many changes are kept  4 how many records
--       5 SHA-1 of their bytes, one behind the other, newest first  6 how many of them are foreign
--       7 the dead letters' reason, or empty to throw them away
-- Returns how many records are gone: 0 where they are others by now, or where some had first to be put back on the list.
--include change
local ready, woken, dead, counters, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, told, kept, digest, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[5], ARGV[7]

--include whole

may_note(changes, id, told, kept)
assert(reason, 'no reason')
local count, foreign = whole(ARGV[4]), whole(ARGV[6])
assert(tonumber(count) > 0 and tonumber(foreign) >= 0, 'not a number of records')
for _, counted in ipairs(redis.call('HMGET', counters, 'foreign', 'discarded')) do
  whole(counted or 0)
end
redis.call('XLEN', dead)
redis.call('LLEN', ready)

-- What woke a consumer is older than what waits.
local back = redis.call('LLEN', woken)
if back > 0 then
  for _ = 1, back do
    redis.call('LMOVE', woken, ready, 'LEFT', 'RIGHT')
  end
  return 0
end
local records = redis.call('LRANGE', ready, '-' .. count, -1)
if #records ~= tonumber(count) or redis.sha1hex(table.concat(records)) ~= digest then
  return 0
end

redis.call('LTRIM', ready, 0, '-' .. whole(count + 1))
if reason == '' then
  redis.call('HINCRBY', counters, 'discarded', count)
else
  for i = #records, 1, -1 do
    redis.call('XADD', dead, '*', 'reason', reason, 'attempts', '0', 'batch', '', 'record', records[i])
  end
end
redis.call('HINCRBY', counters, 'foreign', foreign)
note(changes, id, told, kept, count)
return #records
