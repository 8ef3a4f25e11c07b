"""
Stores that go away: nothing is let through unchecked, and what was spent is posted in the end.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fixtures.world import World, deployment, running, tiers

from relay_middleware.composition import Parts, upkeep_of
from relay_middleware.core.holds import Ended, Hold, Refused, Reserved
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.rates import RateCount
from relay_middleware.core.records import RequestEnded
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ports.books import Journal
from relay_middleware.ports.stores import Clock, RateLimiter
from relay_middleware.stores.local import LocalSpendStore
from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio


class FlakyStore(LocalSpendStore):
    """
    A store whose answers are lost now and then: the worst case, the command took effect.

    Attributes:
        losses: How many more answers of a command are lost, by its name.
        is_away: Whether it does nothing at all.
        is_late: Commands that are not answered until *late* is set.
        has_begun: Set when such a one took effect.
    """

    def __init__(self, state_dir: Path, clock: Clock, journal: Journal) -> None:
        super().__init__(state_dir=state_dir, clock=clock, journal=journal)
        self.losses: Counter[str] = Counter()
        self.is_away = False
        self.is_late: set[str] = set()
        self.late = asyncio.Event()
        self.has_begun = asyncio.Event()

    async def _lose(self, command: str) -> None:
        if command in self.is_late:
            self.has_begun.set()
            await self.late.wait()
        if self.losses[command] > 0:
            self.losses[command] -= 1
            raise StoreUnavailableError("nowhere did not answer")

    async def reserve(self, hold: Hold, rate_limits: Sequence[str] = ()) -> Reserved | Refused:
        result = await super().reserve(hold, rate_limits)
        await self._lose("reserve")
        return result

    async def settle(self, hold: Hold, record: RequestEnded) -> Ended:
        if self.is_away:
            raise StoreUnavailableError("nowhere did not answer")
        ended = await super().settle(hold, record)
        await self._lose("settle")
        return ended

    async def release(self, hold: Hold, record: RequestEnded, *, is_dispatched: bool) -> Ended:
        ended = await super().release(hold, record, is_dispatched=is_dispatched)
        await self._lose("release")
        return ended


class FlakyRates:
    """
    A rate limiter that can be away.

    Attributes:
        is_away: Whether nothing is counted.
    """

    def __init__(self, inner: RateLimiter) -> None:
        self._inner = inner
        self.is_away = False

    async def hit(self, subject: str, rate_limits: Sequence[str]) -> RateCount:
        if self.is_away:
            raise StoreUnavailableError("nowhere did not answer")
        return await self._inner.hit(subject, rate_limits)


class Scene:
    """
    A world whose stores can be made to fail.

    Attributes:
        upkeep: Its own: a round is done when a test wants it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def change(self, parts: Parts) -> Parts:
        self.spend = FlakyStore(self._folder, parts.services.clock, parts.journal)
        self.rates = FlakyRates(parts.services.rates)
        services = replace(parts.services, spend=self.spend, rates=self.rates)
        self.upkeep = upkeep_of(services, parts.database, "w1")
        return replace(parts, services=services, spend=self.spend, upkeep=self.upkeep)


@pytest.fixture(name="scene")
def _scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "store")


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


async def test_who_is_cut_off_while_asking_gives_back(world: World, scene: Scene) -> None:
    """
    The process ends its work just when a reserve has taken effect and is not answered yet: no
    call, and nothing stays held.
    """
    scene.spend.is_late = {"reserve"}
    asked = asyncio.create_task(world.post())
    await scene.spend.has_begun.wait()
    await world.relay.drain(0)
    scene.spend.is_late = set()
    with contextlib.suppress(httpx.TransportError):
        await asked
    await world.relay.drain()

    assert world.simulator.calls() == 0
    assert await left_nano_usd(world) == 1_000_000_000


async def test_giving_back_is_repeated(world: World, scene: Scene) -> None:
    """
    The release of such a hold is told again in the rounds of upkeep, until it is answered.
    """
    scene.spend.losses.update(reserve=1, release=1)

    await world.post()
    await world.relay.drain()
    owed = len(world.relay.services.open_holds.owed)
    await scene.upkeep.settle_owed()

    assert (owed, world.relay.services.open_holds.owed) == (1, [])
    assert await left_nano_usd(world) == 1_000_000_000


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
    for _ in range(3):
        with contextlib.suppress(StoreUnavailableError):
            await scene.upkeep.settle_owed()
    (row,) = await world.ledger()

    assert answer.status_code == 200
    assert '"cost_cents":' in answer.text
    assert "spend_remaining_cents" not in answer.text
    assert world.relay.services.open_holds.owed == []
    assert await left_nano_usd(world) == 1_000_000_000 - int(str(row["charge_nano_usd"]))


