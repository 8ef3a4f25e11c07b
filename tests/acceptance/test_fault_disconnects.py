"""
Fault matrix, clients that leave: no hold leaks, nothing that a provider did is free, and a tier
that cancels leaves no provider at work.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fixtures.books import Books, audited, number
from fixtures.raw_client import connect, hang_up, read_at_least, request_bytes
from fixtures.world import MESSAGES, World, anthropic, deployment, operation, tiers
from redis.asyncio import Redis

from relay_middleware.composition import Parts, upkeep_of
from relay_middleware.core.holds import Hold, Refused, Reserved
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.periods import Period, window_of
from relay_middleware.ledger.operations import CustomerChange, set_tier
from relay_middleware.services import Drains
from relay_middleware.stores.local import LocalSpendStore
from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio

DISCONNECTS = 1000
AT_ONCE = 25

TEXT = "12345678" * 25
"""200 bytes: 50 tokens, in 25 events of 2 tokens each."""
OUTPUT_TOKENS = 50
LIVE = Behaviour(
    text=TEXT,
    chunk_tokens=2,
    chunk_delay_s=0.001,
    output_tokens=OUTPUT_TOKENS,
    reasoning_tokens=0,
)
STALLED = Behaviour(text=TEXT, chunk_tokens=2, stall="after_content")
EVENT_TEXT = b"12345678"
ANSWER_BYTES = {"direct-live": 10_000, "translated-live": 6_900}
"""What an answer has at least, headers and usage included."""

DRAINING = [f"drained-{number}" for number in range(4)]
CANCELLING = [f"cancelled-{number}" for number in range(4)]
LIVING = ["direct-live", "translated-live"]
# What never ends is only asked for by those who have it cancelled.
MODELS_BY_TIER = {"free": LIVING, "cancelling": [*LIVING, "direct-stalled", "translated-stalled"]}

REQUEST_ID = re.compile(rb"x-request-id: (\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """
    A client that left.

    Attributes:
        request_id: None where it left before any header had come.
        has_content: Whether it had read any of the answer's text.
    """

    model: str
    customer: str
    request_id: str | None
    has_content: bool


@pytest.fixture(name="stores", params=["embedded", "redis"])
def _stores(request: pytest.FixtureRequest) -> Mapping[str, object]:
    """
    Configuration of each store.
    """
    if request.param == "embedded":
        return {}
    return {"redis_url": request.getfixturevalue("redis_url")}


@asynccontextmanager
async def leaving(
    folder: Path, stores: Mapping[str, object]
) -> AsyncIterator[tuple[World, Books, Simulator]]:
    """Two tiers, of which one cancels, over two wires, to providers that answer or fall silent."""
    simulator = Simulator()
    simulator.set("live", LIVE)
    simulator.set("stalled", STALLED)
    async with simulator.serve() as provider:
        models = [
            entry(provider, name=f"{wire}-{profile}", profile=profile)
            for wire, entry in (("direct", deployment), ("translated", anthropic))
            for profile in ("live", "stalled")
        ]
        config = tiers(max_concurrency=DISCONNECTS, token_limits=["1000000000/day"])
        tier = config["tiers"]["free"]  # type: ignore[index]  # the sections are plain mappings
        config["tiers"] = {"free": tier, "cancelling": {**tier, "on_disconnect": "cancel"}}
        config |= {"model_list": models, **stores}
        async with audited(folder, config, simulator, change=drain_all) as (world, books):
            for name in CANCELLING:
                change = CustomerChange(customer_id=CustomerId(name), tier="cancelling")
                await set_tier(world.database, operation(), change)
            await world.relay.refresh()
            yield world, books, simulator


def drain_all(parts: Parts) -> Parts:
    """Let there be a place to be read on for each client that leaves, however slow the machine."""
    drains = Drains(at_most=DISCONNECTS, of_one=DISCONNECTS)
    services = replace(parts.services, drains=drains)
    return replace(parts, services=services)


def stream_bytes(world: World, customer: str, model: str) -> bytes:
    """A request for a stream that is not cut short."""
    more = {"model": model, "max_tokens": 4 * OUTPUT_TOKENS}
    return request_bytes(world, stream=True, customer=customer, more=more)


async def leave(world: World, customer: str, model: str, after_bytes: int | None) -> Left:
    """Ask for a stream, and hang up when *after_bytes* of the answer have come; None: some text."""
    reader, writer = await connect(world)
    writer.write(stream_bytes(world, customer, model))
    await writer.drain()
    if after_bytes is None:
        received = await reader.readuntil(EVENT_TEXT)
    else:
        received = await read_at_least(reader, after_bytes)
    await hang_up(writer)
    named = REQUEST_ID.search(received)
    return Left(
        model=model,
        customer=customer,
        request_id=None if named is None else named[1].decode(),
        has_content=EVENT_TEXT in received,
    )


async def leave_at_random(world: World, seed: int, times: int) -> list[Left]:
    """Have clients leave at random points of random streams."""
    chance = random.Random(seed)  # noqa: S311 - points, not secrets
    places = asyncio.Semaphore(AT_ONCE)

    async def one(customer: str, model: str, after_bytes: int | None) -> Left:
        async with places:
            return await leave(world, customer, model, after_bytes)

    def drawn() -> tuple[str, str, int | None]:
        customer = chance.choice([*DRAINING, *CANCELLING])
        model = chance.choice(MODELS_BY_TIER["cancelling" if customer in CANCELLING else "free"])
        if chance.random() < 0.05:
            return customer, model, 0
        is_stalled = model.endswith("stalled")
        return customer, model, None if is_stalled else chance.randrange(1, ANSWER_BYTES[model])

    return await asyncio.gather(*(one(*drawn()) for _ in range(times)))


@pytest.mark.slow
# LiteLLM's, of a call that is cancelled before it was begun.
@pytest.mark.filterwarnings("ignore:coroutine 'AnthropicChatCompletion:RuntimeWarning")
async def test_a_thousand_disconnects(tmp_path: Path, stores: Mapping[str, object]) -> None:
    """
    1,000 clients hang up at random points of streams: nothing is held, every call of a provider is
    charged, in full where it is drained, and who cancels leaves no provider at work, and pays
    nothing for what was not sent.
    """
    async with leaving(tmp_path, stores) as (world, books, simulator):
        left = await leave_at_random(world, seed=4, times=DISCONNECTS)
        await books.assert_agree(world)
        rows = {str(row["id"]): row for row in await world.ledger()}

        sent = [row for row in rows.values() if row["state"] != "released"]
        assert {row["state"] for row in sent} == {"settled"}
        assert all(number(row, "charge_nano_usd") > 0 for row in sent)
        unsent = [row for row in rows.values() if row["state"] == "released"]
        assert {row["customer_id"] for row in unsent} <= {*CANCELLING}
        for each in left:
            if each.has_content:
                assert each.request_id is not None
                assert number(rows[each.request_id], "output_tokens") > 0
        drained = [row for row in rows.values() if row["customer_id"] in DRAINING]
        assert {(row["usage_source"], row["output_tokens"]) for row in drained} == {
            ("provider", OUTPUT_TOKENS)
        }
        # Who cancels may do so while its request is on its way: a provider may not hear of it.
        unheard = len(sent) - simulator.calls()
        unanswered = [row for row in sent if row["output_tokens"] == 0]
        assert 0 <= unheard <= len(unanswered) < DISCONNECTS / 10
        assert simulator.calls("stalled") > 100
        assert simulator.disconnects("stalled") == simulator.calls("stalled")


PRICES = {"direct-live": 600, "translated-live": 5_000}
"""Nano-dollars for a token of output: gpt-4o-mini's and claude-haiku-4-5's."""


@pytest.mark.slow
@pytest.mark.parametrize("customer", ["drained-0", "cancelled-0"])
@pytest.mark.parametrize("model", LIVING)
async def test_hanging_up_late_is_never_free(tmp_path: Path, model: str, customer: str) -> None:
    """
    Who always hangs up when 24 of 25 pieces have come is charged for them every time, or for all:
    at least 48 tokens, and at most 50, for each of 20 answers.
    """
    async with leaving(tmp_path, {}) as (world, _, _):
        for _ in range(20):
            reader, writer = await connect(world)
            writer.write(stream_bytes(world, customer, model))
            for _ in range(24):
                await reader.readuntil(EVENT_TEXT)
            await hang_up(writer)
        rows = await world.ledger()

    assert len(rows) == 20
    least = 50 if customer == "drained-0" else 48
    assert {least <= number(row, "output_tokens") <= 50 for row in rows} == {True}
    assert {number(row, "charge_nano_usd") > 48 * PRICES[model] for row in rows} == {True}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_gone_during_the_reserve(tmp_path: Path, redis_url: str, *, stream: bool) -> None:
    """
    A client that hangs up while the store is asked for its money leaves no hold, no call, no row.
    """
    redis = Redis.from_url(redis_url)
    async with leaving(tmp_path, {"redis_url": redis_url}) as (world, books, simulator):
        body = {"model": "direct-live", "messages": MESSAGES}
        before = await world.post(body, customer="drained-0")
        await redis.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
        _, writer = await connect(world)
        writer.write(
            request_bytes(world, stream=stream, customer="drained-0", more={"model": "direct-live"})
        )
        await writer.drain()
        await hang_up(writer)
        await world.http.get(f"{world.url}/healthz")
        await redis.execute_command("CLIENT", "UNPAUSE")
        await books.assert_agree(world)

        assert simulator.calls() == 1
        assert [row["id"] for row in await world.ledger()] == [before.headers["x-request-id"]]
    await redis.aclose()


class WaitingStore(LocalSpendStore):
    """An embedded store that takes its time to say that a hold is taken."""

    def __init__(self, state_dir: Path, parts: Parts) -> None:
        super().__init__(state_dir=state_dir, clock=parts.services.clock, journal=parts.journal)
        self.has_taken = asyncio.Event()
        self.go = asyncio.Event()

    async def reserve(self, hold: Hold, rate_limits: Sequence[str] = ()) -> Reserved | Refused:
        result = await super().reserve(hold, rate_limits)
        self.has_taken.set()
        await self.go.wait()
        return result


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_gone_between_reserve_and_dispatch(tmp_path: Path, *, stream: bool) -> None:
    """
    One that hangs up when its money is held and no provider called yet neither.
    """
    simulator = Simulator()
    kept: list[WaitingStore] = []

    def change(parts: Parts) -> Parts:
        kept.append(WaitingStore(tmp_path / "store", parts))
        services = replace(parts.services, spend=kept[0])
        upkeep = upkeep_of(services, parts.database, "worker")
        return replace(parts, services=services, spend=kept[0], upkeep=upkeep)

    async with simulator.serve() as provider:
        config = {"model_list": [deployment(provider)], **tiers(rate_limits=["9/day"])}
        async with audited(tmp_path, config, simulator, change=change) as (world, books):
            _, writer = await connect(world)
            writer.write(request_bytes(world, stream=stream))
            await kept[0].has_taken.wait()
            await hang_up(writer)
            await world.http.get(f"{world.url}/healthz")
            kept[0].go.set()
            await books.assert_agree(world)

            assert await world.ledger() == []
            month = window_of(Period.MONTH, datetime.now(UTC))
            (balance,) = await books.parts.spend.balances(CustomerId("alice"), [month])
            assert (balance.held_nano_usd, balance.posted_nano_usd) == (0, 0)
    assert simulator.calls() == 0
