-- What the scripts share that answer with balances: in all of them the accounts are KEYS[3] and on.
-- A balance is posted, held, credit. Amounts travel as text: Lua's own numbers print 14 digits.
local function balance(key)
  local found = redis.call('HMGET', key, 'posted', 'held', 'credit')
  return found[1] or '0', found[2] or '0', found[3] or '0'
end

local function take_back(key, field, amount)
  -- Redis takes '-0' for no number.
  if amount ~= '0' then
    redis.call('HINCRBY', key, field, '-' .. amount)
  end
end

local function balances(word, detail)
  local answer = { word, detail }
  for i = 3, #KEYS do
    local posted, held, credit = balance(KEYS[i])
    answer[#answer + 1] = posted
    answer[#answer + 1] = held
    answer[#answer + 1] = credit
  end
  return answer
end

