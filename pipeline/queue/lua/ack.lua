#!lua flags=allow-oom
-- ack: the batch is durable. Drop it, set its dead letters aside, move the counters: one step.
--
-- Guarantee: all or nothing, only while the lease is ours, and once: sent again after a lost reply it answers 1.
--
-- KEYS  1 leases  2 claims  3 counters  4 session  5 dead  6… the lists of the batch
-- ARGV  1 id  2 token  3 delivered  4 filtered  5 foreign  6 session time to live (s)
--       then for each dead letter: reason, original bytes
-- Returns 1, or 0 if the lease is lost.
local leases, claims, counters, session, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, token = ARGV[1], ARGV[2]

local held = redis.call('HGET', claims, id)
local claim = held and cjson.decode(held)
if not claim or claim.token ~= token then
  return redis.call('HGET', session, 'acked') == token and 1 or 0
end

for i = 7, #ARGV, 2 do
  redis.call('XADD', dead, '*', 'reason', ARGV[i], 'attempts', claim.attempts, 'batch', id, 'record', ARGV[i + 1])
end
for i = 6, #KEYS do
  redis.call('UNLINK', KEYS[i])
end
redis.call('HDEL', claims, id)
redis.call('ZREM', leases, id)
redis.call('HINCRBY', counters, 'in_flight', -claim.records)
redis.call('HINCRBY', counters, 'delivered', ARGV[3])
redis.call('HINCRBY', counters, 'filtered', ARGV[4])
redis.call('HINCRBY', counters, 'foreign', ARGV[5])
redis.call('HSET', session, 'acked', token)
redis.call('EXPIRE', session, ARGV[6])
return 1
