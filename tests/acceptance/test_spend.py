"""
Money: a customer cannot spend more than it has, and a refused call costs nothing.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fixtures.outages import away
from fixtures.world import MESSAGES, World, deployment, operation, running, tiers

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period
from relay_middleware.ledger.operations import CustomerChange, set_spend_limit, set_tier
from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio

CAP = 100
# Input is free and an output token costs 1,000 nano-dollars, so a call that uses its whole cap of
# 100 costs 100,000 (0.01 cent), which is also its hold.
PRICES = {
    "openai/gpt-4o-mini": {
        "usd_per_million_input_tokens": 0,
        "usd_per_million_cached_input_tokens": 0,
        "usd_per_million_output_tokens": 1,
    }
}
MONEY_FOR_TEN = [{"cents": 0.1, "per": "month"}]
BODY = {"model": "smart", "messages": MESSAGES, "max_tokens": CAP}


@pytest.fixture(name="simulator")
def _simulator() -> Simulator:
    """
    A provider whose every answer uses its whole output cap.
    """
    simulator = Simulator()
    simulator.set("live", Behaviour(output_tokens="cap"))
    return simulator


@pytest.fixture(name="provider")
async def _provider(simulator: Simulator) -> AsyncIterator[str]:
    """
    Its address.
    """
    async with simulator.serve() as url:
        yield url


@pytest.fixture(name="stores", params=["embedded", "redis"])
def _stores(request: pytest.FixtureRequest) -> dict[str, object]:
    """
    Configuration of each store.
    """
    if request.param == "embedded":
        return {}
    return {"redis_url": request.getfixturevalue("redis_url")}


def configuration(provider: str, stores: dict[str, object], **tier: object) -> dict[str, object]:
    return {
        "model_list": [deployment(provider)],
        "prices": PRICES,
        **tiers(**{"spend_limits": MONEY_FOR_TEN, **tier}),
        **stores,
    }


@pytest.fixture(name="world")
async def _world(
    tmp_path: Path, simulator: Simulator, provider: str, stores: dict[str, object]
) -> AsyncIterator[World]:
    async with running(tmp_path, configuration(provider, stores), simulator) as world:
        yield world


def codes(answers: list[httpx.Response]) -> Counter[str]:
    """Count the answers by their error's code, or `ok`."""
    return Counter(
        "ok" if answer.status_code == 200 else answer.json()["error"]["code"] for answer in answers
    )


async def test_hundred_at_once_with_money_for_ten(world: World) -> None:
    """
    10 of 100 are answered and 90 refused, the provider got 10 calls, and the next one is a 402.
    """
    answers = await asyncio.gather(*(world.post(BODY) for _ in range(100)))

    counted = codes(answers)
    assert counted["ok"] == 10
    assert counted["spend_limit_exceeded"] + counted["in_flight_budget_exhausted"] == 90
    assert world.simulator.calls() == 10
    after = await world.post(BODY)
    assert after.status_code == 402
    assert after.json()["error"]["code"] == "spend_limit_exceeded"
    assert after.headers["x-should-retry"] == "false"
    assert [row["charge_nano_usd"] for row in await world.ledger()] == [100_000] * 10


async def test_a_refused_call_is_free(world: World) -> None:
    """
    A refusal reaches no provider, stands in no ledger and leaves the money where it was.
    """
    refused = await world.post({**BODY, "max_tokens": 1001})
    fits = await asyncio.gather(*(world.post(BODY) for _ in range(10)))

    assert refused.json()["error"]["code"] == "request_exceeds_limit"
    # A tenth of a cent buys 1,000 output tokens at most.
    assert refused.json()["error"]["metadata"]["largest_output_cap_tokens"] == 1000
    assert codes(fits) == {"ok": 10}
    assert world.simulator.calls() == 10
    assert len(await world.ledger()) == 10


