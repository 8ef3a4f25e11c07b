-- Count a request in a sliding window, if it fits.
--
-- KEYS  1 window
-- ARGV  1 most requests, 2 milliseconds of a window
-- Answers  1 where it was counted, else 0; the window, as `reserve.lua` has it
local window = window_of(KEYS[1], ARGV[1], ARGV[2], now_ms())
local counted = 0
if has_room(window) then
  counted = 1
  count_request(window)
end
return { counted, window.previous, window.current, window.left }
