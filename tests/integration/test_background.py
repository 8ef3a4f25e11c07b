"""
Work that outlives its request, and the places for it.
"""

import asyncio

import pytest

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.services import Background, Drains

pytestmark = pytest.mark.anyio

ALICE, BOB, CAROL = CustomerId("alice"), CustomerId("bob"), CustomerId("carol")


async def test_drain_waits_for_work_and_the_work_it_makes() -> None:
    """
    Work that spawns more work is waited for, both of it.
    """
    background, done = Background(), []

    async def second() -> None:
        done.append("second")

    async def first() -> None:
        await asyncio.sleep(0)
        background.spawn(second())
        done.append("first")

    background.spawn(first())

    assert await background.drain(5) == 0
    assert done == ["first", "second"]


async def test_drain_cancels_what_takes_too_long() -> None:
    """
    Work that does not end is cancelled, may clean up, and is counted.
    """
    background, cleaned = Background(), []

    async def endless() -> None:
        try:
            await asyncio.Future()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    background.spawn(endless())

    assert await background.drain(0.01) == 1
    assert cleaned == [True]


async def test_what_cancelled_work_begins_is_waited_for() -> None:
    """
    Work that is cut off hands its hold back in work of its own, which is not cut off.
    """
    background, done = Background(), []

    async def last_words() -> None:
        await asyncio.sleep(0.01)
        done.append(True)

    async def endless() -> None:
        try:
            await asyncio.Future()
        finally:
            background.spawn(last_words())

    background.spawn(endless())
    await background.drain(0.01)

    assert done == [True]


def test_places_are_bounded() -> None:
    """
    Of two places the third comer gets none, until one is given back.
    """
    drains = Drains(at_most=2, seconds=120)

    assert [drains.enter(ALICE) for _ in range(3)] == [120, 120, 0]
    drains.leave(ALICE)
    assert drains.enter(ALICE) == 120


def test_nobody_has_all_places() -> None:
    """
    Of 8 places one customer gets 4, half of them; another one, who has 2 of the rest, no third; but
    a third customer gets the 2 that are left; and places that are given back are free.
    """
    drains = Drains(at_most=8, of_one=2, seconds=120)

    assert [drains.enter(ALICE) for _ in range(5)] == [120] * 4 + [0]
    assert [drains.enter(BOB) for _ in range(3)] == [120] * 2 + [0]
    assert [drains.enter(CAROL) for _ in range(3)] == [120] * 2 + [0]
    drains.leave(BOB)
    assert drains.enter(ALICE) == 0
    assert drains.enter(BOB) == 120
