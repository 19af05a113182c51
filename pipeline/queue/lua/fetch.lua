#!lua flags=allow-oom
-- fetch: move elements of somebody's list to a list of ours, and see what of ours is still to be published.
--
-- Guarantee: an element is in exactly one of the two lists, and has the same number for as long as it is in ours: that
-- of the last one removed (see remove), and its place behind it. Moving them in a script is no slower than a client's
-- own LMOVEs, and the numbers are those of one instant.
--
-- KEYS  1 their list  2 our list, oldest first  3 state: hash of name and done
-- ARGV  1 how many to move at most  2 which end of theirs to take (LEFT or RIGHT)  3 the number to begin at
--       4 a name for the numbering, where it has none yet
-- Returns the numbering's name, how many were ever removed, how many were ever moved, and the elements from number
-- ARGV[3] on.
local theirs, ours, state = KEYS[1], KEYS[2], KEYS[3]

redis.call('HSETNX', state, 'name', ARGV[4])
for _ = 1, tonumber(ARGV[1]) do
  if not redis.call('LMOVE', theirs, ours, ARGV[2], 'RIGHT') then
    break
  end
end
local done = tonumber(redis.call('HGET', state, 'done') or 0)
local first = math.max(tonumber(ARGV[3]) - done, 0)
return {redis.call('HGET', state, 'name'), done, done + redis.call('LLEN', ours), redis.call('LRANGE', ours, first, -1)}
