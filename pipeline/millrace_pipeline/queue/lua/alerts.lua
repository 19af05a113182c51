#!lua flags=allow-oom
-- alerts: become, or stay, the one process that watches a flow's alerts, and write down what has changed.
--
-- Guarantee: one watcher at a time, by Redis' clock; what changed is written as a whole, and only by the watcher. Works
-- at maxmemory, which may be what there is to tell.
--
-- KEYS  1 alerts
-- ARGV  1 session  2 lease (ms); 0 stops watching  3 who, for people  4 time to live (s)
--       then pairs: field, its value; an empty one removes it
-- Returns {0 where we watch, else the milliseconds until the watcher's lease runs out; all fields and values, in turn}.
local alerts = KEYS[1]
local session, who = ARGV[1], assert(ARGV[3])

local function whole(text)
  local number = tonumber(text)
  assert(number and number >= 0 and number % 1 == 0, 'not a whole number')
  return number
end

local lease, seconds = whole(ARGV[2]), whole(ARGV[4])
assert(seconds > 0, 'no time to live')
assert(#ARGV % 2 == 0, 'a field without a value')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HMGET', alerts, 'watcher', 'until')
if held[1] and held[1] ~= session then
  local left = whole(held[2]) - now
  if left > 0 then
    return {left, {}}
  end
end
redis.call('HSET', alerts, 'watcher', session, 'until', string.format('%d', now + lease), 'name', who)
for i = 5, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', alerts, ARGV[i])
  else
    redis.call('HSET', alerts, ARGV[i], ARGV[i + 1])
  end
end
redis.call('EXPIRE', alerts, string.format('%d', seconds))
local found = {}
local names = redis.call('HKEYS', alerts)
for i, value in ipairs(redis.call('HMGET', alerts, unpack(names))) do
  found[2 * i - 1], found[2 * i] = names[i], value
end
return {0, found}
