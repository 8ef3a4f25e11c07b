"""
Tasks that go on until they are told to end, and wait between two pieces of work.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

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
