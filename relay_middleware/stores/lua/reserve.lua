-- Set aside money in all accounts, tokens in all windows, and a place, and count the request in the
-- windows of all rates; or nothing. In one step, so that what a rate refuses never kept anything from
-- another request, and needs nothing given back.
--
-- KEYS  as in shared.lua
-- ARGV  1 hold id, 2 amount, 3 milliseconds to live, 4 the hold for whoever expires it, 5 number of
--       accounts, 6 tokens, 7 most places ('' = no limit), 8 number of token windows, then for each
--       account: limit ('' = none), second at which it may be forgotten ('' = never); then for each
--       token window: tokens, milliseconds; then for each rate: requests, milliseconds
-- Answers  'OK', '', balances, windows, rates     'DUP', state, the same (nothing changed)
--          Where it does not fit, the same after (nothing changed):
--          'EXHAUSTED' | 'IN_FLIGHT', number of the account from 0    'TOKENS', number of the window
--          'PLACES', how many are taken    'RATE', number of the rate                     or: 'COLD'
--          A window is: tokens of the bucket before, of the running one, its age in milliseconds.
--          A rate is: requests of the window before, of the running one, milliseconds until its end.
if is_cold() then
  return { 'COLD' }
end
local amount = tonumber(ARGV[2])
local accounts, tokens, most_places = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local now = now_ms()
local first_window = FIRST_ACCOUNT + accounts
local first_rate = first_window + tonumber(ARGV[8])

-- The first of the two arguments that go with a key.
local function argument_of(i)
  return 9 + 2 * (i - FIRST_ACCOUNT)
end

local windows = {}
for i = first_window, first_rate - 1 do
  local j = argument_of(i)
  local length = tonumber(ARGV[j + 1])
  local found = redis.call('HMGET', KEYS[i], 'bucket', 'current', 'previous')
  local bucket, known = math.floor(now / length), tonumber(found[1])
  local window = { limit = tonumber(ARGV[j]), length = length, bucket = bucket, current = 0, previous = 0 }
  if known and known >= bucket then
    -- A clock that was set back finds a bucket of the future: it runs on.
    window.bucket, window.current, window.previous = known, tonumber(found[2]), tonumber(found[3])
  elseif known and known == bucket - 1 then
    window.previous = tonumber(found[2])
  end
  window.elapsed = math.max(0, now - window.bucket * length)
  windows[#windows + 1] = window
end
local rates = {}
for i = first_rate, #KEYS do
  local j = argument_of(i)
  rates[#rates + 1] = window_of(KEYS[i], ARGV[j], ARGV[j + 1], now)
end

local function answer(word, detail)
  local numbers = {}
  for _, window in ipairs(windows) do
    numbers[#numbers + 1] = text(window.previous)
    numbers[#numbers + 1] = text(window.current)
    numbers[#numbers + 1] = text(window.elapsed)
  end
  for _, rate in ipairs(rates) do
    numbers[#numbers + 1] = rate.previous
    numbers[#numbers + 1] = rate.current
    numbers[#numbers + 1] = rate.left
  end
  return answered(word, detail, accounts, numbers)
end

local state = redis.call('HGET', KEYS[1], 'state')
if state then
  return answer('DUP', state)
end
for i = 0, accounts - 1 do
  local limit = tonumber(ARGV[argument_of(FIRST_ACCOUNT + i)])
  if limit and amount > 0 then
    local posted, held, credit = balance(KEYS[FIRST_ACCOUNT + i])
    local ceiling = limit + tonumber(credit)
    if tonumber(posted) + tonumber(held) + amount > ceiling then
      local why = tonumber(posted) + amount > ceiling and 'EXHAUSTED' or 'IN_FLIGHT'
      return answer(why, tostring(i))
    end
  end
end
for i, window in ipairs(windows) do
  local reach = math.max(0, window.length - window.elapsed)
  local used = fading(window.previous, reach, window.length) + window.current
  if used + tokens > window.limit then
    return answer('TOKENS', tostring(i - 1))
  end
end
if most_places then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', text(now))
  local taken = redis.call('ZCARD', KEYS[3])
  if taken >= most_places then
    return answer('PLACES', tostring(taken))
  end
end
for i, rate in ipairs(rates) do
  if not has_room(rate) then
    return answer('RATE', tostring(i - 1))
  end
end

local expiry = text(now + tonumber(ARGV[3]))
for i = 0, accounts - 1 do
  add(KEYS[FIRST_ACCOUNT + i], 'held', ARGV[2], ARGV[argument_of(FIRST_ACCOUNT + i) + 1])
end
local buckets = {}
for i, window in ipairs(windows) do
  local key = KEYS[first_window + i - 1]
  window.current = window.current + tokens
  buckets[i] = text(window.bucket)
  redis.call('HSET', key, 'bucket', buckets[i], 'current', text(window.current), 'previous', text(window.previous))
  redis.call('PEXPIRE', key, text(2 * window.length))
end
for _, rate in ipairs(rates) do
  count_request(rate)
end
redis.call('HSET', KEYS[1], 'state', 'open', 'amount', ARGV[2], 'hold', ARGV[4])
if #buckets > 0 then
  redis.call('HSET', KEYS[1], 'tokens', ARGV[6], 'buckets', table.concat(buckets, ' '))
end
redis.call('ZADD', KEYS[2], expiry, ARGV[1])
if most_places then
  redis.call('ZADD', KEYS[3], expiry, ARGV[1])
  -- Whoever is killed leaves places behind, which run out; the last one takes the key with it.
  redis.call('EXPIRE', KEYS[3], 86400)
end
return answer('OK', '')
