"""
Request rates in the notation of `limits`, and what is counted of them apart from a hold: sliding
windows, by `limits` in memory, by a script in Redis. A customer's own are counted with its holds.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, Protocol, Self
from urllib.parse import quote

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage

from relay_middleware.core.rates import RateCount, RateStatus, RequestLimit, RequestWindow
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.stores import replies
from relay_middleware.stores.connection import Scripts
from relay_middleware.stores.keys import RELAY_KEYS, Keys

_MS = 1000


class Hit(NamedTuple):
    """What a sliding window holds once a request was counted in it, or refused."""

    is_counted: bool
    window: RequestWindow


class Windows(Protocol):
    """Counts requests in sliding windows of any length."""

    async def hit(self, key: str, limit: RequestLimit) -> Hit:
        """
        Count one request in the window *key*, if it has room under *limit*.

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
        # `limits` joins names with a slash, which a subject may hold.
        name = quote(subject, safe="")
        counted: list[RateStatus] = []
        for rate in rate_limits:
            limit = limit_of(rate)
            hit = await self._windows.hit(_item(rate).key_for(name), limit)
            status = hit.window.status(limit)
            if not hit.is_counted:
                return RateCount(tuple(counted), refusing=status)
            counted.append(status)
        return RateCount(tuple(counted))


class MemoryWindows:
    """`Windows` of this process, as `limits` keeps them."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()

    async def hit(self, key: str, limit: RequestLimit) -> Hit:
        """Count one request, if it fits."""
        window_s = limit.window_s
        is_counted = await self._storage.acquire_sliding_window_entry(
            key, limit.limit_requests, window_s
        )
        previous, _, current, until_forgotten_s = await self._storage.get_sliding_window(
            key, window_s
        )
        # What a window has counted is forgotten a window after its end.
        left_ms = round((until_forgotten_s - window_s) * _MS)
        window = RequestWindow(
            previous_requests=previous, current_requests=current, left_ms=left_ms
        )
        return Hit(is_counted, window)


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

    async def hit(self, key: str, limit: RequestLimit) -> Hit:
        """
        Count one request, if it fits.

        Raises:
            StoreUnavailableError: It may or may not have been counted.
        """
        args = [str(limit.limit_requests), str(limit.window_s * _MS)]
        try:
            reply = await self._scripts.call("hit", [f"{self._key_prefix}:{key}"], args)
        except StoreUnavailableError as error:
            raise type(error)(f"request rates cannot be counted: {error}") from error
        is_counted, *window = replies.to_list(reply)
        return Hit(int(is_counted) == 1, replies.to_request_windows(window)[0])


@cache
def limit_of(rate: str) -> RequestLimit:
    """
    Read a request rate in the notation of `limits`.

    The set of rates is the configuration's, so the cache does not grow.
    """
    item = _item(rate)
    return RequestLimit(rate, limit_requests=item.amount, window_s=item.get_expiry())


@cache
def _item(rate: str) -> RateLimitItem:
    return parse(rate)
