#!lua flags=allow-oom
-- ack: the batch is durable. Drop it, set its dead letters aside, move the counters: one step. A sink that writes to
-- this very Redis has its writes carried out in it.
--
-- Guarantee: all or nothing, only while the lease is ours, and once: sent again after a lost reply it answers 1.
--
-- KEYS  1 leases  2 claims  3 counters  4 session  5 dead  6… the lists of the batch, then the key of each write
-- ARGV  1 id  2 token  3 delivered  4 filtered  5 foreign  6 session time to live (s)  7 lists of the batch  8 dead letters
--       then for each dead letter: reason, original bytes
--       then for each write: how many words, then these: LPUSH, RPUSH, XADD or HSET, its key, its arguments
-- Returns 1, or 0 if the lease is lost; an error if a write's key holds something else, and then nothing is changed.
local leases, claims, counters, session, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, token = ARGV[1], ARGV[2]

local held = redis.call('HGET', claims, id)
local claim = held and cjson.decode(held)
if not claim or claim.token ~= token then
  return redis.call('HGET', session, 'acked') == token and 1 or 0
end

local parts, first_write = tonumber(ARGV[7]), 9 + 2 * ARGV[8]

-- What a failed command leaves behind in a script stays: so ask first, in words that any user of the list has.
local i = first_write
while i < #ARGV do
  local command, key = ARGV[i + 1], ARGV[i + 2]
  local found
  if command == 'LPUSH' or command == 'RPUSH' then
    found = redis.pcall('LLEN', key)
  elseif command == 'XADD' then
    found = redis.pcall('XLEN', key)
  else
    found = redis.pcall('HGET', key, '')
  end
  if type(found) == 'table' and found.err then
    return redis.error_reply(found.err .. ' (' .. command .. ' ' .. key .. ')')
  end
  i = i + 1 + ARGV[i]
end

i = first_write
while i < #ARGV do
  redis.call(unpack(ARGV, i + 1, i + ARGV[i]))
  i = i + 1 + ARGV[i]
end
for i = 9, first_write - 1, 2 do
  redis.call('XADD', dead, '*', 'reason', ARGV[i], 'attempts', claim.attempts, 'batch', id, 'record', ARGV[i + 1])
end
for i = 6, 5 + parts do
  redis.call('UNLINK', KEYS[i])
end
redis.call('HDEL', claims, id)
redis.call('ZREM', leases, id)
redis.call('HINCRBY', counters, 'in_flight', -claim.records)
redis.call('HINCRBY', counters, 'delivered', ARGV[3])
redis.call('HINCRBY', counters, 'filtered', ARGV[4])
redis.call('HINCRBY', counters, 'foreign', ARGV[5])
redis.call('HSET', session, 'acked', token)
redis.call('EXPIRE', session, ARGV[6])
return 1
