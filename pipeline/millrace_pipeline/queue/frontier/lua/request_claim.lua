#!lua flags=allow-oom
-- request_claim: take up to `want` requests off the frontier, each under a lease, as each host's politeness allows.
--
-- First what was left behind comes back: requests whose lease ran out wait again, or are set aside where they have cost
-- `most attempts` spiders, and delayed ones wait once they are due; a hundred of each at most.
--
-- Guarantee: all or nothing, and once per (session, number): sent again after a lost reply it answers with those of the
-- first time that are still ours. Of a host with a delay one request is given out at a time: it has the host's turn until
-- its spider says that the host was asked (request_asked), settles it or loses its lease, and the next is given out when
-- the delay from then is over. Where Redis may have come back without the last it was told, of which a spider says that its
-- connection broke, any host may have been asked just now: each is left alone for its delay from then. No more requests of a host are out than its concurrency. While the producers are paused, or the crawl is, or it was
-- stopped, nothing is given out and no lease counts as run out. Works at maxmemory.
--
-- KEYS  1-14 the crawl's  15 session  16 ready  17 woken  18 counters
-- ARGV  1 token  2 number  3 session time to live (s)  4 want  5 lease (ms)  6 most attempts  7 dice, -1000 to 1000
--       8 who paused the flow's producers, as JSON, or empty: a spider may read that key, and a script may not be given it
--       9 1 where our connection broke since we last claimed, else 0
--       10 delay (ms)  11 its jitter (thousandths)  12 concurrency, 0 for any  13 hosts with their own
--       then for each of these: slot, delay, jitter, concurrency
-- Returns {now, ms until something may be due or -1, began, stopped, paused, found, done, dropped, waiting, in flight,
-- delayed, dead, items, lag, 1 where it was answered before}, then for each request {place, attempts, outputs that are put already, its JSON}.
--include arguments
--include whole
--include frontier
local f, session, ready, woken = frontier(KEYS), KEYS[15], KEYS[16], KEYS[17]
local counters, held_by = KEYS[18], ARGV[8]
local token, number, want = ARGV[1], tonumber(ARGV[2]), tonumber(whole(ARGV[4]))
local seconds, deadline, most = whole(ARGV[3]), whole(f.now + ARGV[5]), tonumber(whole(ARGV[6]))
local dice = tonumber(whole(ARGV[7])) / 1000
local claimed = whole(number)

local function policy(at)
  return {delay = tonumber(whole(ARGV[at])), jitter = tonumber(whole(ARGV[at + 1])) / 1000,
          concurrency = tonumber(whole(ARGV[at + 2]))}
