-- Count a request in a sliding window, if it fits.
--
-- As `limits` has it: a window begins with its first request, and while it runs, those of the one
-- before count less and less. What a window has counted is kept for one window more.
--
-- KEYS  1 window: a hash of ends (when the current one does, in ms), current, previous
-- ARGV  1 most requests, 2 milliseconds of a window
-- Answers  1 where it was counted, else 0; requests of the previous window, milliseconds until
--          they count for nothing; those of the current one, milliseconds until those do
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = now_ms()
local found = redis.call('HMGET', KEYS[1], 'ends', 'current', 'previous')
local ends, current = tonumber(found[1] or '0'), tonumber(found[2] or '0')
local previous = tonumber(found[3] or '0')
if now >= ends + window then
  ends, current, previous = now + window, 0, 0
elseif now >= ends then
  ends, current, previous = ends + window, 0, current
end
-- Not more than a window, where the clock was set back.
local left = math.min(ends - now, window)
local counted = 0
if math.floor(previous * left / window) + current + 1 <= limit then
  counted = 1
  current = current + 1
  redis.call('HSET', KEYS[1], 'ends', ends, 'current', current, 'previous', previous)
  redis.call('PEXPIRE', KEYS[1], left + window)
end
return { counted, previous, left, current, left + window }
