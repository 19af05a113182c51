#!lua
-- deliver: a sink's writes to a Redis that is not the queue's, once by the batch's id.
--
-- Guarantee: all or nothing, and once for as long as the ledger's key lives.
--
-- KEYS  1 the batch's ledger  2… the key of each write
-- ARGV  1 how long the ledger remembers it (s)
--       then for each write: how many words, then these: LPUSH, RPUSH, XADD or HSET, its key, its arguments
-- Returns 1 if it is written now, 0 if it was before; an error if a write's key holds something else.
local ledger = KEYS[1]
if redis.call('EXISTS', ledger) == 1 then
  return 0
end

-- What a failed command leaves behind in a script stays: so ask first.
local i = 2
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

i = 2
while i < #ARGV do
  redis.call(unpack(ARGV, i + 1, i + ARGV[i]))
  i = i + 1 + ARGV[i]
end
redis.call('SET', ledger, 1, 'EX', ARGV[1])
return 1
