-- End a hold and post nothing.
--
-- KEYS  as in shared.lua, the same as at its reserve
-- ARGV  1 hold id, 2 entry for the journal, 3 number of accounts, 4 '' = a provider was called, else
--       seconds to remember it for where the ledger need not hear of it
-- Answers  'OK', state before ('' = no such hold), balances       'DUP', 'released', balances
--          'ILLEGAL', what stands against it (nothing changed)      'COLD'
if is_cold() then
  return { 'COLD' }
end
local hold, accounts = read_hold(), tonumber(ARGV[3])

if hold.state == 'released' then
  return answered('DUP', 'released', accounts)
end
if hold.state == 'settled' then
  return { 'ILLEGAL', 'cannot release a hold that is settled' }
end
for i = 0, accounts - 1 do
  undo(KEYS[FIRST_ACCOUNT + i], hold)
end
correct_tokens(FIRST_ACCOUNT + accounts, hold, 0)
-- Also where there was no hold: a reserve that was cut off may still arrive, and must not be taken.
close(ARGV[1], 'released', '0')
if ARGV[4] ~= '' and hold.state ~= 'expired' then
  redis.call('EXPIRE', KEYS[1], ARGV[4])
else
  redis.call('PERSIST', KEYS[1])
  journal(ARGV[2])
end
return answered('OK', hold.state or '', accounts)
