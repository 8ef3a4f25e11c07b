-- What the scripts share: it stands before each of them. In those that end or open a hold KEYS are:
--   1 hold, 2 open holds by expiry, 3 the customer's places, 4 epoch of the bucket, 5 its journal,
--   then the accounts, then the token windows, as `keys.py` orders them; when a hold is taken, then
--   the windows of its customer's request rates.
-- The last of their ARGV is the epoch that the caller means: commands of before a loss of data must
-- not reach the store that was filled after it, where the ledger's word for them is in already.
-- Amounts travel as text: Lua's own numbers print 14 digits.
local FIRST_ACCOUNT = 6

local function is_cold()
  return redis.call('GET', KEYS[4]) ~= ARGV[#ARGV]
end

local function now_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

local function text(number)
  return string.format('%.0f', number)
end

-- What counts of the bucket before: *tokens*reach/length*, rounded up. In two steps, because a product
-- of a day's milliseconds and more than 104 million tokens is no whole number to Lua any more.
local function fading(tokens, reach, length)
  local rest = math.fmod(tokens, length)
  local product = rest * reach
  local part = math.fmod(product, length)
  local whole = (tokens - rest) / length * reach + (product - part) / length
  return part > 0 and whole + 1 or whole
end

-- The window of requests that runs, in *length* milliseconds of which are *limit*. As `limits` has it:
-- a window begins with its first request, and while it runs, those of the one before count less and
-- less. KEY is a hash of ends (when it does, in ms), current, previous.
local function window_of(key, limit, length, now)
  local found = redis.call('HMGET', key, 'ends', 'current', 'previous')
  local window = { key = key, limit = tonumber(limit), length = tonumber(length), current = 0, previous = 0 }
  window.ends = tonumber(found[1])
  if not window.ends or now >= window.ends + window.length then
    window.ends = now + window.length
  elseif now >= window.ends then
    window.ends, window.previous = window.ends + window.length, tonumber(found[2])
  else
    window.current, window.previous = tonumber(found[2]), tonumber(found[3])
  end
  -- Not more than a window, where the clock was set back.
  window.left = math.min(window.ends - now, window.length)
  return window
end

local function has_room(window)
  return math.floor(window.previous * window.left / window.length) + window.current < window.limit
end

-- What a window has counted is kept for one window more.
local function count_request(window)
  window.current = window.current + 1
  redis.call('HSET', window.key, 'ends', window.ends, 'current', window.current, 'previous', window.previous)
  redis.call('PEXPIRE', window.key, window.left + window.length)
end

-- What is spent (corrections included, which are counted apart so that `raise_to` may compare the
-- rest with the ledger), held, credit, expired.
local function balance(key)
  local found = redis.call('HMGET', key, 'posted', 'adjusted', 'held', 'credit', 'expired')
  local spent = text(tonumber(found[1] or '0') + tonumber(found[2] or '0'))
  return spent, found[3] or '0', found[4] or '0', found[5] or '0'
end

local function take_back(key, field, amount)
  -- Redis takes '-0' for no number.
  if amount ~= '0' then
    redis.call('HINCRBY', key, field, '-' .. amount)
  end
end

local function add(key, field, amount, forgotten_at)
  redis.call('HINCRBY', key, field, amount)
  if forgotten_at ~= '' then
    redis.call('EXPIREAT', key, forgotten_at)
  end
end

-- The answer: a word, a detail, the balances of all accounts, then whatever *more* holds.
local function answered(word, detail, accounts, more)
  local answer = { word, detail }
  for i = FIRST_ACCOUNT, FIRST_ACCOUNT + accounts - 1 do
    for _, number in ipairs({ balance(KEYS[i]) }) do
      answer[#answer + 1] = number
    end
  end
  for _, number in ipairs(more or {}) do
    answer[#answer + 1] = number
  end
  return answer
end

-- Count *tokens* instead of what a hold took, each window in the bucket that it was taken from.
local function correct_tokens(first, hold, tokens)
  if not hold.buckets then
    return
  end
  local i = first
  for taken_in in string.gmatch(hold.buckets, '%S+') do
    local key = KEYS[i]
    local bucket = tonumber(redis.call('HGET', key, 'bucket'))
    local delta = text(tokens - tonumber(hold.tokens))
    if bucket == tonumber(taken_in) then
      redis.call('HINCRBY', key, 'current', delta)
    elseif bucket and bucket == tonumber(taken_in) + 1 then
      redis.call('HINCRBY', key, 'previous', delta)
    end
    i = i + 1
  end
end

local function read_hold()
  local found = redis.call('HMGET', KEYS[1], 'state', 'amount', 'tokens', 'buckets')
  return { state = found[1], amount = found[2], tokens = found[3], buckets = found[4] }
end

-- Take back what the hold has set aside in an account, or what was posted when it expired.
local function undo(key, hold)
  if hold.state == 'open' then
    take_back(key, 'held', hold.amount)
  elseif hold.state == 'expired' then
    take_back(key, 'posted', hold.amount)
    take_back(key, 'expired', hold.amount)
  end
end

-- The hold is no longer open: *amount* is what it ended with.
local function close(id, state, amount)
  redis.call('HSET', KEYS[1], 'state', state, 'amount', amount)
  redis.call('HDEL', KEYS[1], 'hold')
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
end

local function journal(entry)
  redis.call('XADD', KEYS[5], '*', 'entry', entry)
end

