"""
Fault matrix, limits of money: races, which refusal when, and what changes while requests run.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fixtures.books import Books, audited
from fixtures.clock import FakeClock
from fixtures.prices import OUTPUT_ONLY, limit
from fixtures.provider import Act, answer, scripted_provider
from fixtures.world import MESSAGES, World, deployment, operation, tiers
from structlog.testing import capture_logs

from relay_middleware.core.holds import Balance
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period, window_of
from relay_middleware.ledger.corrections import CorrectionRefusedError, credit, refund
from relay_middleware.ledger.operations import CustomerChange, set_spend_limit, set_tier
from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio

CALL = 100_000
"""Nano-dollars: what a call holds and costs that uses its cap of 100 tokens."""
BODY = {"model": "smart", "messages": MESSAGES, "max_tokens": 100}
ALICE = CustomerChange(customer_id=CustomerId("alice"), tier="free")

ANSWERED = answer(
    {
        "choices": [{"message": {"role": "assistant", "content": "Hello"}}],
        "usage": {"prompt_tokens": 8, "completion_tokens": 100},
    }
)


@pytest.fixture(name="stores", params=["embedded", "redis"])
def _stores(request: pytest.FixtureRequest) -> Mapping[str, object]:
    """
    Configuration of each store.
    """
    if request.param == "embedded":
        return {}
    return {"redis_url": request.getfixturevalue("redis_url")}


@pytest.fixture(name="simulator")
def _simulator() -> Simulator:
    """
    A provider whose every answer uses its whole output cap.
    """
    simulator = Simulator()
    simulator.set("live", Behaviour(output_tokens="cap"))
    return simulator


def configuration(
    provider: str, stores: Mapping[str, object], *, calls: float, **tier: object
) -> dict[str, object]:
    """One tier with money for so many calls a month."""
    config = tiers(spend_limits=limit(round(calls * CALL)), **tier)
    return {"model_list": [deployment(provider)], "prices": OUTPUT_ONLY, **config, **stores}


def codes(answers: list[httpx.Response]) -> Counter[str]:
    """Count the answers by their error's code, or `ok`."""
    return Counter(
        "ok" if each.status_code == 200 else each.json()["error"]["code"] for each in answers
    )


async def month_of(books: Books, at: datetime) -> Balance:
    """Return alice's balance in the month of *at*."""
    window = window_of(Period.MONTH, at)
    (balance,) = await books.parts.spend.balances(ALICE.customer_id, [window])
    return balance


@pytest.mark.parametrize("is_known", [False, True], ids=["new", "known"])
async def test_room_for_six_of_fifty(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object], *, is_known: bool
) -> None:
    """
    Of 50 at once with money for six exactly 6 reach the provider and 44 are refused, also where
    they are the very first of their customer.
    """
    async with simulator.serve() as provider:
        config = configuration(provider, stores, calls=6.01)
        async with audited(tmp_path, config, simulator) as (world, _):
            if is_known:
                assert (await world.post({**BODY, "max_tokens": 1})).status_code == 200
            before = simulator.calls()
            answers = await asyncio.gather(*(world.post(BODY) for _ in range(50)))
            rows = await world.ledger()

    counted = codes(answers)
    assert counted["ok"] == 6
    assert counted["spend_limit_exceeded"] + counted["in_flight_budget_exhausted"] == 44
    assert simulator.calls() - before == 6
    assert [row["charge_nano_usd"] for row in rows[before:]] == [CALL] * 6


async def test_each_refusal_in_its_case(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object]
) -> None:
    """
    What would fit once the two calls under way had cost nothing is a 429 that may be repeated; what
    cannot fit beside settled spend is a 402 that may not, nor may what fits no untouched limit.
    """
    async with scripted_provider(Act.WAIT, ANSWERED) as provider:
        config = configuration(provider.url.removesuffix("/v1"), stores, calls=2.5)
        async with audited(tmp_path, config, simulator) as (world, _):
            running = [asyncio.create_task(world.post(BODY)) for _ in range(2)]
            await provider.wait_for(2)
            waiting = await world.post(BODY)
            impossible = await world.post({**BODY, "max_tokens": 251})
            provider.go.set()
            answers = await asyncio.gather(*running)
            spent = await world.post(BODY)

    assert codes(answers) == {"ok": 2}
    assert len(provider.received) == 2
    told = [
        (
            each.status_code,
            each.json()["error"]["code"],
            each.json()["error"]["type"],
            each.headers["x-should-retry"],
            each.headers.get("retry-after"),
        )
        for each in (waiting, impossible, spent)
    ]
    assert told == [
        (429, "in_flight_budget_exhausted", "insufficient_quota", "true", "1"),
        (402, "request_exceeds_limit", "insufficient_quota", "false", None),
        (402, "spend_limit_exceeded", "insufficient_quota", "false", None),
    ]
    assert impossible.json()["error"]["metadata"]["largest_output_cap_tokens"] == 250


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_provider_that_ignores_the_cap(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object], *, stream: bool
) -> None:
    """
    2,000 tokens where 100 were allowed and held are charged in full, 1,900,000 above the hold, as
    the log says; the next request is refused, and the limit was passed by no more than that.
    """
    simulator.set("live", Behaviour(output_tokens=2000))
    async with simulator.serve() as provider:
        config = configuration(provider, stores, calls=6)
        async with audited(tmp_path, config, simulator) as (world, books):
            with capture_logs() as logs:
                assert (await world.post({**BODY, "stream": stream})).status_code == 200
                refused = await world.post(BODY)
                (row,) = await world.ledger()
            posted = (await month_of(books, datetime.now(UTC))).posted_nano_usd

    assert (row["charge_nano_usd"], row["hold_nano_usd"]) == (20 * CALL, CALL)
    assert codes([refused]) == {"spend_limit_exceeded": 1}
    assert posted - 6 * CALL <= 19 * CALL
    lines = [entry for entry in logs if entry["event"] == "request_finished"]
    assert [line.get("overrun_nano_usd") for line in lines] == [19 * CALL, None]


