-- Give the place of a hold among its customer's requests back.
--
-- KEYS  1 places of the customer
-- ARGV  1 hold id
-- Answers  how many were given back
return redis.call('ZREM', KEYS[1], ARGV[1])
