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
--       then for each batch: id, token, records that are done, delivered, filtered, foreign, bytes, its lists, its
--       dead letters,
--       and for each of these: reason, original bytes
-- Returns 1, or 0 if a lease is lost, or a batch has fewer records.
--include arguments

local leases, claims, counters, session, dead, states = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local number, time_to_live, name, state = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]

--include whole

if number <= tonumber(redis.call('HGET', session, 'settled') or '0') then
  return 1
end

-- What a failed command leaves behind in a script stays: so ask first whatever can fail.
local settled, seconds = whole(number), whole(time_to_live)
for _, count in ipairs(redis.call('HMGET', counters, 'in_flight', 'delivered', 'filtered', 'foreign', 'bytes_out')) do
  whole(count or 0)
end
redis.call('ZCOUNT', leases, 0, 0)
redis.call('XLEN', dead)
redis.call('HGET', states, name)

local batches, at, part = {}, 5, 7
while at <= #ARGV do
  local id = ARGV[at]
  local held = redis.call('HGET', claims, id)
  local claim = held and cjson.decode(held)
  if not claim or claim.token ~= ARGV[at + 1] then
    return 0
  end
  local batch = {id = id, claim = claim, at = at, part = part, attempts = whole(claim.attempts)}
  batch.done, batch.taken = tonumber(whole(ARGV[at + 2])), whole(-ARGV[at + 2])
  if batch.done > claim.records then
    return 0
  end
  batch.delivered, batch.filtered, batch.foreign = whole(ARGV[at + 3]), whole(ARGV[at + 4]), whole(ARGV[at + 5])
  batch.bytes = whole(ARGV[at + 6])
  batch.parts, batch.letters = tonumber(whole(ARGV[at + 7])), tonumber(whole(ARGV[at + 8]))
  for i = part, part + batch.parts - 1 do
    redis.call('LLEN', KEYS[i])
  end
  batches[#batches + 1] = batch
  at = at + 9 + 2 * batch.letters
  part = part + batch.parts
  assert(at <= #ARGV + 1, 'a dead letter is cut off')
end

for _, batch in ipairs(batches) do
  local id, claim, at = batch.id, batch.claim, batch.at
  for i = at + 9, at + 8 + 2 * batch.letters, 2 do
    redis.call('XADD', dead, '*', 'reason', ARGV[i], 'attempts', batch.attempts, 'batch', id, 'record', ARGV[i + 1])
  end
  local left = batch.done
  for i = batch.part, batch.part + batch.parts - 1 do
    local dropped = math.min(left, redis.call('LLEN', KEYS[i]))
    redis.call('LTRIM', KEYS[i], whole(dropped), -1)
    left = left - dropped
  end
  claim.records = claim.records - batch.done
  claim.attempts = 1
  if claim.records > 0 then
    redis.call('HSET', claims, id, cjson.encode(claim))
  else
    redis.call('HDEL', claims, id)
    redis.call('ZREM', leases, id)
  end
  redis.call('HINCRBY', counters, 'in_flight', batch.taken)
  redis.call('HINCRBY', counters, 'delivered', batch.delivered)
  redis.call('HINCRBY', counters, 'filtered', batch.filtered)
  redis.call('HINCRBY', counters, 'foreign', batch.foreign)
  redis.call('HINCRBY', counters, 'bytes_out', batch.bytes)
end
if state ~= '' then
  redis.call('HSET', states, name, state)
end
redis.call('HSET', session, 'settled', settled)
redis.call('EXPIRE', session, seconds)
return 1
