-- Tell the epoch of a bucket: what it was named when it was last declared filled.
--
-- KEYS  1 epoch of the bucket
-- Answers  it; '' where the bucket has lost its data
return redis.call('GET', KEYS[1]) or ''
