-- Correct one account by hand, once.
--
-- KEYS  1 operation, 2 account, 3 epoch of the bucket
-- ARGV  1 added to what is spent, 2 added to the credit, 3 second at which both may be forgotten ('' =
--       never), 4 epoch that the caller means
-- Answers  'OK'      'DUP' (nothing changed)      'COLD'
if redis.call('GET', KEYS[3]) ~= ARGV[4] then
  return { 'COLD' }
end
if not redis.call('SET', KEYS[1], '1', 'NX') then
  return { 'DUP' }
end
redis.call('HINCRBY', KEYS[2], 'adjusted', ARGV[1])
redis.call('HINCRBY', KEYS[2], 'credit', ARGV[2])
if ARGV[3] ~= '' then
  redis.call('EXPIREAT', KEYS[1], ARGV[3])
  redis.call('EXPIREAT', KEYS[2], ARGV[3])
end
return { 'OK' }
