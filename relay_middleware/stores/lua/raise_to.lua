-- Raise settled spend to a value where it is lower. Never lowers it, never adds: many processes may
-- do it at once, each as often as it likes.
--
-- The ledger is late: a hold that it has as expired may have been settled for less by now. So what is
-- lacking is believed only as far as settled charges alone lack it too.
--
-- KEYS  accounts of one bucket
-- ARGV  for each account: posted, the part of it that expired, second at which it may be forgotten
--       ('' = never)
-- Answers  by how much all were raised, by how much all are above
local raised, above = 0, 0
for i, key in ipairs(KEYS) do
  local posted, expired, forgotten_at = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  local found = redis.call('HMGET', key, 'posted', 'expired')
  local missing = tonumber(posted) - tonumber(found[1] or '0')
  missing = math.min(missing, missing - tonumber(expired) + tonumber(found[2] or '0'))
  if missing > 0 then
    redis.call('HINCRBY', key, 'posted', string.format('%.0f', missing))
    raised = raised + missing
  else
    above = above - missing
  end
  if forgotten_at ~= '' then
    redis.call('EXPIREAT', key, forgotten_at)
  end
end
return { string.format('%.0f', raised), string.format('%.0f', above) }
