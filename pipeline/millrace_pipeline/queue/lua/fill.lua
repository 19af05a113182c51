#!lua flags=allow-oom
-- fill: top up a batch that is still lingering, as one more step with a list of its own, and renew its lease.
--
-- Guarantee: only while the lease is ours, and once per step: sent again after a lost reply it answers the same.
-- (SORT … STORE replaces its destination, hence a list a step.) One that found nothing is remembered by its number: its
-- twin, arriving late, would add records that whoever holds the batch never hears of.
--
-- KEYS  1 ready  2 woken  3 leases  4 claims  5 counters  6 the step's list  7 steering
-- ARGV  1 id  2 token  3 step  4 want  5 lease (ms)  6 the number of this fill, of those of the claim
-- Returns the records this step added; 0 where none were waiting, or the consumers are paused (then the step doesn't
-- count); -1 if the lease is lost.
local ready, woken, leases, claims, counters, part = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local steering = KEYS[7]
local id, token, step, want, number = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6])

--include whole

local held = redis.call('HGET', claims, id)
local claim = held and cjson.decode(held)
-- A step further on: Redis came back without the one before, whose records the consumer holds and others will claim.
if not claim or claim.token ~= token or step > claim.steps + 1 then
  return -1
end

-- What a failed command leaves behind in a script stays: so ask first whatever can fail.
local time = redis.call('TIME')
local until_then = whole(time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[5])
whole(want)
whole(step)
whole(number)
whole(redis.call('HGET', counters, 'in_flight') or 0)
redis.call('LLEN', woken)
redis.call('LLEN', ready)
redis.call('LLEN', part)
local paused = redis.call('HGET', steering, 'consumers')

redis.call('ZADD', leases, until_then, id)
if step <= claim.steps then
  return redis.call('LLEN', part)
end
if number <= (claim.fills or 0) then
  return 0
end

claim.fills = number
local records = 0
if not paused then
  while redis.call('LMOVE', woken, ready, 'LEFT', 'RIGHT') do end
  records = math.min(want, redis.call('LLEN', ready))
end
if records == 0 then
  redis.call('HSET', claims, id, cjson.encode(claim))
  return 0
end
redis.call('SORT', ready, 'BY', 'nosort', 'DESC', 'LIMIT', 0, whole(records), 'STORE', part)
redis.call('LTRIM', ready, 0, whole(-(records + 1)))
claim.steps = step
claim.records = claim.records + records
redis.call('HSET', claims, id, cjson.encode(claim))
redis.call('HINCRBY', counters, 'in_flight', whole(records))
return records
