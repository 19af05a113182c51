#!lua flags=allow-oom
-- ack: the batch is durable. Drop it, set its dead letters aside, move the counters: one step. A sink that writes to
-- this very Redis has its writes carried out in it.
--
-- Guarantee: all or nothing, only while the lease is ours, and once: sent again after a lost reply it answers 1.
--
-- KEYS  1 leases  2 claims  3 counters  4 session  5 dead  6… the lists of the batch, then the keys of the writes
-- ARGV  1 id  2 token  3 delivered  4 filtered  5 foreign  6 bytes  7 session time to live (s)  8 lists of the batch
--       9 dead letters
--       then for each of these: reason, original bytes
--       then for each write: how many words, then these: LPUSH, RPUSH, XADD or HSET, its key, its arguments
-- Returns 1, or 0 if the lease is lost, or the batch has other records than these; an error if a write's key holds
-- something else, and then nothing is changed.
--include arguments

local leases, claims, counters, session, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, token = ARGV[1], ARGV[2]

--include whole

-- Why the write that begins at this argument would fail, if it would; asked in words that any user of the key has.
local kinds = {[claims] = 'HSET', [counters] = 'HSET', [session] = 'HSET', [dead] = 'XADD', [leases] = 'ZADD'}
local function refusal(at)
  local words, command, key = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local kind, fits, found = command, false, nil
  if command == 'LPUSH' or command == 'RPUSH' then
    kind, fits, found = 'list', words >= 3, redis.pcall('LLEN', key)
  elseif command == 'HSET' then
    fits, found = words >= 4 and words % 2 == 0, redis.pcall('HGET', key, '')
  elseif command == 'XADD' then
    local name = at + 3 -- of the entry; where there is a length to keep, behind it
    if ARGV[name] == 'MAXLEN' and string.find(ARGV[name + 2], '^%d+$') then
      name = name + (string.find(ARGV[name + 1], '^[~=]$') and 3 or 0)
    end
    local fields = words - (name - at)
    fits, found = ARGV[name] == '*' and fields >= 2 and fields % 2 == 0, redis.pcall('XLEN', key)
  end
  if type(found) == 'table' and found.err then
    return found.err .. ' (' .. command .. ' ' .. key .. ')'
  elseif not fits or words > 7000 or at + words > #ARGV or (kinds[key] or kind) ~= kind then
    return 'ERR this might fail half way: ' .. tostring(command) .. ' ' .. tostring(key) .. ', ' .. words .. ' words'
  end
  kinds[key] = kind
end

local held = redis.call('HGET', claims, id)
local claim = held and cjson.decode(held)
if not claim or claim.token ~= token then
  return redis.call('HGET', session, 'acked') == token and 1 or 0
end

-- What a failed command leaves behind in a script stays: so ask first whatever can fail.
local parts, letters, seconds = tonumber(whole(ARGV[8])), tonumber(whole(ARGV[9])), whole(ARGV[7])
local delivered, filtered, foreign, bytes = whole(ARGV[3]), whole(ARGV[4]), whole(ARGV[5]), whole(ARGV[6])
if delivered + filtered + letters ~= claim.records then
  return 0 -- Redis came back without the last that it was told of the batch
end
local taken, attempts, first_write = whole(-claim.records), whole(claim.attempts), 10 + 2 * letters
assert(#ARGV >= first_write - 1, 'a dead letter is cut off')
for _, count in ipairs(redis.call('HMGET', counters, 'in_flight', 'delivered', 'filtered', 'foreign', 'bytes_out')) do
  whole(count or 0)
end
redis.call('ZCOUNT', leases, 0, 0)
redis.call('HGET', session, 'acked')
redis.call('XLEN', dead)
for i = 6, 5 + parts do
  redis.call('LLEN', KEYS[i])
end
local i = first_write
while i < #ARGV do
  local why = refusal(i)
  if why then
    return redis.error_reply(why)
  end
  i = i + 1 + ARGV[i]
end

i = first_write
while i < #ARGV do
  redis.call(unpack(ARGV, i + 1, i + ARGV[i]))
  i = i + 1 + ARGV[i]
end
for i = 10, first_write - 1, 2 do
  redis.call('XADD', dead, '*', 'reason', ARGV[i], 'attempts', attempts, 'batch', id, 'record', ARGV[i + 1])
end
for i = 6, 5 + parts do
  redis.call('UNLINK', KEYS[i])
end
redis.call('HDEL', claims, id)
redis.call('ZREM', leases, id)
redis.call('HINCRBY', counters, 'in_flight', taken)
redis.call('HINCRBY', counters, 'delivered', delivered)
redis.call('HINCRBY', counters, 'filtered', filtered)
redis.call('HINCRBY', counters, 'foreign', foreign)
redis.call('HINCRBY', counters, 'bytes_out', bytes)
redis.call('HSET', session, 'acked', token)
redis.call('EXPIRE', session, seconds)
return 1