async def test_an_answer_does_not_wait_for_a_late_settle(world: World, scene: Scene) -> None:
    """
    A store that does not answer holds an answer up for a quarter of a second, and no longer; the
    next round of upkeep tells it again.
    """
    scene.spend.is_late = {"settle"}

    answer = await world.post()
    owed = [hold.hold_id for hold, _ in world.relay.services.open_holds.owed]
    scene.spend.late.set()
    await scene.upkeep.settle_owed()

    assert answer.json()["relay"]["request_id"] in owed
    assert "spend_remaining_cents" not in answer.json()["relay"]
    assert world.relay.services.open_holds.owed == []


async def test_what_is_owed_at_the_end_is_in_the_file(world: World, scene: Scene) -> None:
    """
    The store stays away until the process ends: the write-ahead file has the charge, for whoever
    takes it over.
    """
    scene.spend.is_late = {"reserve"}
    asked = asyncio.create_task(world.post())
    scene.spend.is_away = True
    scene.spend.late.set()
    await asked
    await world.relay.drain()

    (kept,) = world.relay.services.spool.remembered()
    assert kept.record is not None
    assert kept.record.charge_nano_usd > 0


async def test_a_failing_release_is_repeated(world: World, scene: Scene) -> None:
    """
    A call that failed at the provider gives its hold back in the end.
    """
    world.simulator.set("live", Behaviour(status=400, fail_first=1))
    scene.spend.losses["release"] = 1

    assert (await world.post()).status_code == 400
    await scene.upkeep.settle_owed()
    (row,) = await world.ledger()

    assert row["state"] == "released"
    assert await left_nano_usd(world) == 1_000_000_000


@pytest.fixture(name="open_world")
async def _open_world(tmp_path: Path, scene: Scene) -> AsyncIterator[World]:
    """One whose customers are served while limits cannot be checked."""
    simulator = Simulator()
    async with simulator.serve() as provider:
        config = {
            "model_list": [deployment(provider)],
            **tiers(rate_limits=["50/day"], on_outage="open"),
        }
        async with running(tmp_path, config, simulator, change=scene.change) as world:
            yield world


@pytest.mark.parametrize("stream", [False, True])
async def test_an_outage_that_is_open_serves_and_counts_later(
    open_world: World, scene: Scene, *, stream: bool
) -> None:
    """
    Neither money nor rates can be asked for: the request is served, and charged as soon as it can
    be, whether or not the store had taken its hold.
    """
    world = open_world
    scene.spend.losses.update(reserve=1, settle=1)

    answer = await world.post(
        {"model": "smart", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    )
    await scene.upkeep.settle_owed()
    (row,) = await world.ledger()

    assert (answer.status_code, row["state"]) == (200, "settled")
    assert "x-ratelimit-limit-requests" not in answer.headers
    assert await left_nano_usd(world) == 1_000_000_000 - int(str(row["charge_nano_usd"]))


async def test_what_is_owed_is_told_once_more_at_the_end(tmp_path: Path, scene: Scene) -> None:
    """
    The store was away when an answer ended and is back when the process ends: the charge is in the
    ledger, and nothing is left for the next process.
    """
    simulator = Simulator()
    async with simulator.serve() as provider:
        config = {"model_list": [deployment(provider)], **tiers()}
        async with running(tmp_path, config, simulator, change=scene.change) as world:
            scene.spend.is_away = True
            await world.post()
            await scene.upkeep.aclose()
            scene.spend.is_away = False
            owed = len(world.relay.services.open_holds.owed)
            await world.relay.aclose()
            (row,) = await world.ledger()

    assert owed == 1
    assert row["state"] == "settled"
    assert list((tmp_path / "state").rglob("*.wal")) == []


async def test_a_new_customer_in_an_open_outage(open_world: World, scene: Scene) -> None:
    """
    A customer that comes for the first time while nothing can be counted is served all the same.
    """
    scene.rates.is_away = True

    assert (await open_world.post(customer="first-seen")).status_code == 200


async def test_a_new_customer_in_a_closed_outage(world: World, scene: Scene) -> None:
    """
    Where the tier is closed, it is refused and not remembered.
    """
    scene.rates.is_away = True

    assert (await world.post(customer="first-seen")).status_code == 503
    assert world.relay.services.directory.known(CustomerId("first-seen")) is None
