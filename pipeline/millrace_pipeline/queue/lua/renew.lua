#!lua flags=allow-oom
-- renew: extend the lease on a batch.
--
-- Guarantee: only while the lease is ours; a batch that someone has reclaimed is not touched.
--
-- KEYS  1 leases  2 claims
-- ARGV  1 id  2 token  3 lease (ms)  4 note: what keeps the batch waiting, for people; empty leaves it as it is
-- Returns 1, or 0 if the lease is lost.
local leases, claims = KEYS[1], KEYS[2]
local id, token = ARGV[1], ARGV[2]

local held = redis.call('HGET', claims, id)
local claim = held and cjson.decode(held)
if not claim or claim.token ~= token then
  return 0
end
local time = redis.call('TIME')
local until_then = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3])
redis.call('ZADD', leases, until_then, id) -- first, since it alone can fail: the claim was read
if ARGV[4] ~= '' then
  claim.note = ARGV[4]
  redis.call('HSET', claims, id, cjson.encode(claim))
end
return 1
