"""
The circuit breaker: nobody waits for a Redis that does not answer.
"""

import asyncio
from collections.abc import Sequence

import pytest

from relay_middleware.errors import NothingChangedError, StoreUnavailableError
from relay_middleware.stores.breaker import Breaker, BreakingScripts
from relay_middleware.stores.connection import NoConnectionError, Reply

pytestmark = pytest.mark.anyio


class ScriptedScripts:
    """Answers as it is told: an error to raise, or None to answer."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.gate: asyncio.Event | None = None

    async def start(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    async def call(self, name: str, keys: Sequence[str], args: Sequence[str]) -> Reply:  # noqa: ARG002
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0)
        if answer is not None:
            raise answer
        return b"OK"


class Seconds:
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def behind_breaker(
    scripts: ScriptedScripts, clock: Seconds | None = None, *, most_at_once: int = 16
) -> BreakingScripts:
    """Return *scripts* behind a breaker of their own."""
    breaker = Breaker(
        monotonic_s=clock or Seconds(), most_at_once=most_at_once, queue_timeout_s=0.01
    )
    return BreakingScripts(scripts, breaker)


def away() -> StoreUnavailableError:
    return StoreUnavailableError("away")


async def failures(breaker: BreakingScripts, times: int) -> int:
    """Call *times*, and return how often it failed."""
    failed = 0
    for _ in range(times):
        try:
            await breaker.call("reserve", [], [])
        except StoreUnavailableError:
            failed += 1
    return failed


async def test_after_three_failures_nobody_asks() -> None:
    """
    Of ten calls that fail three reach Redis, the others are refused at once.
    """
    scripts = ScriptedScripts(*[away()] * 10)

    assert await failures(behind_breaker(scripts), 10) == 10
    assert scripts.asked == 3


async def test_one_answer_between_failures_keeps_it_closed() -> None:
    """
    Two failures, an answer, two failures, an answer: all six are asked.
    """
    scripts = ScriptedScripts(away(), away(), None, away(), away(), None)

    assert await failures(behind_breaker(scripts), 6) == 4
    assert scripts.asked == 6


async def test_after_a_second_one_call_tries() -> None:
    """
    A second later one of three calls at once is let through; it answers, and so do all after it.
    """
    clock, scripts = Seconds(), ScriptedScripts(away(), away(), away(), *[None] * 9)
    breaker = behind_breaker(scripts, clock)
    await failures(breaker, 3)
    clock.now_s += 0.999
    assert await failures(breaker, 1) == 1
    clock.now_s += 0.001
    scripts.gate = asyncio.Event()

    first = asyncio.create_task(breaker.call("reserve", [], []))
    await asyncio.sleep(0)
    assert await failures(breaker, 2) == 2
    scripts.gate.set()

    assert await first == b"OK"
    assert await failures(breaker, 5) == 0


async def test_a_try_that_fails_opens_it_again() -> None:
    """
    The one call that is let through fails: for another second nobody asks.
    """
    clock, scripts = Seconds(), ScriptedScripts(*[away()] * 5)
    breaker = behind_breaker(scripts, clock)
    await failures(breaker, 3)
    clock.now_s += 1

    assert await failures(breaker, 4) == 4
    assert scripts.asked == 4


async def test_a_try_that_is_cancelled_lets_the_next_one_try() -> None:
    """
    A call that is given up while it tries does not leave the breaker open for ever.
    """
    clock, scripts = Seconds(), ScriptedScripts(away(), away(), away(), None)
    breaker = behind_breaker(scripts, clock)
    await failures(breaker, 3)
    clock.now_s += 1
    scripts.gate = asyncio.Event()
    first = asyncio.create_task(breaker.call("reserve", [], []))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    scripts.gate.set()

    assert await failures(breaker, 1) == 0


async def test_a_queue_of_ours_says_nothing_about_redis() -> None:
    """
    Calls that found no free connection do not count: a burst must not shut Redis out.
    """
    scripts = ScriptedScripts(*[NoConnectionError("busy")] * 10)

    assert await failures(behind_breaker(scripts), 10) == 10
    assert scripts.asked == 10


async def test_those_who_wait_are_refused_with_the_others() -> None:
    """
    Four places and 100 calls at once, none of them answered: 4 reach Redis, and the other 96 need
    not wait for as long as 24 more rounds of time-outs would take.
    """
    scripts = ScriptedScripts(*[away()] * 100)
    breaker = behind_breaker(scripts, most_at_once=4)
    scripts.gate = asyncio.Event()
    calls = [asyncio.create_task(failures(breaker, 1)) for _ in range(100)]
    await asyncio.sleep(0)
    scripts.gate.set()

    assert await asyncio.gather(*calls) == [1] * 100
    assert scripts.asked == 4


async def test_the_queue_has_an_end() -> None:
    """
    Who waits longer than the queue's time, because no command ends, has changed nothing.
    """
    scripts = ScriptedScripts(None, None)
    breaker = behind_breaker(scripts, most_at_once=1)
    scripts.gate = asyncio.Event()
    first = asyncio.create_task(breaker.call("reserve", [], []))
    await asyncio.sleep(0)

    with pytest.raises(NoConnectionError):
        await breaker.call("reserve", [], [])
    scripts.gate.set()

    assert await first == b"OK"


async def test_a_place_is_not_lost_with_who_was_given_it() -> None:
    """
    One place: who waits for it is cancelled in the moment in which it is handed on, and the next
    call has it at once.
    """
    scripts = ScriptedScripts(None, None)
    breaker = behind_breaker(scripts, most_at_once=1)
    scripts.gate = asyncio.Event()
    first = asyncio.create_task(breaker.call("reserve", [], []))
    second = asyncio.create_task(breaker.call("reserve", [], []))
    await asyncio.sleep(0)
    scripts.gate.set()
    asyncio.get_running_loop().call_soon(second.cancel)

    assert await first == b"OK"
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await breaker.call("reserve", [], []) == b"OK"
    assert scripts.asked == 2


async def test_what_was_not_asked_has_changed_nothing() -> None:
    """
    A refusal of the breaker says that the command took no effect; a failure of Redis does not.
    """
    breaker = behind_breaker(ScriptedScripts(*[away()] * 3))
    unknown = []
    for _ in range(4):
        with pytest.raises(StoreUnavailableError) as raised:
            await breaker.call("reserve", [], [])
        unknown.append(not isinstance(raised.value, NothingChangedError))

    assert unknown == [True, True, True, False]
