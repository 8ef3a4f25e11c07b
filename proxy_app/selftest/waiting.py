"""
Waiting: for what happens in other processes, by asking until it has.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")


async def until(
    ask: Callable[[], Awaitable[Found]], *, timeout_s: float, poll_s: float = 0.05
) -> Found | None:
    """
    Return what *ask* does, as soon as that is something; None where in *timeout_s* it is not.

    By the clock: a time-out of asyncio's is a cancellation, which may be lost
    (`relay_middleware/tasks.py`).
    """
    loop = asyncio.get_running_loop()
    ends_at_s = loop.time() + timeout_s
    while not (found := await ask()):
        if loop.time() >= ends_at_s:
            return None
        await asyncio.sleep(poll_s)
    return found
