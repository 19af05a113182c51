#!lua flags=allow-oom
-- requeue: a person takes a batch away from whoever holds it, for others: on the list again, or whole, under its id.
--
-- Guarantee: all or nothing. Who held it is fenced from here on: its renewals, its fills and its ack are refused. A batch
-- whose lease is still good is left alone, unless forced. On the list the records are taken next, in their order, in
-- batches with other ids; whole it can be taken over at once, and its attempts stay counted. It is noted in the same step.
--
-- KEYS  1 leases  2 claims  3 counters  4 ready  5 changes  6… the lists of the batch, oldest first
-- ARGV  1 the change's id  2 what it says of itself  3 how many changes are kept  4 the batch  5 1 to keep it whole, else 0
--       6 1 to take it though its lease is good, else 0
-- Returns {records, 0}; {0, milliseconds} of a lease that is good; {-1, 0} where there is no such batch (any more).
--include change
local leases, claims, counters, ready, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, told, kept, batch, stays, forced = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

--include whole

may_note(changes, id, told, kept)
assert(stays == '0' or stays == '1', 'neither 0 nor 1')
assert(forced == '0' or forced == '1', 'neither 0 nor 1')
whole(redis.call('HGET', counters, 'in_flight') or 0)
redis.call('LLEN', ready)
local held = redis.call('HGET', claims, batch)
local until_then = tonumber(redis.call('ZSCORE', leases, batch) or '0')
local found = 0
for i = 6, #KEYS do
  found = found + redis.call('LLEN', KEYS[i])
end
if not held then
  return {-1, 0}
end
local claim = cjson.decode(held)
assert(found == claim.records, 'these are not the lists of the batch')
local clock = redis.call('TIME')
local left = until_then - (clock[1] * 1000 + math.floor(clock[2] / 1000))
if left > 0 and forced == '0' then
  return {0, left}
end

if stays == '1' then
  claim.token = ''
  redis.call('ZADD', leases, '0', batch)
  redis.call('HSET', claims, batch, cjson.encode(claim))
else
  for i = #KEYS, 6, -1 do
    while redis.call('LMOVE', KEYS[i], ready, 'RIGHT', 'RIGHT') do end
  end
  redis.call('HDEL', claims, batch)
  redis.call('ZREM', leases, batch)
  redis.call('HINCRBY', counters, 'in_flight', whole(-claim.records))
end
note(changes, id, told, kept, claim.records)
return {claim.records, 0}
