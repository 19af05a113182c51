#!lua flags=allow-oom
-- reclaim: take over the batch whose lease ran out first; in order, the oldest, once its lease has run out.
--
-- Guarantee: the same id and the same records as before, the attempt counted; whoever held it is fenced from here on.
-- Once per (session, number): sent again after a lost reply it answers the same batch.
--
-- KEYS  1 leases  2 claims  3 session  4 steering
-- ARGV  1 token  2 number  3 lease (ms)  4 consumer  5 session time to live (s)  6 1 for in order, else 0
-- Returns {id, attempts, steps, records, 1 if it was put off and no sink has seen it, how many of its attempts put it
-- off, why the last did}, or nothing where no lease has run out, or the consumers are paused.
local leases, claims, session, steering = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, number = ARGV[1], tonumber(ARGV[2])

--include whole

local function answer(id, claim)
  local unseen = claim.unseen == token and 1 or 0
  return {id, claim.attempts, claim.steps, claim.records, unseen, claim.delays or 0, claim.why or ''}
end

local before = redis.call('HMGET', session, 'reclaimed', 'reclaimed_batch')
if number <= tonumber(before[1] or '0') then
  local held = redis.call('HGET', claims, before[2])
  if held and cjson.decode(held).token == token then
    return answer(before[2], cjson.decode(held))
  end
  return false
end
if redis.call('HGET', steering, 'consumers') then
  return false
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id = redis.call('ZRANGE', leases, '-inf', now, 'BYSCORE', 'LIMIT', 0, 1)[1]
if not id then
  return false
end
local claim = cjson.decode(redis.call('HGET', claims, id))
if ARGV[6] == '1' then
  -- There are several where a batch was split, whose halves are as old as it was and named in their order, or from
  -- before the list was to be in order.
  local all = redis.call('ZRANGE', leases, '-inf', '+inf', 'BYSCORE', 'WITHSCORES')
  for i = 1, #all, 2 do
    local other = cjson.decode(redis.call('HGET', claims, all[i]))
    if other.since < claim.since or (other.since == claim.since and all[i] < id) then
      if tonumber(all[i + 1]) > now then
        return false
      end
      id, claim = all[i], other
    end
  end
end
claim.token, claim.fills = token, nil
claim.consumer = ARGV[4]
claim.attempts = claim.attempts + 1
if claim.delayed then
  claim.unseen = claim.delayed == 'new' and token or nil
  claim.delayed, claim.note = nil, nil
end
local until_then, seconds = whole(now + ARGV[3]), whole(ARGV[5])
local reclaimed = whole(number)
redis.call('HSET', claims, id, cjson.encode(claim))
redis.call('ZADD', leases, until_then, id)
redis.call('HSET', session, 'reclaimed', reclaimed, 'reclaimed_batch', id)
redis.call('EXPIRE', session, seconds)
return answer(id, claim)
