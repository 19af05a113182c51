#!lua flags=allow-oom
-- begin: a batch that was claimed ahead of its time is begun: its attempt counts from here, and its lease anew.
--
-- Guarantee: only while the lease is ours; sent again it changes nothing but the lease's end.
--
-- KEYS  1 leases  2 claims
-- ARGV  1 id  2 token  3 lease (ms)
-- Returns 1, or 0 if the lease is lost.
local leases, claims = KEYS[1], KEYS[2]
local id, token = ARGV[1], ARGV[2]

local held = redis.call('HGET', claims, id)
local claim = held and cjson.decode(held)
if not claim or claim.token ~= token then
  return 0
end
claim.attempts = math.max(1, claim.attempts)
local time = redis.call('TIME')
local until_then = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3])
redis.call('ZADD', leases, until_then, id) -- first, since it alone can fail: the claim was read
redis.call('HSET', claims, id, cjson.encode(claim))
return 1
