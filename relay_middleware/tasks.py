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


class _Wait:
    """One that has begun."""

    __slots__ = ("cancelling", "has_ended", "since_s", "task")

    def __init__(self, task: asyncio.Task[Any], since_s: float) -> None:
        self.task = task
        self.since_s = since_s
        self.cancelling = task.cancelling()
        self.has_ended = False


class Patience:
    """
    Bounds any number of waits, of any tasks of one event loop, each to the same time.

    As `asyncio.timeout` around each of them would, which costs 5 µs where this costs 1 (measured):
    there is one timer, which looks from time to time whether a wait has been going on for too long.
    Whoever is done with it may close it, or use it as a context, so that no timer is left of it.

    Attributes:
        limit_s: The time.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        # In the order in which they began, which is that in which their time is up.
        self._waits: dict[_Wait, None] = {}
        # Of those. To ask for it costs a call of the system's, until Python 3.12.
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """
        Wait for *awaitable*.

        Raises:
            TimeoutError: It took longer than the limit, and was cancelled.
        """
        if not self._waits:
            self._loop = asyncio.get_running_loop()
        loop = self._loop
        wait = _Wait(cast("asyncio.Task[Any]", asyncio.current_task(loop)), loop.time())
        self._waits[wait] = None
        if self._timer is None:
            self._timer = loop.call_later(self.limit_s, self._look)
        try:
            return await awaitable
        except asyncio.CancelledError:
            if wait.has_ended and wait.task.cancelling() - 1 <= wait.cancelling:
                raise TimeoutError from None
            raise
        finally:
            del self._waits[wait]
            if wait.has_ended:
                wait.task.uncancel()

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
        loop = self._loop
        now_s = loop.time()
        for wait in self._waits:
            ends_at_s = wait.since_s + self.limit_s
            if ends_at_s > now_s:
                self._timer = loop.call_at(ends_at_s, self._look)
                return
            if not wait.has_ended:
                # Its task is suspended in `wait`: that is where the cancellation arrives.
                wait.has_ended = True
                wait.task.cancel()


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