end
local usual, own, hosts = policy(10), {}, tonumber(whole(ARGV[13]))
assert(#ARGV == 13 + 4 * hosts, 'a host is cut off, or something stands behind the last')
for i = 14, #ARGV, 4 do
  own[ARGV[i]] = policy(i + 1)
end
local before = redis.call('HMGET', session, 'requests_claimed', 'requests_held')
local known = tonumber(before[1] or '0')
local lag = redis.call('LLEN', ready) + redis.call('LLEN', woken) + count(redis.call('HGET', counters, 'in_flight'))
local began, stopped, paused, doubted = unpack(redis.call('HMGET', f.crawl, 'began', 'stopped', 'paused', 'doubted'))
doubted = tonumber(whole(doubted or 0))
paused = held_by ~= '' and held_by or paused

local taken = {}
local function give(place)
  local id = id_of(place)
  taken[#taken + 1] = {place, count(redis.call('HGET', f.attempts, id)), count(redis.call('HGET', f.parts, id)),
                       redis.call('HGET', f.requests, id)}
end

local function answer(due, repeated)
  local now = {f.now, due, began or '', stopped or '', paused or '', f.found, f.done, f.dropped,
               redis.call('ZCARD', f.waiting), redis.call('ZCARD', f.leases), redis.call('ZCARD', f.delayed),
               redis.call('HLEN', f.dead), f.items, lag, repeated or 0}
  return {now, unpack(taken)}
end

if ARGV[9] == '1' and began then -- now is cut to a millisecond
  doubted = f.now + 1
  redis.call('HSET', f.crawl, 'doubted', whole(doubted))
end
if number <= known then
  for place in string.gmatch(before[2] or '', '[^\n]+') do
    if redis.call('HGET', f.tokens, id_of(place)) == token then
      give(place)
    end
  end
  return answer(0, 1)
end
if stopped or paused or not began then
  return answer(-1)
end

for _, place in ipairs(redis.call('ZRANGE', f.leases, '-inf', f.now, 'BYSCORE', 'LIMIT', 0, 100)) do
  local id = id_of(place)
  let_go(f, place)
  local attempts = count(redis.call('HGET', f.attempts, id))
  if attempts >= most then
    redis.call('HSET', f.dead, id, cjson.encode({
      reason = 'it was not done with before its lease ran out, ' .. attempts .. ' times: does it kill its spider?',
      kind = 'lease', attempts = attempts, at = f.now, place = place,
    }))
  else
    wait(f, place)
  end
end
for _, place in ipairs(redis.call('ZRANGE', f.delayed, '-inf', f.now, 'BYSCORE', 'LIMIT', 0, 100)) do
  redis.call('ZREM', f.delayed, place)
  wait(f, place)
end

local held, room = {}, want
local most_slots = redis.call('ZCARD', f.leases) + want
for _, slot in ipairs(redis.call('ZRANGE', f.turns, '-inf', f.now, 'BYSCORE', 'LIMIT', 0, most_slots)) do
  if room == 0 then
    break
  end
  local host, busy = own[slot] or usual, count(redis.call('HGET', f.busy, slot))
  local delay = math.max(host.delay, count(redis.call('HGET', f.delays, slot)))
  local free = host.concurrency > 0 and math.max(0, host.concurrency - busy) or room
  local some = math.min(room, free, delay > 0 and 1 or room)
  local held_until = turn_of(f, slot)
  held_until = held_until and redis.call('ZMSCORE', f.leases, held_until)[1]
  if held_until then
    redis.call('ZADD', f.turns, whole(held_until), slot)
  elseif delay > 0 and f.now < doubted + delay then
    redis.call('ZADD', f.turns, whole(doubted + delay), slot)
  elseif some > 0 then
    local was_busy = busy
    local first, last = '[' .. slot .. '\0', '(' .. slot .. '\1'
    for _, place in ipairs(redis.call('ZRANGE', f.waiting, first, last, 'BYLEX', 'LIMIT', 0, some)) do
      local id = id_of(place)
      redis.call('ZREM', f.waiting, place)
      redis.call('ZADD', f.leases, deadline, place)
      redis.call('HSET', f.tokens, id, token)
      redis.call('HSET', f.attempts, id, whole(count(redis.call('HGET', f.attempts, id)) + 1))
      give(place)
      held[#held + 1] = place
      busy, room = busy + 1, room - 1
    end
    set_or_drop(f.busy, slot, busy)
    local turn = delay > 0 and deadline or whole(f.now)
    if redis.call('ZRANGE', f.waiting, first, last, 'BYLEX', 'LIMIT', 0, 1)[1] then
      redis.call('ZADD', f.turns, turn, slot)
    else
      redis.call('ZREM', f.turns, slot)
    end
    if delay > 0 and busy > was_busy then
      local drawn = whole(math.ceil(math.max(0, delay * (1 + host.jitter * dice))))
      redis.call('HSET', f.next, slot .. '\0', string.sub(held[#held], -PLACE + 1) .. ':' .. drawn)
    end
  end
end
if #held > 0 then
  redis.call('HSET', session, 'requests_claimed', claimed, 'requests_held', table.concat(held, '\n'))
  redis.call('EXPIRE', session, seconds)
end

local due
for _, soonest in ipairs({redis.call('ZRANGE', f.turns, '(' .. f.now, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES'),
                          redis.call('ZRANGE', f.delayed, 0, 0, 'WITHSCORES'),
                          redis.call('ZRANGE', f.leases, 0, 0, 'WITHSCORES')}) do
  if soonest[2] then
    due = math.min(due or math.huge, math.max(0, soonest[2] - f.now))
  end
end
return answer(due or -1)