@pytest.mark.parametrize("stream", [False, True])
async def test_unused_money_comes_back(world: World, *, stream: bool) -> None:
    """
    Of a hold of 100,000 only the 5,000 used are kept, so that 15 calls fit where 10 are held.
    """
    world.simulator.set("live", Behaviour(output_tokens=5, reasoning_tokens=0))

    for _ in range(15):
        answer = await world.post({**BODY, "stream": stream})
        assert answer.status_code == 200

    rows = await world.ledger()
    assert [row["charge_nano_usd"] for row in rows] == [5_000] * 15
    assert [row["hold_nano_usd"] for row in rows] == [100_000] * 15


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_lies_is_charged_and_then_stopped(
    world: World, *, stream: bool
) -> None:
    """
    Usage above the hold is recorded in full, and the next request is refused.
    """
    world.simulator.set("live", Behaviour(output_tokens=2000))

    assert (await world.post({**BODY, "stream": stream})).status_code == 200

    (row,) = await world.ledger()
    assert row["charge_nano_usd"] == 2_000_000
    assert (await world.post(BODY)).status_code == 402


async def test_failures_are_not_charged(world: World) -> None:
    """
    A provider that refuses or fails costs the customer nothing, and its hold comes back.
    """
    world.simulator.set("live", Behaviour(status=400))
    refused = [await world.post(BODY) for _ in range(3)]
    world.simulator.set("live", Behaviour(output_tokens="cap"))
    answered = [await world.post(BODY) for _ in range(11)]

    assert {answer.status_code for answer in refused} == {400}
    assert codes(answered) == {"ok": 10, "spend_limit_exceeded": 1}
    states = Counter(str(row["state"]) for row in await world.ledger())
    assert states == {"released": 3, "settled": 10}


async def test_zero_usage_is_zero(world: World) -> None:
    """
    A provider that reports zero used zero (LESSONS C: zero was once treated as missing).
    """
    world.simulator.set("live", Behaviour(usage="zero"))

    answer = await world.post(BODY)

    assert answer.json()["cost_cents"] == 0
    assert answer.json()["relay"]["usage_source"] == "provider"


@pytest.mark.parametrize("stream", [False, True])
async def test_missing_usage_is_counted(world: World, *, stream: bool) -> None:
    """
    Without usage a token is charged for every four bytes: 40 bytes of text are 10 tokens.
    """
    world.simulator.set("live", Behaviour(usage="none", text="x" * 40))

    answer = await world.post({**BODY, "stream": stream})

    assert '"usage_source":"counted"' in answer.text
    (row,) = await world.ledger()
    assert (row["usage_source"], row["output_tokens"]) == ("counted", 10)
    assert row["charge_nano_usd"] == 10_000


async def test_limit_of_a_customer_overrides_its_tiers(world: World) -> None:
    """
    `set-limit` to three calls' money holds within one look at the revision, without a restart.
    """
    assert (await world.post(BODY)).status_code == 200
    await set_spend_limit(
        world.database,
        operation(),
        CustomerChange(customer_id=CustomerId("alice"), tier="free"),
        period=Period.MONTH,
        limit_nano_usd=NanoUsd(300_000),
    )
    await world.relay.refresh()

    answers = [await world.post(BODY) for _ in range(3)]

    assert codes(answers) == {"ok": 2, "spend_limit_exceeded": 1}


async def test_rate_refusal_holds_no_money(
    tmp_path: Path, simulator: Simulator, provider: str, stores: dict[str, object]
) -> None:
    """
    Of 100 at once under 3 a day three are served; 97 rate refusals hold no money afterwards.
    """
    config = configuration(
        provider, stores, rate_limits=["3/day"], spend_limits=[{"cents": 1, "per": "month"}]
    )
    async with running(tmp_path, config, simulator) as world:
        answers = await asyncio.gather(*(world.post(BODY) for _ in range(100)))
        served = next(answer for answer in answers if answer.status_code == 200)

        assert codes(answers) == {"ok": 3, "rate_limit_exceeded": 97}
        assert simulator.calls() == 3
        # 1 cent is money for 100 calls, of which 3 were spent.
        remaining = await world.post({**BODY, "max_tokens": 9700}, customer="alice")
        assert remaining.json()["error"]["code"] == "rate_limit_exceeded"
        assert served.headers["x-ratelimit-limit-requests"] == "3"
        refusal = next(answer for answer in answers if answer.status_code == 429)
        assert int(refusal.headers["retry-after"]) > 0


