"""
Tasks: waits that are bounded, cut short, or cancelled from outside.
"""

import asyncio

import pytest

from relay_middleware.tasks import Gathering, Patience

pytestmark = pytest.mark.anyio


async def after_turns(turns: int) -> int:
    """Answer *turns* after that many turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return turns


async def test_waits_that_are_short_enough_answer() -> None:
    """
    A hundred waits, one after the other, of a task that has a minute for each.
    """
    with Patience(60) as patience:
        assert [await patience.wait(after_turns(turns)) for turns in range(100)] == [*range(100)]


async def test_a_wait_that_is_too_long_ends() -> None:
    """
    What never comes is a TimeoutError, each time; in between, and afterwards, nothing is cancelled.
    """
    task = asyncio.current_task()
    assert task is not None
    with Patience(0.001) as patience:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await patience.wait(asyncio.get_running_loop().create_future())
            # Not within the limit: a machine that does much else may need longer.
            assert await after_turns(3) == 3

    assert task.cancelling() == 0


async def test_each_of_many_tasks_has_its_own_time() -> None:
    """
    Of a hundred tasks that share a patience, those that wait for what never comes end, and those
    whose answer comes have it.
    """
    never = asyncio.get_running_loop().create_future
    # Ample: those whose answer comes have up to 98 turns of the loop to go.
    with Patience(1) as patience:
        found = await asyncio.gather(
            *(patience.wait(never() if turns % 2 else after_turns(turns)) for turns in range(100)),
            return_exceptions=True,
        )

    assert found[::2] == [*range(0, 100, 2)]
    assert {type(each) for each in found[1::2]} == {TimeoutError}


async def test_time_between_waits_does_not_count() -> None:
    """
    A task that is busy for longer than the limit between two waits is not cut off.
    """
    with Patience(0.05) as patience:
        await patience.wait(after_turns(1))
        # Longer than the limit: the timer has looked, and found nobody waiting.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.get_running_loop().create_future()
        assert await patience.wait(after_turns(1)) == 1


async def test_a_cancellation_from_outside_stays_one() -> None:
    """
    Whoever is cancelled in a wait is cancelled, and hears of no time-out.
    """
    with Patience(60) as patience:
        waiting = asyncio.ensure_future(patience.wait(asyncio.get_running_loop().create_future()))
        await after_turns(2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_what_swallows_its_cancellation_leaves_no_trace() -> None:
    """
    A wait that answers although its time was up has answered, and its task is not being cancelled.
    """

    async def stubborn() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return "late"
        return "never"

    task = asyncio.current_task()
    assert task is not None
    with Patience(0.001) as patience:
        assert await patience.wait(stubborn()) == "late"

    assert task.cancelling() == 0


async def test_a_hurry_ends_gathering() -> None:
    """
    Of an hour nothing is waited for while one of two is in a hurry, and then it is again.
    """
    gathering = Gathering(3600)
    waiting = asyncio.ensure_future(gathering.wait())
    await after_turns(2)
    with gathering.hurrying():
        with gathering.hurrying():
            await waiting
        await gathering.wait()

    later = asyncio.ensure_future(gathering.wait())
    await after_turns(2)
    assert not later.done()
    later.cancel()
