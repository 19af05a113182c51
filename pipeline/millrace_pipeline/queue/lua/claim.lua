#!lua flags=allow-oom
-- claim: move up to `want` records from the tail of the list into a batch of their own, under a lease.
--
-- Guarantee: all or nothing, and once per (session, number): sent again after a lost reply it answers what the first
-- one did; arriving late, after the batch is done, it does nothing. The records never pass through Lua: SORT … STORE
-- copies the tail slice in one go (O(want) at any depth), LTRIM cuts it off. Works at maxmemory (allow-oom), since a
-- claim is what frees memory in the end.
--
-- While the consumers are paused it takes nothing, and no lease counts as run out. In order it takes nothing while
-- any batch is there, whoever has it, and whether its lease has run out or not.
--
-- KEYS  1 ready  2 woken  3 leases  4 claims  5 counters  6 session  7 batch  8 steering
-- ARGV  1 id  2 token  3 number  4 want  5 lease (ms)  6 consumer  7 session time to live (s)
--       8 attempts to begin with: 1, or 0 for one that is claimed ahead of its time (begin counts it)
--       9 1 for in order, else 0
-- Returns {records now in the batch, 1 if some lease has run out else 0}, and where the consumers are paused who did it,
-- as JSON; behind that 1 where, in order, another batch must be done with first. records is -1 where this claim was made
-- before and its batch is no longer ours.
local ready, woken, leases, claims = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local counters, session, batch, steering = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local id, token, number, want = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

--include whole

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local overdue = redis.call('ZCOUNT', leases, '-inf', now) > 0 and 1 or 0

local claimed = tonumber(redis.call('HGET', session, 'claimed') or '0')
if number <= claimed then
  local held = redis.call('HGET', claims, id)
  if held and cjson.decode(held).token == token then
    return {cjson.decode(held).records, overdue}
  end
  return {-1, overdue}
end

-- What a failed command leaves behind in a script stays: so ask first whatever can fail.
local until_then, seconds, attempts = whole(now + ARGV[5]), whole(ARGV[7]), tonumber(whole(ARGV[8]))
whole(want)
whole(number)
whole(redis.call('HGET', counters, 'in_flight') or 0)
redis.call('HGET', claims, id)
redis.call('LLEN', woken)
redis.call('LLEN', ready)
redis.call('LLEN', batch)
local paused = redis.call('HGET', steering, 'consumers')
if paused then
  return {0, 0, paused}
end
if ARGV[9] == '1' and redis.call('ZCOUNT', leases, '-inf', '+inf') > 0 then
  return {0, overdue, false, 1}
end

-- A consumer that waited in BLMOVE left the record that woke it in `woken`: put those back, oldest last, so that one
-- slice takes them too.
while redis.call('LMOVE', woken, ready, 'LEFT', 'RIGHT') do end

local records = math.min(want, redis.call('LLEN', ready))
if records == 0 then
  return {0, overdue}
end
redis.call('SORT', ready, 'BY', 'nosort', 'DESC', 'LIMIT', 0, whole(records), 'STORE', batch)
redis.call('LTRIM', ready, 0, whole(-(records + 1)))
redis.call('ZADD', leases, until_then, id)
redis.call('HSET', claims, id, cjson.encode({
  token = token, consumer = ARGV[6], attempts = attempts, steps = 1, records = records, since = now,
}))
redis.call('HINCRBY', counters, 'in_flight', whole(records))
redis.call('HSET', session, 'claimed', whole(number))
redis.call('EXPIRE', session, seconds)
return {records, overdue}
