"""
Request rates: sliding windows as `limits` counts them, by `limits` in memory, by a script in Redis.
"""

from collections.abc import Sequence
from functools import cache
from math import floor
from typing import NamedTuple, Protocol, Self
from urllib.parse import quote

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage

from relay_middleware.core.rates import RateCount, RateStatus
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.stores import replies
from relay_middleware.stores.connection import Scripts
from relay_middleware.stores.keys import RELAY_KEYS, Keys

_MS = 1000


class Hit(NamedTuple):
    """
    What a sliding window holds once a request was counted in it, or refused.

    Attributes:
        is_counted: Whether it was counted.
        previous: Requests of the previous window, which count less and less.
        previous_left_s: Seconds until they count for nothing.
        current: Requests of the current window.
        current_left_s: Seconds until those count for nothing: its own rest and one window more.
    """

    is_counted: bool
    previous: int
    previous_left_s: float
    current: int
    current_left_s: float


class Windows(Protocol):
    """Counts requests in sliding windows of any length."""

    async def hit(self, key: str, limit: int, window_s: int) -> Hit:
        """
        Count one request in the window *key*, if no more than *limit* are in it then.

        Raises:
            StoreUnavailableError: It may or may not have been counted.
        """
        ...


class WindowRateLimiter:
    """
    `RateLimiter` over sliding windows, in the notation of `limits`.
    """

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    @classmethod
    def in_memory(cls) -> Self:
        """Return one that counts in this process."""
        return cls(MemoryWindows())

    @classmethod
    def in_redis(cls, scripts: Scripts, *, keys: Keys = RELAY_KEYS) -> Self:
        """
        Return one that counts in Redis.

        Args:
            scripts: Left open: they are the spend store's.
        """  # fmt: skip
        return cls(ScriptedWindows(scripts, key_prefix=keys.rates))

    async def hit(self, subject: str, rate_limits: Sequence[str]) -> RateCount:
        """
        Count one request against *rate_limits*, in their order, up to the first that refuses it.

        Raises:
            StoreUnavailableError: It may or may not have been counted.
        """
        # `limits` joins names with a slash, which a customer id may hold.
        name = quote(subject, safe="")
        counted: list[RateStatus] = []
        for limit in rate_limits:
            item = _item(limit)
            hit = await self._windows.hit(item.key_for(name), item.amount, item.get_expiry())
            status = status_of(limit, hit)
            if not hit.is_counted:
                return RateCount(tuple(counted), refusing=status)
            counted.append(status)
        return RateCount(tuple(counted))


class MemoryWindows:
    """`Windows` of this process, as `limits` keeps them."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()

    async def hit(self, key: str, limit: int, window_s: int) -> Hit:
        """Count one request, if it fits."""
        is_counted = await self._storage.acquire_sliding_window_entry(key, limit, window_s)
        return Hit(is_counted, *await self._storage.get_sliding_window(key, window_s))


class ScriptedWindows:
    """
    `Windows` in Redis, on the connection that all else goes over, as `limits` has them: its own
    storage would bring a pool of connections, a second way to Redis, and a second question for what
    is left.

    A hit whose reply is lost with its connection is repeated, and then counts twice: one request
    fewer is let in, never one more.
    """

    def __init__(self, scripts: Scripts, *, key_prefix: str) -> None:
        self._scripts = scripts
        self._key_prefix = key_prefix

    async def hit(self, key: str, limit: int, window_s: int) -> Hit:
        """
        Count one request, if it fits.

        Raises:
            StoreUnavailableError: It may or may not have been counted.
        """
        args = [str(limit), str(window_s * _MS)]
        try:
            reply = await self._scripts.call("hit", [f"{self._key_prefix}:{key}"], args)
        except StoreUnavailableError as error:
            raise type(error)(f"request rates cannot be counted: {error}") from error
        is_counted, previous, previous_left_ms, current, current_left_ms = map(
            int, replies.to_list(reply)
        )
        return Hit(
            is_counted=is_counted == 1,
            previous=previous,
            previous_left_s=previous_left_ms / _MS,
            current=current,
            current_left_s=current_left_ms / _MS,
        )


def status_of(limit: str, hit: Hit) -> RateStatus:
    """
    Say what two windows leave of *limit*.

    Not by the `get_window_stats` of `limits`, which says 0 s instead of a whole window at a
    window's start.
    """
    item = _item(limit)
    window_s = item.get_expiry()
    fading = hit.previous * hit.previous_left_s / window_s
    reset_after_s = 0.0
    if fading:
        reset_after_s = hit.previous_left_s % (window_s / hit.previous)
    elif hit.current:
        reset_after_s = hit.current_left_s - window_s
    return RateStatus(
        limit=limit,
        limit_requests=item.amount,
        remaining_requests=max(0, item.amount - floor(fading + hit.current)),
        reset_after_s=max(0.0, reset_after_s),
    )


@cache
def _item(limit: str) -> RateLimitItem:
    """The set of limits is the configuration's, so the cache does not grow."""
    return parse(limit)
