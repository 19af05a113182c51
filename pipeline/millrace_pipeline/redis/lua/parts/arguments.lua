-- arguments: those of a script, where they are packed into one word as they would be too many for one request.
local ARGV = ARGV
if ARGV[1] == 'packed' then
  local words, from = {}, 1
  for length in string.gmatch(ARGV[2], '%d+') do
    words[#words + 1] = string.sub(ARGV[3], from, from + length - 1)
    from = from + length
  end
  assert(from == #ARGV[3] + 1, 'the arguments are cut off')
  ARGV = words
end
