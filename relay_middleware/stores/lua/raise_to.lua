-- Raise settled spend to a value where it is lower. Never lowers it, never adds: many processes may
-- do it at once, each as often as it likes.
--
-- KEYS  1 account
-- ARGV  1 posted, 2 second at which the account may be forgotten ('' = never)
-- Answers  settled spend afterwards
local posted = redis.call('HGET', KEYS[1], 'posted') or '0'
if tonumber(ARGV[1]) > tonumber(posted) then
  posted = ARGV[1]
  redis.call('HSET', KEYS[1], 'posted', posted)
end
if ARGV[2] ~= '' then
  redis.call('EXPIREAT', KEYS[1], ARGV[2])
end
return posted
