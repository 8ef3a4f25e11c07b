"""
Stores that go away: nothing is let through unchecked, and what was spent is posted in the end.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.world import World, deployment, running, tiers

from relay_middleware.composition import Parts
from relay_middleware.core.holds import Ended, Hold, NotReserved, Reserved
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.core.rates import RateStatus
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ports import RateLimiter, SpendStore
from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio


class FlakyStore:
    """
    A store whose answers are lost now and then: the worst case, the command took effect.

    Attributes:
        losses: How many more answers of a command are lost, by its name.
    """

    def __init__(self, inner: SpendStore) -> None:
        self._inner = inner
        self.losses: Counter[str] = Counter()

    def _lose(self, command: str) -> None:
        if self.losses[command] > 0:
            self.losses[command] -= 1
            raise StoreUnavailableError("nowhere did not answer")

    async def start(self) -> None:
        await self._inner.start()

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def reserve(self, hold: Hold) -> Reserved | NotReserved:
        result = await self._inner.reserve(hold)
        self._lose("reserve")
        return result

    async def settle(self, hold: Hold, actual_nano_usd: NanoUsd) -> Ended:
        ended = await self._inner.settle(hold, actual_nano_usd)
        self._lose("settle")
        return ended

    async def release(self, hold: Hold, *, is_dispatched: bool) -> Ended:
        ended = await self._inner.release(hold, is_dispatched=is_dispatched)
        self._lose("release")
        return ended

    async def acknowledge(self, holds: Sequence[tuple[CustomerId, HoldId]]) -> None:
        await self._inner.acknowledge(holds)

    async def raise_to(
        self, customer_id: CustomerId, window: PeriodWindow, posted_nano_usd: NanoUsd
    ) -> None:
        await self._inner.raise_to(customer_id, window, posted_nano_usd)


class FlakyRates:
    """
    A rate limiter that can be away.

    Attributes:
        away: Commands that fail.
    """

    def __init__(self, inner: RateLimiter) -> None:
        self._inner = inner
        self.away: set[str] = set()

    async def hit(self, subject: str, rate_limits: Sequence[str]) -> RateStatus | None:
        if "hit" in self.away and subject.startswith("customer:"):
            raise StoreUnavailableError("nowhere did not answer")
        return await self._inner.hit(subject, rate_limits)

    async def status(self, subject: str, rate_limits: Sequence[str]) -> tuple[RateStatus, ...]:
        if "status" in self.away:
            raise StoreUnavailableError("nowhere did not answer")
        return await self._inner.status(subject, rate_limits)


class Scene:
    """A world whose stores can be made to fail, and which never really waits."""

    def __init__(self) -> None:
        self.pauses_s: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)

    def change(self, parts: Parts) -> Parts:
        self.spend = FlakyStore(parts.spend)
        self.rates = FlakyRates(parts.services.rates)
        services = replace(parts.services, spend=self.spend, rates=self.rates, sleep=self.sleep)
        return replace(parts, services=services)


@pytest.fixture(name="scene")
def _scene() -> Scene:
    return Scene()


@pytest.fixture(name="world")
async def _world(tmp_path: Path, scene: Scene) -> AsyncIterator[World]:
    simulator = Simulator()
    async with simulator.serve() as provider:
        config = {"model_list": [deployment(provider)], **tiers(rate_limits=["50/day"])}
        async with running(tmp_path, config, simulator, change=scene.change) as world:
            yield world


async def left_nano_usd(world: World) -> int:
    """What a fresh answer of alice says is left, with its own charge put back."""
    relay = (await world.post()).json()["relay"]
    return round(relay["spend_remaining_cents"] * 10_000_000) + int(relay["charge_nano_usd"])


async def test_no_answer_to_a_reserve_lets_nothing_through(world: World, scene: Scene) -> None:
    """
    503 with Retry-After and no call; the hold, which was taken unseen, is given back.
    """
    scene.spend.losses["reserve"] = 1

    answer = await world.post()

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "enforcement_unavailable"
    assert world.simulator.calls() == 0
    await world.relay.drain()
    assert await left_nano_usd(world) == 1_000_000_000


async def test_giving_back_is_repeated(world: World, scene: Scene) -> None:
    """
    The release of such a hold is tried again, after 0.1 and 1 s, until it is answered.
    """
    scene.spend.losses.update(reserve=1, release=2)

    await world.post()
    await world.relay.drain()

    assert scene.pauses_s == [0.1, 1.0]
    assert await left_nano_usd(world) == 1_000_000_000


async def test_rates_that_cannot_be_counted_give_the_money_back(world: World, scene: Scene) -> None:
    """
    Reserved, then no answer from the rates: 503, no call, and nothing is held.
    """
    scene.rates.away = {"hit"}
    answer = await world.post()
    scene.rates.away = set()
    await world.relay.drain()

    assert answer.status_code == 503
    assert world.simulator.calls() == 0
    assert await left_nano_usd(world) == 1_000_000_000


async def test_rates_that_cannot_be_read_cost_no_answer(world: World, scene: Scene) -> None:
    """
    The `x-ratelimit-*` headers are a courtesy: without them the answer comes all the same.
    """
    scene.rates.away = {"status"}

    answer = await world.post()

    assert answer.status_code == 200
    assert not any(name.startswith("x-ratelimit") for name in answer.headers)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failing_settle_never_fails_the_answer(
    world: World, scene: Scene, *, stream: bool
) -> None:
    """
    The answer comes without the remainder, which is not known; it is charged once in the end.
    """
    scene.spend.losses["settle"] = 3

    answer = await world.post(
        {"model": "smart", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    )
    (row,) = await world.ledger()

    assert answer.status_code == 200
    assert '"cost_cents":' in answer.text
    assert "spend_remaining_cents" not in answer.text
    assert scene.pauses_s == [0.1, 0.5, 1.0]
    assert await left_nano_usd(world) == 1_000_000_000 - int(str(row["charge_nano_usd"]))


async def test_a_settle_that_fails_for_good_is_in_the_ledger(world: World, scene: Scene) -> None:
    """
    After the last try the charge is still written: the ledger is the book of record.
    """
    scene.spend.losses["settle"] = 100

    await world.post()

    assert len(await world.ledger()) == 1
    assert sum(scene.pauses_s) == pytest.approx(68.6)


async def test_a_failing_release_is_repeated(world: World, scene: Scene) -> None:
    """
    A call that failed at the provider gives its hold back in the end.
    """
    world.simulator.set("live", Behaviour(status=400, fail_first=1))
    scene.spend.losses["release"] = 2

    assert (await world.post()).status_code == 400
    (row,) = await world.ledger()

    assert row["state"] == "released"
    assert await left_nano_usd(world) == 1_000_000_000
