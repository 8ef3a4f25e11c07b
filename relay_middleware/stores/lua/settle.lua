-- End a hold and post what was really charged, above the limit if need be.
--
-- KEYS  as in shared.lua, the same as at its reserve
-- ARGV  1 hold id, 2 charge, 3 entry for the journal, 4 number of accounts, 5 tokens used, then for
--       each account the second at which it may be forgotten ('' = never)
-- Answers  'OK', state before ('' = no such hold), balances       'DUP', 'settled', balances
--          'ILLEGAL', what stands against it (nothing changed)      'COLD'
if is_cold() then
  return { 'COLD' }
end
local hold, accounts = read_hold(), tonumber(ARGV[4])

if hold.state == 'settled' then
  if hold.amount == ARGV[2] then
    return answered('DUP', 'settled', accounts)
  end
  return { 'ILLEGAL', 'it is settled for ' .. hold.amount .. ', not for ' .. ARGV[2] }
end
if hold.state == 'released' then
  return { 'ILLEGAL', 'cannot settle a hold that is released' }
end
for i = 0, accounts - 1 do
  local key = KEYS[FIRST_ACCOUNT + i]
  undo(key, hold)
  add(key, 'posted', ARGV[2], ARGV[6 + i])
end
correct_tokens(FIRST_ACCOUNT + accounts, hold, tonumber(ARGV[5]))
close(ARGV[1], 'settled', ARGV[2])
-- No time to live: the hold is remembered until the ledger has it (acknowledge.lua).
redis.call('PERSIST', KEYS[1])
journal(ARGV[3])
return answered('OK', hold.state or '', accounts)
