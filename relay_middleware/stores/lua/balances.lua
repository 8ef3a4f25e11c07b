-- Tell what accounts hold.
--
-- KEYS  accounts of one bucket
-- Answers  for each: spent (corrections included), held, credit, expired
local answer = {}
for _, key in ipairs(KEYS) do
  for _, number in ipairs({ balance(key) }) do
    answer[#answer + 1] = number
  end
end
return answer
