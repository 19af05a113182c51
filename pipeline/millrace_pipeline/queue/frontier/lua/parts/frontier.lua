-- frontier: how requests get on a crawl's frontier, and off it. Stands behind `whole`.
--
-- A request is known by its place: slot, a zero byte, its rank in ten digits, its number in fifteen. Wherever it waits it
-- is a member of a sorted set under that name, so all that wait for one host stand together, in the order they are taken.
--
-- `seen` is one hash of buckets. Each holds fingerprints of eight bytes, one behind the other, and is split in two when
-- there are 32 a bucket (linear hashing), so that a fingerprint costs about twelve bytes however many there are.
local PLACE, PRINT, FULL = 26, 8, 32

local function slot_of(place) return string.sub(place, 1, -PLACE - 1) end
local function id_of(place) return string.sub(place, -15) end

-- A number that stands in a hash; 0 where nothing does, or something else.
local function count(text) return math.floor(tonumber(text or '0') or 0) end

local function set_or_drop(key, field, number)
  if number > 0 then
    redis.call('HSET', key, field, whole(number))
  else
    redis.call('HDEL', key, field)
  end
end

-- The 14 keys of a crawl, asked whatever could fail: what a failed command leaves behind in a script stays.
local function frontier(keys)
  local names = {'crawl', 'requests', 'waiting', 'delayed', 'leases', 'tokens', 'attempts', 'parts', 'dead', 'seen',
                 'turns', 'busy', 'next', 'delays'}
  local sorted = {waiting = true, delayed = true, leases = true, turns = true}
  local f = {}
  for i, name in ipairs(names) do
    f[name] = keys[i]
    redis.call(sorted[name] and 'ZCARD' or 'HLEN', keys[i])
  end
  local fields = {'number', 'found', 'done', 'dropped', 'duplicates', 'items', 'items_dropped', 'prints', 'buckets'}
  for i, value in ipairs(redis.call('HMGET', f.crawl, unpack(fields))) do
    f[fields[i]] = tonumber(whole(value or 0))
  end
  local time = redis.call('TIME')
  f.now = time[1] * 1000 + math.floor(time[2] / 1000)
  return f
end

local function bucket_of(print, buckets)
  local a, b, c, d = string.byte(print, 1, 4)
  local hash, level = ((a * 256 + b) * 256 + c) * 256 + d, 1
  while level * 2 <= buckets do
    level = level * 2
  end
  local found = hash % (level * 2)
  return found < buckets and found or hash % level, level
end

-- True where the fingerprint is new; from then on it is not.
local function remember(f, print)
  f.buckets = math.max(1, f.buckets)
  local bucket = whole(bucket_of(print, f.buckets))
  local held = redis.call('HGET', f.seen, bucket) or ''
  local at = string.find(held, print, 1, true)
  while at do
    if (at - 1) % PRINT == 0 then
      return false
    end
    at = string.find(held, print, at + 1, true)
  end
  redis.call('HSET', f.seen, bucket, held .. print)
  f.prints = f.prints + 1
  if f.prints > FULL * f.buckets then
    local _, level = bucket_of(print, f.buckets)
    local from = f.buckets - level
    f.buckets = f.buckets + 1
    local parted = {[from] = {}, [f.buckets - 1] = {}}
    held = redis.call('HGET', f.seen, whole(from)) or ''
    for i = 1, #held, PRINT do
      local one = string.sub(held, i, i + PRINT - 1)
      table.insert(parted[(bucket_of(one, f.buckets))], one)
    end
    for place, prints in pairs(parted) do
      if #prints > 0 then
        redis.call('HSET', f.seen, whole(place), table.concat(prints))
      else
        redis.call('HDEL', f.seen, whole(place))
      end
    end
  end
  return true
end

-- Puts a place among those that wait, and its slot among those whose turn comes.
local function wait(f, place)
  local slot = slot_of(place)
  redis.call('ZADD', f.waiting, 0, place)
  redis.call('ZADD', f.turns, 'NX', whole(math.max(f.now, count(redis.call('HGET', f.next, slot)))), slot)
end

-- Which request has a host's turn: from its claim until its host was asked it is that one's alone, since nobody knows
-- before when that will be. Returns its place, and the delay from then on (ms); nothing where the turn is nobody's.
local function turn_of(f, slot)
  local place, delay = string.match(redis.call('HGET', f.next, slot .. '\0') or '', '^(%d+):(%d+)$')
  if place then
    return slot .. '\0' .. place, tonumber(delay)
  end
end

-- Its host was asked by now, or won't be by this request: if the turn was its own, the next is a delay from here.
local function is_asked(f, place)
  local slot = slot_of(place)
  local has, delay = turn_of(f, slot)
  if has == place then -- now is cut to a millisecond: one more, so that none comes too early
    local turn = whole(math.max(f.now + 1 + delay, count(redis.call('HGET', f.next, slot))))
    redis.call('HSET', f.next, slot, turn)
    redis.call('HDEL', f.next, slot .. '\0')
    redis.call('ZADD', f.turns, 'XX', turn, slot)
  end
end

-- Takes a place out of our hands: whoever is next has its host's turn.
local function let_go(f, place)
  local slot = slot_of(place)
  is_asked(f, place)
  redis.call('ZREM', f.leases, place)
  redis.call('HDEL', f.tokens, id_of(place))
  set_or_drop(f.busy, slot, count(redis.call('HGET', f.busy, slot)) - 1)
end

local REQUEST = 5
-- Asks whether so many requests stand well in the arguments from `at` on: slot, rank, fingerprint or empty, delay, text.
local function may_put(at, requests)
  assert(at + requests * REQUEST - 1 == #ARGV, 'a request is cut off, or something stands behind the last')
  for i = at, #ARGV, REQUEST do
    assert(not string.find(ARGV[i], '%z'), 'a zero byte in a slot')
    assert(string.find(ARGV[i + 1], '^%d%d%d%d%d%d%d%d%d%d$'), 'not a rank')
    assert(#ARGV[i + 2] == 0 or #ARGV[i + 2] == PRINT, 'not a fingerprint')
    assert(string.find(ARGV[i + 3], '^%d+$'), 'not a delay')
    assert(string.find(ARGV[i + 4], '^{".*}$'), 'not a request')
  end
end

-- Puts them on the frontier, but for those whose fingerprint was seen; returns how many that were.
local function put(f, at, requests)
  local before = f.found
  for i = at, at + requests * REQUEST - 1, REQUEST do
    local print = ARGV[i + 2]
    if print ~= '' and not remember(f, print) then
      f.duplicates = f.duplicates + 1
    else
      f.number, f.found = f.number + 1, f.found + 1
      local place = ARGV[i] .. '\0' .. ARGV[i + 1] .. string.format('%015d', f.number)
      redis.call('HSET', f.requests, id_of(place), ARGV[i + 4])
      if tonumber(ARGV[i + 3]) > 0 then
        redis.call('ZADD', f.delayed, whole(f.now + ARGV[i + 3]), place)
      else
        wait(f, place)
      end
    end
  end
  return f.found - before
end

local function write_counts(f)
  for _, name in ipairs({'number', 'found', 'done', 'dropped', 'duplicates', 'items', 'items_dropped', 'prints',
                         'buckets'}) do
    if f[name] > 0 then
      redis.call('HSET', f.crawl, name, whole(f[name]))
    end
  end
end
