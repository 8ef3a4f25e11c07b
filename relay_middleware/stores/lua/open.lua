-- Declare a bucket filled. The second to do so changes nothing.
--
-- A bucket that has lost its data since its filling began has lost the mark of that too.
--
-- KEYS  1 epoch of the bucket, 2 mark of its filling
-- ARGV  1 its name, 2 whose filling it was ('' = nobody's: it was empty)
-- Answers  1 where it was not before, else 0
if ARGV[2] ~= '' then
  if redis.call('GET', KEYS[2]) ~= ARGV[2] then
    return 0
  end
  redis.call('DEL', KEYS[2])
end
return redis.call('SETNX', KEYS[1], ARGV[1])
