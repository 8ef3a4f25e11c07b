"""
Tasks that go on until they are told to end, and wait between two pieces of work.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable, Iterator
from typing import Any, Self, TypeVar, cast

T = TypeVar("T")

AGAIN_S = 1.0
"""How long a task may take to clean up before it is told once more."""


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """
    Cancel *tasks*, and wait until they have ended.

    Once is not enough: Python 3.11's `asyncio.wait_for`, which redis-py writes commands with, drops
    a cancellation that comes in the moment in which it is done. Of tasks that send one command
    after the other every fifth went on (measured, redis-py 8.1.0).
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)


class Patience:
    """
    Bounds many waits of one task, one after the other, each to the same time.

    As `asyncio.timeout` around each of them would, which costs 5 µs where this costs 1 (measured):
    there is one timer, which looks from time to time whether a wait has been going on for too long.
    To be closed, or used as a context, so that nothing is left of it.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since_s: float | None = None
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_ended = False

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """
        Wait for *awaitable*.

        Raises:
            TimeoutError: It took longer than the limit, and was cancelled.
        """
        loop = asyncio.get_running_loop()
        task = self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        cancelling = task.cancelling()
        self._has_ended = False
        self._since_s = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._limit_s, self._look)
        try:
            return await awaitable
        except asyncio.CancelledError:
            if self._has_ended and task.cancelling() - 1 <= cancelling:
                raise TimeoutError from None
            raise
        finally:
            self._since_s = None
            if self._has_ended:
                task.uncancel()

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look(self) -> None:
        self._timer = None
        if self._since_s is None or self._task is None:
            return
        loop = asyncio.get_running_loop()
        left_s = self._since_s + self._limit_s - loop.time()
        if left_s > 0:
            self._timer = loop.call_later(left_s, self._look)
        else:
            # It is suspended in `wait`: that is where the cancellation arrives.
            self._has_ended = True
            self._task.cancel()


class Gathering:
    """
    Waits a little for more of what is done together, unless somebody is in a hurry.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._hurried = asyncio.Event()
        self._hurrying = 0

    async def wait(self) -> None:
        """Wait; not at all, or no longer, while somebody is in a hurry."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._hurried.wait()

    @contextlib.contextmanager
    def hurrying(self) -> Iterator[None]:
        """Be in a hurry while the context lasts."""
        self._hurrying += 1
        self._hurried.set()
        try:
            yield
        finally:
            self._hurrying -= 1
            if not self._hurrying:
                self._hurried.clear()
