-- Become the one who does a piece of work, or stay it.
--
-- KEYS  1 claim
-- ARGV  1 who, 2 milliseconds for which it is good
-- Answers  1 where the claim is theirs, else 0
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
