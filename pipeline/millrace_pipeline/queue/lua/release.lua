#!lua flags=allow-oom
-- release: give a batch back for whoever comes next.
--
-- Guarantee: the batch keeps its id and its records (its output may already be written under that id); its lease is
-- over at once and the attempt is not counted.
--
-- KEYS  1 leases  2 claims
-- ARGV  1 id  2 token
-- Returns 1, or 0 if the lease is lost (or was given back already).
local leases, claims = KEYS[1], KEYS[2]
local id, token = ARGV[1], ARGV[2]

local held = redis.call('HGET', claims, id)
local claim = held and cjson.decode(held)
if not claim or claim.token ~= token then
  return 0
end
claim.token = ''
claim.attempts = math.max(0, claim.attempts - 1) -- one claimed ahead was never begun
redis.call('ZADD', leases, 0, id) -- first, since it alone can fail: the claim was read
redis.call('HSET', claims, id, cjson.encode(claim))
return 1
