"""
Request rates, counted by `limits`: sliding windows, in memory or in Redis.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import cache
from math import floor
from typing import Self
from urllib.parse import quote

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from redis.asyncio import BlockingConnectionPool

from relay_middleware.core.rates import RateStatus
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.stores.breaker import Breaker
from relay_middleware.stores.connection import address_of, connection_pool
from relay_middleware.stores.keys import RELAY_KEYS, Keys


class LimitsRateLimiter:
    """
    `RateLimiter` over `limits`' sliding window counter: a refused request is not counted.
    """

    def __init__(
        self,
        storage: MemoryStorage | RedisStorage,
        *,
        where: str,
        pool: BlockingConnectionPool | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        """
        Args:
            where: Names the storage in messages.
            pool: Closed with this.
            breaker: Spares the storage, and those who wait, while it does not answer.
        """  # fmt: skip
        self._storage = storage
        self._counter = SlidingWindowCounterRateLimiter(storage)
        self._where = where
        self._pool = pool
        self._breaker = breaker

    @classmethod
    def in_memory(cls) -> Self:
        """Return one that counts in this process."""
        return cls(MemoryStorage(wrap_exceptions=True), where="memory")

    @classmethod
    def in_redis(
        cls, redis_url: str, *, keys: Keys = RELAY_KEYS, breaker: Breaker | None = None
    ) -> Self:
        """
        Return one that counts in Redis.

        Through a pool of its own: `limits`' default one fails at 101 calls at once (measured).
        """
        pool = connection_pool(redis_url)
        storage = RedisStorage(
            "async+redis://",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix=keys.rates,
            # Typed too narrowly by `limits`, whose documentation passes a pool here.
            connection_pool=pool,  # type: ignore[arg-type]
        )
        where = f"Redis at {address_of(redis_url)}"
        return cls(storage, where=where, pool=pool, breaker=breaker)

    async def hit(self, subject: str, rate_limits: Sequence[str]) -> RateStatus | None:
        """
        Count one request against *rate_limits*, in their order.

        Returns:
            None if all of them admit it; else the first that refuses, which, like those after it,
            has not counted the request.
        """
        name = _name(subject)
        async with self._asking():
            for limit in rate_limits:
                if not await self._counter.hit(_item(limit), name):
                    return await self._status(name, limit)
        return None

    async def status(self, subject: str, rate_limits: Sequence[str]) -> tuple[RateStatus, ...]:
        """Report each of *rate_limits* without counting."""
        name = _name(subject)
        async with self._asking():
            return tuple([await self._status(name, limit) for limit in rate_limits])

    async def aclose(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            await self._pool.aclose()

    async def _status(self, name: str, limit: str) -> RateStatus:
        item = _item(limit)
        window = await self._storage.get_sliding_window(item.key_for(name), item.get_expiry())
        return status_of(limit, *window)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        async with nullcontext() if self._breaker is None else self._breaker.asking():
            try:
                yield
            except StorageError as error:
                raise StoreUnavailableError(
                    f"request rates cannot be counted: {self._where} failed"
                ) from error


def status_of(
    limit: str, previous: int, previous_left_s: float, current: int, current_left_s: float
) -> RateStatus:
    """
    Say what two windows of `limits` leave of *limit*.

    Not by its own `get_window_stats`, which says 0 s instead of a whole window at a window's start.

    Args:
        previous: Requests of the previous window, which count less and less.
        previous_left_s: Seconds until they count for nothing.
        current: Requests of the current window.
        current_left_s: Seconds until those count for nothing: its own rest and one window more.
    """
    item = _item(limit)
    window_s = item.get_expiry()
    fading = previous * previous_left_s / window_s
    reset_after_s = 0.0
    if fading:
        reset_after_s = previous_left_s % (window_s / previous)
    elif current:
        reset_after_s = current_left_s - window_s
    return RateStatus(
        limit=limit,
        limit_requests=item.amount,
        remaining_requests=max(0, item.amount - floor(fading + current)),
        reset_after_s=max(0.0, reset_after_s),
    )


def _name(subject: str) -> str:
    # `limits` joins names with a slash, which a customer id may hold.
    return quote(subject, safe="")


@cache
def _item(limit: str) -> RateLimitItem:
    """The set of limits is the configuration's, so the cache does not grow."""
    return parse(limit)
