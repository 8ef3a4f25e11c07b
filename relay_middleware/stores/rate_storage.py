"""
Where `limits` keeps its sliding windows: in Redis, by a script of ours, on the connection that all
else goes over.

Through what `limits` offers for it (its documentation, "Custom storage backends", read 2026-11-25).
Its own storage would bring a pool of connections and a second way to Redis.
"""

from typing import NoReturn

from limits.aio.storage import SlidingWindowCounterSupport, Storage
from typing_extensions import override

from relay_middleware.errors import StoreUnavailableError
from relay_middleware.stores import replies
from relay_middleware.stores.connection import Scripts

_MS = 1000


class ScriptedStorage(Storage, SlidingWindowCounterSupport):
    """
    Sliding windows, and nothing else of what `limits` can count.

    A hit whose reply is lost with its connection is repeated, and then counts twice: one request
    fewer is let in, never one more.
    """

    STORAGE_SCHEME = None

    def __init__(self, scripts: Scripts, *, key_prefix: str) -> None:
        super().__init__(wrap_exceptions=True)
        self._scripts = scripts
        self._key_prefix = key_prefix

    @property
    @override
    def base_exceptions(self) -> type[Exception]:
        return StoreUnavailableError

    @override
    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        counted, *_ = await self._hit(key, limit, expiry, amount)
        return counted == 1

    @override
    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        _, previous, previous_left_ms, current, current_left_ms = await self._hit(key, 0, expiry, 0)
        return previous, previous_left_ms / _MS, current, current_left_ms / _MS

    async def _hit(self, key: str, limit: int, expiry_s: int, amount: int) -> list[int]:
        args = [str(limit), str(expiry_s * _MS), str(amount)]
        reply = await self._scripts.call("hit", [f"{self._key_prefix}:{key}"], args)
        return [int(number) for number in replies.to_list(reply)]

    @override
    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        _not_counted()

    @override
    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        _not_counted()

    @override
    async def get(self, key: str) -> int:
        _not_counted()

    @override
    async def get_expiry(self, key: str) -> float:
        _not_counted()

    @override
    async def clear(self, key: str) -> None:
        _not_counted()

    @override
    async def reset(self) -> int | None:
        _not_counted()

    @override
    async def check(self) -> bool:
        _not_counted()


def _not_counted() -> NoReturn:
    raise NotImplementedError("only sliding windows are counted here, and none is ever reset")
