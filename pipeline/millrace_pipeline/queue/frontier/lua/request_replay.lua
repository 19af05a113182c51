#!lua flags=allow-oom
-- request_replay: put dead requests back on the frontier, or drop them for good.
--
-- Guarantee: each is dead or waits, never both; once, however often it is sent. Its attempts begin anew; outputs that
-- are on the list already are not put there again. What a person did is noted in the same step.
--
-- KEYS  1-14 the crawl's  15 changes
-- ARGV  1 the change's id  2 what it says of itself  3 how many changes are kept  4 replay or drop, then their numbers
-- Returns how many there were.
--include arguments
--include whole
--include frontier
--include change
local f, changes = frontier(KEYS), KEYS[15]
local change, told, kept, what = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

may_note(changes, change, told, kept)
assert(what == 'replay' or what == 'drop', 'neither replay nor drop')
assert(#ARGV > 4, 'no request')
local found = {}
for i = 5, #ARGV do
  local text = redis.call('HGET', f.dead, ARGV[i])
  if text then
    local letter = cjson.decode(text)
    assert(type(letter.place) == 'string' and id_of(letter.place) == ARGV[i], 'it has another place')
    found[#found + 1] = letter.place
  end
end
if #found == 0 then
  return 0
end
for _, place in ipairs(found) do
  redis.call('HDEL', f.dead, id_of(place))
  redis.call('HDEL', f.attempts, id_of(place))
  if what == 'replay' then
    wait(f, place)
  else
    redis.call('HDEL', f.requests, id_of(place))
    redis.call('HDEL', f.parts, id_of(place))
    f.dropped = f.dropped + 1
  end
end
write_counts(f)
note(changes, change, told, kept, #found)
return #found
