-- Raise settled spend to a value where it is lower. Never lowers it, never adds: many processes may
-- do it at once, each as often as it likes.
--
-- The ledger is late: a hold that it has as expired may have been settled for less by now. So what is
-- lacking is believed only as far as settled charges alone lack it too. In a bucket that is being
-- filled nothing ends, and the ledger is all there is.
--
-- KEYS  accounts of one bucket, then its epoch
-- ARGV  for each account: posted, the part of it that expired, second at which it may be forgotten
--       ('' = never)
-- Answers  by how much all were raised, by how much all are above
local is_cold = not redis.call('GET', KEYS[#KEYS])
local raised, above = 0, 0
for i = 1, #KEYS - 1 do
  local key = KEYS[i]
  local posted, expired, forgotten_at = ARGV[3 * i - 2], tonumber(ARGV[3 * i - 1]), ARGV[3 * i]
  local found = redis.call('HMGET', key, 'posted', 'expired')
  local missing = tonumber(posted) - tonumber(found[1] or '0')
  local newly_expired = expired - tonumber(found[2] or '0')
  if not is_cold then
    missing = math.min(missing, missing - newly_expired)
  end
  if missing > 0 then
    redis.call('HINCRBY', key, 'posted', string.format('%.0f', missing))
    raised = raised + missing
  else
    above = above - missing
  end
  if is_cold and newly_expired > 0 then
    redis.call('HINCRBY', key, 'expired', string.format('%.0f', newly_expired))
  end
  if forgotten_at ~= '' then
    redis.call('EXPIREAT', key, forgotten_at)
  end
end
return { string.format('%.0f', raised), string.format('%.0f', above) }
