-- change: what a person changes is noted in the step that changes it: one note a change, however many steps it takes.
--
-- A note is JSON: id, at (ms of Redis time), records (how many it was so far), then what who changes it says of it. The
-- newest stands first, and only so many are kept. `may_note` asks whatever could fail, before anything is written.
local function may_note(changes, id, told, kept)
  assert(string.find(id, '^%x+$'), 'not an id')
  assert(string.find(told, '^{".*}$'), 'not what a change says of itself')
  assert(string.find(kept, '^[1-9]%d*$'), 'not a whole number above 0')
  redis.call('LLEN', changes)
end

local function note(changes, id, told, kept, records)
  local clock = redis.call('TIME')
  local at, before = string.format('%d', clock[1] * 1000 + math.floor(clock[2] / 1000)), '0'
  local newest = redis.call('LINDEX', changes, 0) or ''
  local began, so_far = string.match(newest, '^{"id":"' .. id .. '","at":(%d+),"records":(%d+),')
  local entry = '{"id":"%s","at":%s,"records":%d,%s'
  entry = string.format(entry, id, began or at, records + (so_far or before), string.sub(told, 2))
  if began then
    redis.call('LSET', changes, 0, entry)
  else
    redis.call('LPUSH', changes, entry)
    redis.call('LTRIM', changes, 0, string.format('%d', kept - 1))
  end
end
