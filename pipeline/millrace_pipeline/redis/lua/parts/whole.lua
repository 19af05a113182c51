-- whole: a whole number as text, never -0 or 1e+15; an error where it is none.
local function whole(number)
  assert(number % 1 == 0, 'not a whole number')
  return string.format('%d', number)
end
