#!lua flags=allow-oom
-- remove: forget elements of our list (see fetch) that were published.
--
-- Guarantee: sent twice, or late, it changes nothing more; with another numbering's name it changes nothing.
--
-- KEYS  1 our list, oldest first  2 state: hash of name and done
-- ARGV  1 the numbering's name  2 the number behind the last one that was published
-- Returns how many are gone by it.
local ours, state = KEYS[1], KEYS[2]

local count = tonumber(ARGV[2]) - tonumber(redis.call('HGET', state, 'done') or 0)
if redis.call('HGET', state, 'name') ~= ARGV[1] or count <= 0 then
  return 0
end
redis.call('LTRIM', ours, string.format('%d', count), -1) -- first, since it alone can fail: the state was read
redis.call('HSET', state, 'done', string.format('%d', ARGV[2]))
return count
