#!lua flags=allow-oom
-- settle: the first so many records of each of these batches are done. Drop them, count them, and keep what their
-- reader remembers: one step.
--
-- Guarantee: all or nothing, only while every one of the leases is ours, and once per (session, number): sent again
-- after a lost reply, or arriving late, it changes nothing. A batch of which nothing is left is done; another keeps its
-- id, its lease and the rest of its records, and its attempts begin anew, since it got on.
--
-- KEYS  1 leases  2 claims  3 counters  4 session  5 dead  6 states  7… the lists of the batches, one batch after another
-- ARGV  1 number  2 session time to live (s)  3 reader's name  4 its state, or empty to leave it as it is
--       then for each batch: id, token, records that are done, delivered, filtered, foreign, its lists, its dead letters,
--       and for each of these: reason, original bytes
-- Returns 1, or 0 if a lease is lost.
local leases, claims, counters, session, dead, states = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local number, time_to_live, name, state = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]

if number <= tonumber(redis.call('HGET', session, 'settled') or '0') then
  return 1
end

local batches, at, part = {}, 5, 7
while at <= #ARGV do
  local id, letters = ARGV[at], tonumber(ARGV[at + 7])
  local held = redis.call('HGET', claims, id)
  local claim = held and cjson.decode(held)
  if not claim or claim.token ~= ARGV[at + 1] then
    return 0
  end
  batches[#batches + 1] = {id = id, claim = claim, at = at, part = part, letters = letters}
  at = at + 8 + 2 * letters
  part = part + ARGV[batches[#batches].at + 6]
end

for _, batch in ipairs(batches) do
  local id, claim, at = batch.id, batch.claim, batch.at
  local done, parts = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 6])
  for i = at + 8, at + 7 + 2 * batch.letters, 2 do
    redis.call('XADD', dead, '*', 'reason', ARGV[i], 'attempts', claim.attempts, 'batch', id, 'record', ARGV[i + 1])
  end
  local left = done
  for i = batch.part, batch.part + parts - 1 do
    local dropped = math.min(left, redis.call('LLEN', KEYS[i]))
    redis.call('LTRIM', KEYS[i], dropped, -1)
    left = left - dropped
  end
  claim.records = claim.records - done
  claim.attempts = 1
  if claim.records > 0 then
    redis.call('HSET', claims, id, cjson.encode(claim))
  else
    redis.call('HDEL', claims, id)
    redis.call('ZREM', leases, id)
  end
  redis.call('HINCRBY', counters, 'in_flight', -done)
  redis.call('HINCRBY', counters, 'delivered', ARGV[at + 3])
  redis.call('HINCRBY', counters, 'filtered', ARGV[at + 4])
  redis.call('HINCRBY', counters, 'foreign', ARGV[at + 5])
end
if state ~= '' then
  redis.call('HSET', states, name, state)
end
redis.call('HSET', session, 'settled', number)
redis.call('EXPIRE', session, time_to_live)
return 1
