-- Mark a bucket that is going to be filled. Whoever begins last counts.
--
-- KEYS  1 mark
-- ARGV  1 whose filling it is, 2 milliseconds after which it was given up
-- Answers  'OK'
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 'OK'
