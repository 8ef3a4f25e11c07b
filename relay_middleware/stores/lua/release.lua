-- End a hold and post nothing.
--
-- KEYS  1 hold, 2 open holds by expiry, 3.. accounts, the same as at its reserve
-- ARGV  1 hold id, 2 seconds to remember it for ('' = until the ledger has acknowledged it)
-- Answers  'OK', state before ('' = no such hold), balances       'DUP', 'released', balances
--          'ILLEGAL', what stands against it (nothing changed)
local hold = redis.call('HMGET', KEYS[1], 'state', 'amount')
local state, amount = hold[1], hold[2]

if state == 'released' then
  return balances('DUP', 'released')
end
if state == 'settled' then
  return { 'ILLEGAL', 'cannot release a hold that is settled' }
end
for i = 3, #KEYS do
  if state == 'open' then
    take_back(KEYS[i], 'held', amount)
  elseif state == 'expired' then
    -- Its whole amount was posted provisionally when it expired.
    take_back(KEYS[i], 'posted', amount)
  end
end
-- Also where there was no hold: a reserve that was cut off may still arrive, and must not be taken.
redis.call('HSET', KEYS[1], 'state', 'released', 'amount', '0')
redis.call('HDEL', KEYS[1], 'accounts')
redis.call('ZREM', KEYS[2], ARGV[1])
if ARGV[2] ~= '' then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return balances('OK', state or '')
