"""
Request rates, counted by `limits`: sliding windows, in memory or in Redis.
"""

from collections.abc import Sequence
from functools import cache
from math import floor
from typing import Self
from urllib.parse import quote

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from relay_middleware.core.rates import RateStatus
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.stores.connection import Scripts
from relay_middleware.stores.keys import RELAY_KEYS, Keys
from relay_middleware.stores.rate_storage import ScriptedStorage


class LimitsRateLimiter:
    """
    `RateLimiter` over `limits`' sliding window counter: a refused request is not counted.
    """

    def __init__(self, storage: MemoryStorage | ScriptedStorage) -> None:
        self._storage = storage
        self._counter = SlidingWindowCounterRateLimiter(storage)

    @classmethod
    def in_memory(cls) -> Self:
        """Return one that counts in this process."""
        return cls(MemoryStorage(wrap_exceptions=True))

    @classmethod
    def in_redis(cls, scripts: Scripts, *, keys: Keys = RELAY_KEYS) -> Self:
        """
        Return one that counts in Redis.

        Args:
            scripts: Left open: they are the spend store's.
        """  # fmt: skip
        return cls(ScriptedStorage(scripts, key_prefix=keys.rates))

    async def hit(self, subject: str, rate_limits: Sequence[str]) -> RateStatus | None:
        """
        Count one request against *rate_limits*, in their order.

        Returns:
            None if all of them admit it; else the first that refuses, which, like those after it,
            has not counted the request.
        """
        name = _name(subject)
        try:
            for limit in rate_limits:
                if not await self._counter.hit(_item(limit), name):
                    return await self._status(name, limit)
        except StorageError as error:
            raise _unavailable(error) from error
        return None

    async def status(self, subject: str, rate_limits: Sequence[str]) -> tuple[RateStatus, ...]:
        """Report each of *rate_limits* without counting."""
        name = _name(subject)
        try:
            return tuple([await self._status(name, limit) for limit in rate_limits])
        except StorageError as error:
            raise _unavailable(error) from error

    async def _status(self, name: str, limit: str) -> RateStatus:
        item = _item(limit)
        window = await self._storage.get_sliding_window(item.key_for(name), item.get_expiry())
        return status_of(limit, *window)


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


def _unavailable(error: StorageError) -> StoreUnavailableError:
    return StoreUnavailableError(f"request rates cannot be counted: {error.storage_error}")


def _name(subject: str) -> str:
    # `limits` joins names with a slash, which a customer id may hold.
    return quote(subject, safe="")


@cache
def _item(limit: str) -> RateLimitItem:
    """The set of limits is the configuration's, so the cache does not grow."""
    return parse(limit)
