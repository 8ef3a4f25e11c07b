-- Set an amount aside in all accounts of a customer, or in none.
--
-- KEYS  1 hold, 2 open holds by expiry, 3.. accounts
-- ARGV  1 hold id, 2 amount, 3 milliseconds to live, then for each account: limit ('' = none),
--       second at which the account may be forgotten ('' = never)
-- Answers  'OK', '', balances       'DUP', state, balances (nothing changed)
--          'EXHAUSTED' | 'IN_FLIGHT', number of the account from 0, balances (nothing changed)
local state = redis.call('HGET', KEYS[1], 'state')
local accounts = #KEYS - 2
local amount = tonumber(ARGV[2])

if state then
  return balances('DUP', state)
end
for i = 1, accounts do
  local limit = tonumber(ARGV[2 + 2 * i])
  if limit and amount > 0 then
    local posted, held, credit = balance(KEYS[2 + i])
    local ceiling = limit + tonumber(credit)
    if tonumber(posted) + tonumber(held) + amount > ceiling then
      local why = tonumber(posted) + amount > ceiling and 'EXHAUSTED' or 'IN_FLIGHT'
      return balances(why, tostring(i - 1))
    end
  end
end
local keys = {}
for i = 1, accounts do
  local key = KEYS[2 + i]
  keys[i] = key
  redis.call('HINCRBY', key, 'held', ARGV[2])
  if ARGV[3 + 2 * i] ~= '' then
    redis.call('EXPIREAT', key, ARGV[3 + 2 * i])
  end
end
local now = redis.call('TIME')
local expiry = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], 'state', 'open', 'amount', ARGV[2], 'accounts', table.concat(keys, ' '))
redis.call('ZADD', KEYS[2], expiry, ARGV[1])
return balances('OK', '')
