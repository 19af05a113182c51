#!lua flags=allow-oom
-- history: note how the counters stand, once in every step of so many seconds, before the first of them moves in it.
--
-- Guarantee: whatever moves until the next note, moved within the step of this one; so what is counted by differences
-- adds up to the counters. Every ten minutes notes are thinned to one a minute, an hour and a day.
--
-- KEYS  1 history  2 counters  3 ready  4 woken  5 dead  6 variants
-- ARGV  1 the step (s)
--       then pairs: so old (s), one note in so many seconds is kept; the last pair's age is as old as any gets
-- Returns the milliseconds until the next step.
local history, counters, ready, woken, dead, variants = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]

local function whole(text) -- a number above 0, or an error
  local number = tonumber(text)
  assert(number and number > 0 and number % 1 == 0, 'not a whole number above 0')
  return number
end

-- What a failed command leaves behind in a script stays: so ask first whatever can fail.
local step, kept_so = whole(ARGV[1]), {}
for i = 2, #ARGV, 2 do
  kept_so[#kept_so + 1] = {whole(ARGV[i]), whole(ARGV[i + 1])}
end

local clock = redis.call('TIME')
local seconds = tonumber(clock[1])
local now = seconds - seconds % step
local left = (now + step) * 1000 - seconds * 1000 - math.floor(clock[2] / 1000)
local name = string.format('%d', now)
if redis.call('HGET', history, name) then
  return left
end

local counts = redis.call(
  'HMGET', counters, 'published', 'delivered', 'filtered', 'foreign', 'discarded', 'bytes_in', 'bytes_out', 'in_flight'
)
for i = 1, #counts do
  counts[i] = string.format('%d', counts[i] or 0)
end
local thinned = tonumber(redis.call('HGET', history, 'thinned') or 0) or 0
local waiting = redis.call('LLEN', ready) + redis.call('LLEN', woken)
for _, count in ipairs({waiting, redis.call('XLEN', dead), redis.call('LLEN', variants)}) do
  counts[#counts + 1] = string.format('%d', count)
end
redis.call('HSET', history, name, table.concat(counts, ' '))
if now - thinned < 600 then
  return left
end
local moments = {}
for _, moment in ipairs(redis.call('HKEYS', history)) do
  if tonumber(moment) then
    moments[#moments + 1] = tonumber(moment)
  end
end
table.sort(moments)
local kept = {}
for _, moment in ipairs(moments) do
  local unit -- none where it is older than any gets
  for _, pair in ipairs(kept_so) do
    if not unit and now - moment < pair[1] then
      unit = pair[2]
    end
  end
  local place = unit and (unit .. ':' .. math.floor(moment / unit))
  if not place or kept[place] then
    redis.call('HDEL', history, string.format('%d', moment))
  else
    kept[place] = true
  end
end
redis.call('HSET', history, 'thinned', name)
return left
