-- End a hold of which nobody knows what it came to: post all of it, provisionally.
--
-- KEYS  as in shared.lua, the same as at its reserve
-- ARGV  1 hold id, 2 amount, 3 entry for the journal, 4 number of accounts, 5 '' = only if its time
--       has run out, 6 seconds to remember it for, then for each account the second at which it may be
--       forgotten ('' = never)
-- Answers  'OK', state before ('' = no such hold), balances       'DUP', 'expired', balances
--          'EARLY', 'open', balances (nothing changed)
--          'ILLEGAL', what stands against it (nothing changed)      'COLD'
if is_cold() then
  return { 'COLD' }
end
local hold, accounts = read_hold(), tonumber(ARGV[4])

if hold.state == 'expired' then
  return answered('DUP', 'expired', accounts)
end
if hold.state == 'settled' or hold.state == 'released' then
  return { 'ILLEGAL', 'cannot expire a hold that is ' .. hold.state }
end
if ARGV[5] == '' and tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or '0') > now_ms() then
  return answered('EARLY', 'open', accounts)
end
for i = 0, accounts - 1 do
  local key = KEYS[FIRST_ACCOUNT + i]
  undo(key, hold)
  add(key, 'posted', ARGV[2], ARGV[7 + i])
  add(key, 'expired', ARGV[2], ARGV[7 + i])
end
close(ARGV[1], 'expired', ARGV[2])
-- Longer than others: whoever resolves it must find it, or it would be posted twice.
redis.call('EXPIRE', KEYS[1], ARGV[6])
journal(ARGV[3])
return answered('OK', hold.state or '', accounts)
