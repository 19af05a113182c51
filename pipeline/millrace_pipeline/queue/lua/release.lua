#!lua flags=allow-oom
-- release: give a batch back, for whoever comes next, or for whoever comes after a while.
--
-- Guarantee: the batch keeps its id and its records (its output may already be written under that id). Its lease is
-- over at once, and the attempt is not counted; or it is put off, and the attempt is.
--
-- KEYS  1 leases  2 claims
-- ARGV  1 id  2 token  3 how long nobody may take it (ms)  4 why it is put off, for people
-- Returns 1, or 0 if the lease is lost (or was given back already).
local leases, claims = KEYS[1], KEYS[2]
local id, token = ARGV[1], ARGV[2]

local held = redis.call('HGET', claims, id)
local claim = held and cjson.decode(held)
if not claim or claim.token ~= token then
  return 0
end
local wait, due = tonumber(ARGV[3]), 0
assert(wait >= 0 and wait % 1 == 0, 'not a whole number')
claim.token = ''
if wait > 0 then
  local time = redis.call('TIME')
  due = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000) + wait)
  claim.delayed, claim.note = 'whole', ARGV[4]
  claim.delays, claim.why = (claim.delays or 0) + 1, ARGV[4]
else
  claim.attempts = math.max(0, claim.attempts - 1) -- one claimed ahead was never begun
end
redis.call('ZADD', leases, due, id) -- first, since it alone can fail: the claim was read
redis.call('HSET', claims, id, cjson.encode(claim))
return 1