async def test_a_rate_refusal_uses_up_no_other_rate(
    tmp_path: Path, simulator: Simulator, provider: str, stores: dict[str, object]
) -> None:
    """
    Five requests under 1 an hour and 5 a day use up one of the day's five, not five: moved to a
    tier of 5 a day the customer has four left, and makes one of them.
    """
    free = {"models": ["*"], "rate_limits": ["5/day", "1/hour"]}
    daily = {"models": ["*"], "rate_limits": ["5/day"]}
    config = configuration(provider, stores) | {"tiers": {"free": free, "daily": daily}}
    async with running(tmp_path, config, simulator) as world:
        answers = [await world.post(BODY) for _ in range(5)]
        change = CustomerChange(customer_id=CustomerId("alice"), tier="daily")
        await set_tier(world.database, operation(), change)
        await world.relay.refresh()
        moved = await world.post(BODY)

        assert codes(answers) == {"ok": 1, "rate_limit_exceeded": 4}
        assert answers[0].headers["x-ratelimit-limit-requests"] == "1"
        assert moved.headers["x-ratelimit-remaining-requests"] == "3"


async def test_margin_is_charged_and_shown(
    tmp_path: Path, simulator: Simulator, provider: str, stores: dict[str, object]
) -> None:
    """
    100,000 at the provider with 20 percent and 0.001 cent are 130,000; the books show both.
    """
    margin = {"percent": 20, "per_request_cents": 0.001}
    config = configuration(provider, stores, margin=margin)
    async with running(tmp_path, config, simulator) as world:
        answer = (await world.post(BODY)).json()

        assert answer["cost_cents"] == 0.013
        assert answer["relay"]["charge_nano_usd"] == 130_000
        assert answer["relay"]["provider_cost_nano_usd"] == 100_000
        (row,) = await world.ledger()
        assert (row["charge_nano_usd"], row["cost_nano_usd"]) == (130_000, 100_000)


async def test_embedded_store_remembers_after_a_restart(
    tmp_path: Path, simulator: Simulator, provider: str
) -> None:
    """
    What was spent before a restart is spent after it: the limit does not begin anew.
    """
    config = configuration(provider, {})
    async with running(tmp_path, config, simulator) as world:
        assert codes([await world.post(BODY) for _ in range(7)]) == {"ok": 7}
    async with running(tmp_path, config, simulator) as world:
        answers = [await world.post(BODY) for _ in range(5)]

    assert codes(answers) == {"ok": 3, "spend_limit_exceeded": 2}


async def test_unlimited_customer_is_metered_and_not_capped(
    tmp_path: Path, simulator: Simulator, provider: str
) -> None:
    """
    Without a limit no cap is written, nothing is refused, and everything is in the ledger.
    """
    config = configuration(provider, {}, spend_limits=[])
    async with running(tmp_path, config, simulator) as world:
        answer = await world.post({"model": "smart", "messages": MESSAGES})

        assert answer.status_code == 200
        assert "spend_remaining_cents" not in answer.json()["relay"]
        assert b"max_" not in simulator.requests[-1].body
        assert len(await world.ledger()) == 1


async def test_a_charge_above_its_hold_is_told(tmp_path: Path) -> None:
    """
    A provider that ignores the cap of 100 tokens and reports 150 is paid in full, twice: charges
    are 2 times 50 tokens at 1,000 nano-dollars above their holds, and `/metrics` says so.
    """
    async with away(tmp_path) as relay:
        before = await relay.metric("relay_spend_overrun_nano_usd_total")
        relay.world.simulator.set("live", Behaviour(output_tokens=150))
        for _ in range(2):
            await relay.ask()

        assert (before, await relay.metric("relay_spend_overrun_nano_usd_total")) == (0, 100_000)
