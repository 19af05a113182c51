#!lua
-- request_offer: put requests on the frontier, but for those whose fingerprint was seen.
--
-- Guarantee: all or nothing, and once per (session, number): sent again after a lost reply, or arriving late, it changes
-- nothing.
--
-- KEYS  1-14 the crawl's  15 session
-- ARGV  1 number  2 session time to live (s)  3 requests
--       then for each request: slot, rank, fingerprint or empty, delay (ms), the request as JSON
-- Returns how many were new; 0 where it was done before; -1 where there is no such crawl.
--include arguments
--include whole
--include frontier
local f, session = frontier(KEYS), KEYS[15]
local number, seconds, requests = tonumber(ARGV[1]), whole(ARGV[2]), tonumber(whole(ARGV[3]))
local offered = whole(number)

may_put(4, requests)
if not redis.call('HGET', f.crawl, 'began') then
  return -1
end
if number <= tonumber(redis.call('HGET', session, 'offered') or '0') then
  return 0
end
local new = put(f, 4, requests)
write_counts(f)
redis.call('HSET', session, 'offered', offered)
redis.call('EXPIRE', session, seconds)
return new
