-- Name some of the open holds whose time has run out, oldest first.
--
-- KEYS  1 open holds by expiry
-- ARGV  1 most of them
-- Answers  their ids
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now_ms()), 'LIMIT', 0, ARGV[1])
