-- Let open holds live on.
--
-- KEYS  1 open holds by expiry, then for each hold: hold, places of its customer
-- ARGV  1 milliseconds to live from now, then the hold ids
-- Answers  'OK'
local expiry = text(now_ms() + tonumber(ARGV[1]))
for i = 2, #ARGV do
  local hold, places = KEYS[2 * i - 2], KEYS[2 * i - 1]
  if redis.call('HGET', hold, 'state') == 'open' then
    redis.call('ZADD', KEYS[1], 'XX', expiry, ARGV[i])
    redis.call('ZADD', places, 'XX', expiry, ARGV[i])
  end
end
return 'OK'
