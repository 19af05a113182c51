#!lua flags=allow-oom
-- delay: take records out of a batch, and put them off, as batches of their own that nobody may take over before a time.
--
-- Guarantee: all or nothing, only while the lease is ours, and once per (session, number): sent again after a lost
-- reply, or arriving late, it changes nothing. Each record keeps its bytes, and its place among those that are put off
-- with it; they stay in flight. What is left keeps the batch's id and its lease; where nothing is, the batch is gone.
-- Only for a batch that no sink has seen: its output would hold other records than the batch.
--
-- KEYS  1 leases  2 claims  3 session  4… the lists of the batch, then one for each batch that is put off
-- ARGV  1 id  2 token  3 number  4 session time to live (s)  5 lists of the batch  6 records of the batch
--       then for each batch that is put off: id, how long (ms), why, records, their places in the batch, from 0
-- Returns 1, or 0 if the lease is lost, or the batch has other records.
--include arguments

local leases, claims, session = KEYS[1], KEYS[2], KEYS[3]
local id, token, number = ARGV[1], ARGV[2], tonumber(ARGV[3])

--include whole

if number <= tonumber(redis.call('HGET', session, 'delayed') or '0') then
  return 1
end
local held = redis.call('HGET', claims, id)
local claim = held and cjson.decode(held)
if not claim or claim.token ~= token then
  return 0
end

-- What a failed command leaves behind in a script stays: so ask first whatever can fail.
local through, seconds, parts = whole(number), whole(ARGV[4]), tonumber(whole(ARGV[5]))
local count = 0
for part = 4, 3 + parts do
  count = count + redis.call('LLEN', KEYS[part])
end
assert(count == claim.records, 'the batch has other records than its claim says')
if count ~= tonumber(whole(ARGV[6])) then
  return 0 -- Redis came back without the last that it was told of the batch
end
redis.call('ZCOUNT', leases, 0, 0)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local put_off, goes_to, moved = {}, {}, 0
local at, list = 7, 4 + parts
while at <= #ARGV do
  local one = {id = ARGV[at], due = whole(now + ARGV[at + 1]), note = ARGV[at + 2], list = KEYS[list]}
  one.records = tonumber(whole(ARGV[at + 3]))
  assert(one.list and one.records > 0 and at + 3 + one.records <= #ARGV, 'a batch that is put off is cut off')
  assert(redis.call('LLEN', one.list) == 0, 'that batch is there already')
  for i = at + 4, at + 3 + one.records do
    local place = tonumber(whole(ARGV[i]))
    assert(place >= 0 and place < count and not goes_to[place], 'no such place in the batch')
    goes_to[place] = one.list
  end
  put_off[#put_off + 1] = one
  moved = moved + one.records
  at, list = at + 4 + one.records, list + 1
end

local place = 0
for part = 4, 3 + parts do -- each list is turned round once, and so is as it was without what went elsewhere
  for _ = 1, redis.call('LLEN', KEYS[part]) do
    redis.call('LMOVE', KEYS[part], goes_to[place] or KEYS[part], 'LEFT', 'RIGHT')
    place = place + 1
  end
end
for _, one in ipairs(put_off) do
  redis.call('ZADD', leases, one.due, one.id)
  redis.call('HSET', claims, one.id, cjson.encode({
    token = '', consumer = claim.consumer, attempts = math.max(1, claim.attempts), steps = 1, records = one.records,
    since = claim.since, note = one.note, delayed = 'new', delays = (claim.delays or 0) + 1, why = one.note,
  }))
end
claim.records = claim.records - moved
if claim.records > 0 then
  redis.call('HSET', claims, id, cjson.encode(claim))
else
  redis.call('HDEL', claims, id)
  redis.call('ZREM', leases, id)
end
redis.call('HSET', session, 'delayed', through)
redis.call('EXPIRE', session, seconds)
return 1
