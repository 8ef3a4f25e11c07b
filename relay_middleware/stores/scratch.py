"""
Scratch keys: what a trial run leaves in somebody's Redis, all of it under a prefix of its own.
"""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from relay_middleware.errors import ConfigurationError, StoreUnavailableError
from relay_middleware.stores.connection import RedisScripts, address_of
from relay_middleware.stores.keys import BUCKETS, Keys

FOUND_AT_ONCE = 1000
"""Keys that one SCAN looks at: some milliseconds of work, in a Redis that may be large."""

TIMEOUT_S = 5.0
"""Longest wait for a command: nobody waits for an answer here, and the machine may be busy."""


class ScratchKeys:
    """The keys of one Relay that is to leave none behind."""

    def __init__(self, redis_url: str, keys: Keys) -> None:
        """
        Args:
            keys: Named so that nobody else's begin alike.

        Raises:
            ConfigurationError: *redis_url* is none.
        """  # fmt: skip
        self._scripts = RedisScripts(redis_url)
        self._redis = Redis.from_url(
            redis_url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._address = address_of(redis_url)
        self._keys = keys

    async def check(self) -> None:
        """
        See whether this Redis will do, and whether its user may do what Relay does.

        Raises:
            ConfigurationError: It may evict keys, or the user may not.
            StoreUnavailableError: It is not there, or the user may run no scripts.
        """
        await self._scripts.start()
        await self._scripts.call("claim", [self._keys.claim("scratch")], ["scratch", "1000"])
        try:
            await self._redis.xgroup_create(self._keys.journal(0), "scratch", mkstream=True)
            await self._remove()
        except ResponseError as error:
            # The vendor's text may name the user, and values.
            raise ConfigurationError(
                f"Redis at {self._address} refused a command ({type(error).__name__}). Its user"
                " must be allowed streams (XADD, XGROUP, XREADGROUP, ...), SCAN and UNLINK"
            ) from error
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    async def journal_entries(self) -> int:
        """
        Return how many entries of the journal the ledger has not got yet.

        Raises:
            StoreUnavailableError: Redis did not answer.
        """
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for bucket in range(BUCKETS):
                    pipeline.xlen(self._keys.journal(bucket))
                return sum(await pipeline.execute())
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    async def remove(self) -> int:
        """
        Remove every key under the prefix, and no other; return how many there were.

        Raises:
            StoreUnavailableError: Redis did not answer; some may be left.
        """
        try:
            return await self._remove()
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._scripts.aclose()
        await self._redis.aclose()

    async def _remove(self) -> int:
        # Nothing in the alphabet of prefixes means something in a pattern but itself.
        found = self._redis.scan_iter(f"{self._keys.prefix}:*", count=FOUND_AT_ONCE)
        return sum([await self._redis.unlink(key) async for key in found])

    def _unavailable(self, error: Exception) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"Redis at {self._address} did not answer ({type(error).__name__})"
        )
