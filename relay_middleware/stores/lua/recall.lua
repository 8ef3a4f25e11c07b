-- Tell what an open hold was made of.
--
-- KEYS  1 hold, 2 open holds by expiry
-- ARGV  1 hold id
-- Answers  the hold as reserve.lua was given it; '' where it is not open, and then not listed any more
local found = redis.call('HMGET', KEYS[1], 'state', 'hold')
if found[1] == 'open' and found[2] then
  return found[2]
end
redis.call('ZREM', KEYS[2], ARGV[1])
return ''
