-- Note that the ledger has these holds, so that those which have ended may be forgotten.
--
-- KEYS  holds of one bucket
-- ARGV  1 seconds to remember them for
-- Answers  'OK'
for _, key in ipairs(KEYS) do
  local state = redis.call('HGET', key, 'state')
  -- An expired one has not ended for good: see expire.lua.
  if state == 'settled' or state == 'released' then
    redis.call('EXPIRE', key, ARGV[1])
  end
end
return 'OK'