async def test_a_limit_lowered_below_its_use(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object]
) -> None:
    """
    One call is charged and one under way when the limit becomes half a call: that one settles, the
    next is refused; with a limit of three calls exactly one more is served.
    """

    async def set_limit(world: World, calls: float) -> None:
        limited = NanoUsd(round(calls * CALL))
        await set_spend_limit(
            world.database, operation(), ALICE, period=Period.MONTH, limit_nano_usd=limited
        )
        await world.relay.refresh()

    async with scripted_provider(ANSWERED) as provider:
        config = configuration(provider.url.removesuffix("/v1"), stores, calls=10)
        async with audited(tmp_path, config, simulator) as (world, _):
            answers = [await world.post(BODY)]
            provider.script = (Act.WAIT, ANSWERED)
            running = asyncio.create_task(world.post(BODY))
            await provider.wait_for(2)
            await set_limit(world, 0.5)
            answers.append(await world.post({**BODY, "max_tokens": 1}))
            provider.go.set()
            answers.append(await running)
            await set_limit(world, 3)
            answers += [await world.post(BODY) for _ in range(2)]

    assert [next(iter(codes([each]))) for each in answers] == [
        "ok",
        "spend_limit_exceeded",
        "ok",
        "ok",
        "spend_limit_exceeded",
    ]


async def test_tiers_up_and_down(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object]
) -> None:
    """
    Two calls are the free tier's month; promoted to four the customer has two more, and what it has
    spent stays spent when it is put down again.
    """
    async with simulator.serve() as provider:
        config = configuration(provider, stores, calls=2)
        free = tiers(spend_limits=limit(2 * CALL))["tiers"]
        assert isinstance(free, dict)
        config["tiers"] = {**free, "pro": {"models": ["*"], "spend_limits": limit(4 * CALL)}}
        async with audited(tmp_path, config, simulator) as (world, _):
            served = []
            for tier in ("free", "pro", "free", "pro"):
                await set_tier(world.database, operation(), replace(ALICE, tier=tier))
                await world.relay.refresh()
                served.append(codes([await world.post(BODY) for _ in range(3)])["ok"])

    assert served == [2, 2, 0, 0]


async def test_a_top_up_is_credited_once(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object]
) -> None:
    """
    A credit of one call whose operation is repeated five times, to a server that looks five times,
    pays for one call.
    """
    async with simulator.serve() as provider:
        config = configuration(provider, stores, calls=2)
        async with audited(tmp_path, config, simulator) as (world, books):
            before = codes([await world.post(BODY) for _ in range(3)])
            top_up = operation()
            for _ in range(5):
                await credit(
                    world.database,
                    top_up,
                    ALICE,
                    period=Period.MONTH,
                    amount_nano_usd=NanoUsd(CALL),
                )
                await world.relay.refresh()
                await books.parts.upkeep.do_round(1)
            after = codes([await world.post(BODY) for _ in range(3)])

    assert (before["ok"], after["ok"]) == (2, 1)


async def test_a_refund_is_no_larger_than_its_charge(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object]
) -> None:
    """
    One nano-dollar more than was charged is refused and changes nothing; the charge itself, in an
    operation that is repeated, makes room for one call.
    """
    async with simulator.serve() as provider:
        config = configuration(provider, stores, calls=2)
        async with audited(tmp_path, config, simulator) as (world, books):
            first = await world.post(BODY)
            await world.post(BODY)
            await world.ledger()
            back = operation()

            async def refunded(amount: int) -> int:
                left = await refund(
                    world.database,
                    back,
                    customer_id=ALICE.customer_id,
                    request_id=HoldId(first.headers["x-request-id"]),
                    amount_nano_usd=NanoUsd(amount),
                )
                await world.relay.refresh()
                await books.parts.upkeep.do_round(1)
                return left

            with pytest.raises(CorrectionRefusedError):
                await refunded(CALL + 1)
            refused = await world.post(BODY)
            left = [await refunded(CALL) for _ in range(3)]
            after = codes([await world.post(BODY) for _ in range(3)])

    assert codes([refused]) == {"spend_limit_exceeded": 1}
    assert left == [0, 0, 0]
    assert after["ok"] == 1


async def test_a_period_ends_under_a_request(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object]
) -> None:
    """
    Admitted in the last second of a month and answered in the next, a call is the old month's,
    whose money it used up; the new month has money for one call of its own, and no more.
    """
    ends_at = window_of(Period.MONTH, datetime.now(UTC)).ends_at
    assert ends_at is not None
    clock = FakeClock(ends_at - timedelta(seconds=1))
    async with scripted_provider(Act.WAIT, ANSWERED) as provider:
        config = configuration(provider.url.removesuffix("/v1"), stores, calls=1)
        async with audited(
            tmp_path,
            config,
            simulator,
            change=lambda parts: replace(parts, services=replace(parts.services, clock=clock)),
        ) as (world, books):
            running = asyncio.create_task(world.post(BODY))
            await provider.wait_for(1)
            late = await world.post(BODY)
            clock.advance(seconds=1)
            provider.go.set()
            answers = [await running, *[await world.post(BODY) for _ in range(2)]]
            old = await month_of(books, ends_at - timedelta(seconds=1))
            new = await month_of(books, ends_at)

    assert codes([late]) == {"in_flight_budget_exhausted": 1}
    assert [each.status_code for each in answers] == [200, 200, 402]
    assert (old.posted_nano_usd, new.posted_nano_usd) == (CALL, CALL)
