#!lua flags=allow-oom
-- beat: what a consumer says of itself, now and then, for people who look on. No record depends on it.
--
-- Guarantee: one entry a consumer, with Redis' time. A consumer that comes back under its name, without having left it,
-- was started once more: that is counted.
--
-- KEYS  1 consumers
-- ARGV  1 name  2 session  3 what it says, as JSON  4 forget those silent for so long (ms)  5 1 to look at all, else 0
-- Returns how many consumers there are, where all were looked at, else 0.
local consumers = KEYS[1]
local name, session, says = ARGV[1], ARGV[2], ARGV[3]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local keep = tonumber(ARGV[4])
assert(keep and keep >= 1000 and keep % 1 == 0, 'not a whole number of milliseconds')
assert(ARGV[5] == '0' or ARGV[5] == '1', 'neither 0 nor 1')
cjson.decode(says)

local before = redis.call('HGET', consumers, name)
local starts = 1
if before then
  local known = cjson.decode(before)
  starts = known.starts + (known.session == session and 0 or 1)
end

local left = 0
local gone = {}
if ARGV[5] == '1' then
  local all = redis.call('HGETALL', consumers)
  for i = 1, #all, 2 do
    local ok, one = pcall(cjson.decode, all[i + 1])
    if all[i] ~= name and not (ok and now - one.at < keep) then
      gone[#gone + 1] = all[i]
    end
  end
  left = #all / 2 - #gone + (before and 0 or 1)
end

redis.call('HSET', consumers, name, string.format(
  '{"session":%s,"starts":%d,"at":%d,"says":%s}', cjson.encode(session), starts, now, says
))
for _, silent in ipairs(gone) do
  redis.call('HDEL', consumers, silent)
end
redis.call('EXPIRE', consumers, string.format('%d', math.floor(keep / 1000)))
return left
