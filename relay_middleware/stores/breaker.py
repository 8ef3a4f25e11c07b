"""
The circuit breaker: while Redis does not answer, nobody waits for it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ParamSpec

from relay_middleware.errors import NothingChangedError, StoreUnavailableError
from relay_middleware.stores.connection import (
    MAX_CONNECTIONS,
    POOL_TIMEOUT_S,
    NoConnectionError,
    Reply,
    Scripts,
)

P = ParamSpec("P")

FAILURES_TO_OPEN = 3
"""One after the other. A single one may be a connection that was cut."""

OPEN_S = 1.0
"""How long nobody asks; then one command tries."""


class Breaker:
    """
    Refuses at once for a second after three failures in a row; then one command is let through,
    which decides whether the others are.

    All that a process asks of one Redis goes through one breaker, and waits here for its turn
    rather than for a connection: those who wait when it opens do not find out for themselves.
    """

    def __init__(
        self,
        *,
        monotonic_s: Callable[[], float],
        most_at_once: int = MAX_CONNECTIONS,
        queue_timeout_s: float = POOL_TIMEOUT_S,
    ) -> None:
        """
        Args:
            most_at_once: Commands under way; not more than there are connections.
            queue_timeout_s: Longest wait for one of these places.
        """  # fmt: skip
        self._monotonic_s = monotonic_s
        self._places = most_at_once
        # Those who wait for one, in their order.
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._queue_timeout_s = queue_timeout_s
        self._failures = 0
        self._is_trying = False
        self._closed_at_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether Redis did not answer lately."""
        return self._failures >= FAILURES_TO_OPEN

    async def ask(
        self, command: Callable[P, Awaitable[Reply]], *args: P.args, **kwargs: P.kwargs
    ) -> Reply:
        """
        Let one command through, and note whether it was answered.

        Raises:
            NothingChangedError: It is not let through.
            StoreUnavailableError: As the command itself raised it.
        """
        if self._places:
            self._places -= 1
        else:
            await self._queue()
        is_probe = False
        try:
            if self.is_open:
                is_probe = self._admit()
            answer = await command(*args, **kwargs)
        except NothingChangedError:
            # A queue of ours, or a refusal: neither says anything about Redis.
            raise
        except StoreUnavailableError:
            self._failures += 1
            if self.is_open:
                self._closed_at_s = self._monotonic_s() + OPEN_S
            raise
        else:
            self._failures = 0
            return answer
        finally:
            if is_probe:
                self._is_trying = False
            self._leave()

    async def _queue(self) -> None:
        """Wait for a place, which whoever leaves it hands on."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self._queue_timeout_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                # It was handed on in the moment in which the wait ended.
                self._leave()
            if isinstance(error, TimeoutError):
                raise NoConnectionError(
                    "no command to Redis ended in time to begin this one"
                ) from None
            raise

    def _leave(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._places += 1

    def _admit(self) -> bool:
        """Let a command through, or raise; return whether it is the one that tries."""
        if not self.is_open:
            return False
        if self._is_trying or self._monotonic_s() < self._closed_at_s:
            raise NothingChangedError(
                f"Redis was not asked: it did not answer {self._failures} times in a row"
            )
        self._is_trying = True
        return True


class BreakingScripts:
    """`Scripts` behind a breaker."""

    def __init__(self, scripts: Scripts, breaker: Breaker) -> None:
        self._scripts = scripts
        self._breaker = breaker

    async def start(self) -> None:
        """As the inner one: at a start the truth is asked for."""
        await self._scripts.start()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._scripts.aclose()

    def call(
        self, name: str, keys: Sequence[str], args: Sequence[str]
    ) -> Coroutine[Any, Any, Reply]:
        """
        Run the script *name*, atomically.

        Raises:
            StoreUnavailableError: It did not answer in time, or has not lately.
        """
        return self._breaker.ask(self._scripts.call, name, keys, args)
