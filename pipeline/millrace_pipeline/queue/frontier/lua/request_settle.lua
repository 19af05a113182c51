#!lua
-- request_settle: what a page gave goes where it belongs, and its request is done, delayed, set aside or given back.
--
-- Guarantee: one step: its items are on the list, the requests whose fingerprint is new on the frontier, what JSON can't
-- say among the dead letters, the counters moved, and the request is where its outcome says. Only while the lease is
-- ours. Once per (session, number), and in the order of the numbers: sent again after a lost reply, or arriving late, it
-- changes nothing. Where Redis is full it changes nothing either.
--
-- KEYS  1-14 the crawl's  15 session  16 ready  17 counters  18 dead letters
-- ARGV  1 number  2 session time to live (s)  3 token  4 place
--       5 outcome: done, part (a page that goes on), later, dead, back (the attempt is not counted)
--       6 for later so many ms; for dead why, as JSON; else empty
--       7 outputs of the page that are put with this, over all its parts  8 the kind of error to count, or empty
--       9 items that pipelines dropped  10 for so long nobody asks its host (ms)  11 the host's delay from now on
--       (ms), or empty  12 items  13 dead letters  14 requests
--       then the items; for each dead letter reason, original bytes; for each request slot, rank, fingerprint or empty,
--       delay (ms), its JSON
-- Returns {1, number}; {0, number} where the lease is lost; {-1, the last number that Redis knows} where it has
-- forgotten one before this.
--include arguments
--include whole
--include frontier
local f, session, ready, counters, letters = frontier(KEYS), KEYS[15], KEYS[16], KEYS[17], KEYS[18]
local number, seconds, token, place = tonumber(ARGV[1]), whole(ARGV[2]), ARGV[3], ARGV[4]
local outcome, what, outputs, kind = ARGV[5], ARGV[6], whole(ARGV[7]), ARGV[8]
local dropped, hold, delay = tonumber(whole(ARGV[9])), tonumber(whole(ARGV[10])), ARGV[11]
local items, dead, requests = tonumber(whole(ARGV[12])), tonumber(whole(ARGV[13])), tonumber(whole(ARGV[14]))
local through, id = whole(number), id_of(place)

local settled = tonumber(whole(redis.call('HGET', session, 'pages_settled') or 0))
local lost = redis.call('HGET', session, 'pages_lost') or ','
if number <= settled then
  return {string.find(lost, ',' .. through .. ',', 1, true) and 0 or 1, number}
end
if number > settled + 1 then
  return {-1, settled}
end
local first_letter = 15 + items
local first_request = first_letter + 2 * dead
assert(items >= 0 and dead >= 0 and requests >= 0 and dropped >= 0 and hold >= 0, 'less than none')
assert(delay == '' or string.find(delay, '^%d+$'), 'not a delay')
may_put(first_request, requests)
local outcomes = {done = true, part = true, later = true, dead = true, back = true}
assert(outcomes[outcome], 'not an outcome')
local due = outcome == 'later' and whole(f.now + what)
local why = outcome == 'dead' and cjson.decode(what)
whole(redis.call('HGET', counters, 'published') or 0)
whole(redis.call('HGET', counters, 'bytes_in') or 0)
redis.call('LLEN', ready)
redis.call('XLEN', letters)

local ours = redis.call('HGET', f.tokens, id) == token
if ours then
  local bytes = 0
  for i = 15, first_letter - 1, 1000 do
    redis.call('LPUSH', ready, unpack(ARGV, i, math.min(i + 999, first_letter - 1)))
  end
  for i = 15, first_letter - 1 do
    bytes = bytes + #ARGV[i]
  end
  for i = first_letter, first_request - 1, 2 do
    redis.call('XADD', letters, '*', 'reason', ARGV[i], 'attempts', 0, 'batch', '', 'record', ARGV[i + 1])
    bytes = bytes + #ARGV[i + 1]
  end
  if items + dead > 0 then
    redis.call('HINCRBY', counters, 'published', whole(items + dead))
    redis.call('HINCRBY', counters, 'bytes_in', whole(bytes))
  end
  f.items, f.items_dropped = f.items + items, f.items_dropped + dropped
  put(f, first_request, requests)

  local slot = slot_of(place)
  if hold > 0 then
    local turn = whole(math.max(f.now + hold, count(redis.call('HGET', f.next, slot))))
    redis.call('HSET', f.next, slot, turn)
    redis.call('ZADD', f.turns, 'XX', 'GT', turn, slot)
  end
  if delay ~= '' then
    redis.call('HSET', f.delays, slot, delay)
  end
  if kind ~= '' then
    local field = 'error:' .. kind
    redis.call('HSET', f.crawl, field, whole(count(redis.call('HGET', f.crawl, field)) + 1))
  end
  local attempts = count(redis.call('HGET', f.attempts, id))
  if outcome == 'part' then
    redis.call('HSET', f.parts, id, outputs)
    redis.call('HSET', f.attempts, id, 1) -- it got on
    is_asked(f, place)
  else
    let_go(f, place)
    if outcome == 'done' then
      f.done = f.done + 1
      redis.call('HDEL', f.requests, id)
      redis.call('HDEL', f.attempts, id)
      redis.call('HDEL', f.parts, id)
    else
      set_or_drop(f.parts, id, tonumber(outputs))
      if outcome == 'later' then
        redis.call('ZADD', f.delayed, due, place)
      elseif outcome == 'dead' then
        why.attempts, why.at, why.place = attempts, f.now, place
        redis.call('HSET', f.dead, id, cjson.encode(why))
      else
        set_or_drop(f.attempts, id, attempts - 1)
        wait(f, place)
      end
    end
  end
  write_counts(f)
end
if not ours then -- the last 2,000 bytes are more than are ever sent in one go
  redis.call('HSET', session, 'pages_lost', string.sub(lost .. through .. ',', -2000))
end
redis.call('HSET', session, 'pages_settled', through)
redis.call('EXPIRE', session, seconds)
return {ours and 1 or 0, number}
