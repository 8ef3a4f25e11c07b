-- End a hold and post what was really charged, above the limit if need be.
--
-- KEYS  1 hold, 2 open holds by expiry, 3.. accounts, the same as at its reserve
-- ARGV  1 hold id, 2 actual, then for each account the second at which it may be forgotten ('' =
--       never)
-- Answers  'OK', state before ('' = no such hold), balances       'DUP', 'settled', balances
--          'ILLEGAL', what stands against it (nothing changed)
local hold = redis.call('HMGET', KEYS[1], 'state', 'amount')
local state, amount = hold[1], hold[2]

if state == 'settled' then
  if amount == ARGV[2] then
    return balances('DUP', 'settled')
  end
  return { 'ILLEGAL', 'it is settled for ' .. amount .. ', not for ' .. ARGV[2] }
end
if state == 'released' then
  return { 'ILLEGAL', 'cannot settle a hold that is released' }
end
for i = 3, #KEYS do
  if state == 'open' then
    take_back(KEYS[i], 'held', amount)
  elseif state == 'expired' then
    -- Its whole amount was posted provisionally when it expired.
    take_back(KEYS[i], 'posted', amount)
  end
  redis.call('HINCRBY', KEYS[i], 'posted', ARGV[2])
  if ARGV[i] ~= '' then
    redis.call('EXPIREAT', KEYS[i], ARGV[i])
  end
end
-- No time to live: the hold is remembered until the ledger has it (acknowledge.lua).
redis.call('HSET', KEYS[1], 'state', 'settled', 'amount', ARGV[2])
redis.call('HDEL', KEYS[1], 'accounts')
redis.call('ZREM', KEYS[2], ARGV[1])
return balances('OK', state or '')
