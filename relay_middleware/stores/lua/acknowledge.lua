-- Note that the ledger has these holds, so that those which have ended may be forgotten.
--
-- KEYS  holds of one bucket
-- ARGV  1 seconds to remember them for
-- Answers  'OK'
for _, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'state') ~= 'open' then
    redis.call('EXPIRE', key, ARGV[1])
  end
end
return 'OK'
