#!lua flags=allow-oom
-- lead: become, or stay, the one producer of a source that must not run twice.
--
-- Guarantee: one leader at a time, by Redis' clock. A takeover changes `epochs`, which every publish watches: whatever
-- the leader before still sends is not applied, however late it arrives. Staying leader changes nothing there. The leader
-- keeps the number of its takeover: who finds another one there than it began with was replaced for a while.
--
-- KEYS  1 leader  2 epochs
-- ARGV  1 session  2 lease (ms)  3 who, for people
-- Returns {0 where we lead, else the milliseconds until the leader's lease runs out; the number of the leader's takeover;
-- 1 where nobody has led before, else 0}.
local leader, epochs = KEYS[1], KEYS[2]
local session, who = ARGV[1], assert(ARGV[3])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local until_then = string.format('%d', now + ARGV[2])
local held = redis.call('HMGET', leader, 'session', 'until', 'epoch')
if held[1] and held[1] ~= session then
  local left = tonumber(held[2]) - now
  if left > 0 then
    return {left, held[3] or '', 0}
  end
end
local epoch = held[3] or ''
if held[1] ~= session then
  epoch = string.format('%d', redis.call('INCR', epochs)) -- first, since it alone can fail: the leader was read
end
redis.call('HSET', leader, 'session', session, 'until', until_then, 'name', who, 'epoch', epoch)
return {0, epoch, held[1] and 0 or 1}
