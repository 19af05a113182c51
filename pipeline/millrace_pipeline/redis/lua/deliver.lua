#!lua
-- deliver: a sink's writes to a Redis that is not the queue's, once by the batch's id.
--
-- Guarantee: all or nothing, and once for as long as the ledger's key lives.
--
-- KEYS  1 the batch's ledger  2… the keys of the writes
-- ARGV  1 how long the ledger remembers it (s)
--       then for each write: how many words, then these: LPUSH, RPUSH, XADD or HSET, its key, its arguments
-- Returns 1 if it is written now, 0 if it was before; an error if a write's key holds something else.
--include arguments

local ledger = KEYS[1]

--include whole

-- Why the write that begins at this argument would fail, if it would; asked in words that any user of the key has.
local kinds = {[ledger] = 'SET'}
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

if redis.call('GET', ledger) then
  return 0
end

-- What a failed command leaves behind in a script stays: so ask first whatever can fail.
local seconds = whole(ARGV[1])
assert(ARGV[1] + 0 > 0, 'nothing to remember it by')
local i = 2
while i < #ARGV do
  local why = refusal(i)
  if why then
    return redis.error_reply(why)
  end
  i = i + 1 + ARGV[i]
end

i = 2
while i < #ARGV do
  redis.call(unpack(ARGV, i + 1, i + ARGV[i]))
  i = i + 1 + ARGV[i]
end
redis.call('SET', ledger, 1, 'EX', seconds)
return 1
