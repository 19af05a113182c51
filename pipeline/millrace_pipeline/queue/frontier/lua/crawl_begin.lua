#!lua
-- crawl_begin: begin a crawl, with the request that stands for its spider's start().
--
-- Guarantee: a crawl is begun once, by whoever comes first; sent again it changes nothing.
--
-- KEYS  1-14 the crawl's  15 crawls
-- ARGV  1 the crawl's name  2 what is known of it, as JSON  3 requests
--       then for each request: slot, rank, fingerprint or empty, delay (ms), the request as JSON
-- Returns 1 where the crawl began by this, else 0.
--include arguments
--include whole
--include frontier
local f, crawls = frontier(KEYS), KEYS[15]
local name, about, requests = ARGV[1], ARGV[2], tonumber(whole(ARGV[3]))

assert(string.find(about, '^{.*}$'), 'not what is known of a crawl')
may_put(4, requests)
redis.call('HLEN', crawls)
if redis.call('HGET', f.crawl, 'began') then
  return 0
end
redis.call('HSET', f.crawl, 'began', whole(f.now), 'about', about)
redis.call('HSET', crawls, name, whole(f.now))
put(f, 4, requests)
write_counts(f)
return 1
