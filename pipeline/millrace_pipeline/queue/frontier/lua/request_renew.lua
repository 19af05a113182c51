#!lua flags=allow-oom
-- request_renew: extend the leases on requests.
--
-- Guarantee: only those that are ours; one that was taken over is not touched.
--
-- KEYS  1 leases  2 tokens
-- ARGV  1 lease (ms), then for each request: place, token
-- Returns for each request 1, or 0 if its lease is lost.
--include arguments

local leases, tokens = KEYS[1], KEYS[2]

--include whole

assert(#ARGV % 2 == 1, 'a request is cut off')
redis.call('ZCARD', leases)
redis.call('HLEN', tokens)
local time = redis.call('TIME')
local deadline = whole(time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1])
local ours = {}
for i = 2, #ARGV, 2 do
  local mine = redis.call('HGET', tokens, string.sub(ARGV[i], -15)) == ARGV[i + 1]
  if mine then
    redis.call('ZADD', leases, 'XX', deadline, ARGV[i])
  end
  ours[#ours + 1] = mine and 1 or 0
end
return ours
