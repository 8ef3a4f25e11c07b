"""
Tasks that go on until they are told to end.
"""

import asyncio
from collections.abc import Iterable
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
