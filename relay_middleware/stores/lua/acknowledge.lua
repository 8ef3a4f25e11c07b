-- Note that the ledger has these holds, so that those which have ended may be forgotten.
--
-- KEYS  holds of one bucket
-- ARGV  1 seconds to remember them for
-- Answers  how many had ended
local ended = 0
for _, key in ipairs(KEYS) do
  local state = redis.call('HGET', key, 'state')
  if state and state ~= 'open' then
    redis.call('EXPIRE', key, ARGV[1])
    ended = ended + 1
  end
end
return ended
