#!lua flags=allow-oom
-- split: part a batch that keeps killing its consumers in two, to find the record that does it.
--
-- Guarantee: all or nothing, only while the lease is ours. The halves hold the same records in the same order, under
-- ids of their own, ready to be reclaimed at once; each has one attempt left, so that finding one record among n takes
-- about log2(n) deaths more. Only for a batch of which the sink holds nothing: its output would be written again under
-- the halves' ids.
--
-- KEYS  1 leases  2 claims  3 first half  4 second half  5… the lists of the batch, oldest first
-- ARGV  1 id  2 token  3 first half's id  4 second half's id  5 attempts the halves start with
-- Returns 1, or 0 if the lease is lost.
local leases, claims = KEYS[1], KEYS[2]
local id, token = ARGV[1], ARGV[2]

local held = redis.call('HGET', claims, id)
local claim = held and cjson.decode(held)
if not claim or claim.token ~= token then
  return 0
end

-- What a failed command leaves behind in a script stays: so ask first whatever can fail.
local attempts, found = tonumber(ARGV[5]), 0
assert(attempts % 1 == 0, 'not a whole number')
redis.call('ZCOUNT', leases, 0, 0)
for i = 3, 4 do
  redis.call('LLEN', KEYS[i])
end
for i = 5, #KEYS do
  found = found + redis.call('LLEN', KEYS[i])
end
assert(found >= claim.records, 'the batch has fewer records than its claim says')

local sizes = {math.floor(claim.records / 2), math.ceil(claim.records / 2)}
local part = 5
for half = 1, 2 do
  for _ = 1, sizes[half] do
    while not redis.call('LMOVE', KEYS[part], KEYS[2 + half], 'LEFT', 'RIGHT') do
      part = part + 1
    end
  end
  redis.call('ZADD', leases, 0, ARGV[2 + half])
  redis.call('HSET', claims, ARGV[2 + half], cjson.encode({
    token = '', consumer = claim.consumer, attempts = attempts, steps = 1, records = sizes[half],
    since = claim.since, delays = claim.delays, why = claim.why,
  }))
end
redis.call('HDEL', claims, id)
redis.call('ZREM', leases, id)
return 1
