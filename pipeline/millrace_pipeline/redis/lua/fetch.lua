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

-- What a failed command leaves behind in a script stays: so ask first whatever can fail.
local done = tonumber(redis.call('HGET', state, 'done') or 0)
local first = string.format('%d', math.max(tonumber(ARGV[3]) - done, 0))
local count = assert(tonumber(ARGV[1]), 'not a number')
assert(ARGV[2] == 'LEFT' or ARGV[2] == 'RIGHT', 'no end of a list')
redis.call('LLEN', theirs)
redis.call('LLEN', ours)

redis.call('HSETNX', state, 'name', ARGV[4])
for _ = 1, count do
  if not redis.call('LMOVE', theirs, ours, ARGV[2], 'RIGHT') then
    break
  end
end
return {redis.call('HGET', state, 'name'), done, done + redis.call('LLEN', ours), redis.call('LRANGE', ours, first, -1)}
