#!lua flags=allow-oom
-- request_asked: the hosts of these requests have been asked; each may be asked again when its delay from now is over.
--
-- Guarantee: only where the host's turn is that request's, and its lease ours; sent again it changes nothing. What is
-- settled needs none of this. Works at maxmemory.
--
-- KEYS  1-14 the crawl's
-- ARGV  for each request: place, token
-- Returns for each request 1, or 0 if its lease is lost.
--include arguments
--include whole
--include frontier
assert(#ARGV % 2 == 0, 'a request is cut off')
local f, ours = frontier(KEYS), {}
for i = 1, #ARGV, 2 do
  local mine = redis.call('HGET', f.tokens, id_of(ARGV[i])) == ARGV[i + 1]
  if mine then
    is_asked(f, ARGV[i])
  end
  ours[#ours + 1] = mine and 1 or 0
end
return ours
