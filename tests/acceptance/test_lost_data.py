"""
A Redis that forgets: emptied, restored from an old copy, followed by a replica that lagged.

Each test is a line of the fault matrix, over real sockets. The rounds of upkeep are done by hand:
what takes a minute is not waited for.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from fixtures.outages import ALICE, CHARGE, Away, away, locked, until
from fixtures.own_redis import COPIED, OwnRedis, own_redis

from proxy_app.selftest.processes import ProcessFailedError, relay
from relay_middleware.composition import Parts, upkeep_of
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.stores.keys import Keys, bucket_of
from relay_middleware.stores.stream import GROUP
from relay_middleware.testing import Behaviour
from relay_middleware.upkeep import CALM_ROUNDS, RECONCILE_EVERY

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PERIODS = 4
"""Each charge is posted to a day, a week, a month and a lifetime."""

OPEN_HOLDS = Keys().open_holds(bucket_of(CustomerId(ALICE)))
JOURNAL = Keys().journal(bucket_of(CustomerId(ALICE)))


@pytest.fixture(name="redis")
def _redis(tmp_path: Path) -> Iterator[OwnRedis]:
    """One that starts from a copy."""
    with own_redis(tmp_path / "redis", *COPIED) as server:
        yield server


@pytest.fixture(name="relay")
async def _relay(tmp_path: Path, redis: OwnRedis) -> AsyncIterator[Away]:
    """One that does its rounds when it is told to; each customer has been charged once."""
    async with away(tmp_path / "relay", redis.url) as relay:
        await relay.parts.upkeep.aclose()
        yield relay


async def rounds(relay: Away, *numbers: int) -> None:
    """Do these rounds of upkeep."""
    for number in numbers:
        await relay.parts.upkeep.do_round(number)


async def is_taken(redis: OwnRedis) -> bool:
    """Say whether an entry of Alice's journal is on its way to the ledger."""
    with redis.client() as client:
        return bool(client.xpending(JOURNAL, GROUP)["pending"])


async def asked(relay: Away, times: int) -> None:
    """Alice is answered so many times, and the ledger has it."""
    answers = [(await relay.ask()).status_code for _ in range(times)]
    assert answers == [200] * times
    await until(relay.is_settled)


async def test_an_old_copy_is_raised_to_the_ledger(relay: Away, redis: OwnRedis) -> None:
    """
    Redis comes back from a copy of before 3 of 5 answers: it has 2 charges, and after a comparison,
    which comes once a minute, 5; by how much it was raised is told.
    """
    await asked(relay, 1)
    redis.copy()
    await asked(relay, 3)
    redis.restore()
    before = await relay.balance()

    await rounds(relay, RECONCILE_EVERY)

    assert before.posted_nano_usd == 2 * CHARGE
    assert (await relay.balance()).posted_nano_usd == 5 * CHARGE
    assert await relay.metric("relay_spend_drift_below_nano_usd") == PERIODS * 3 * CHARGE
    assert await relay.metric("relay_spend_raised_nano_usd_total") == PERIODS * 3 * CHARGE
    await relay.assert_exact(alice=5, bob=1)


async def test_a_hold_in_an_old_copy_does_not_stay(relay: Away, redis: OwnRedis) -> None:
    """
    The copy has a hold whose request has ended since: when its time has run out it is given back,
    and what was charged for it stands.
    """
    relay.world.simulator.set("live", Behaviour(output_tokens="cap", stall="before_headers"))
    async with asyncio.TaskGroup() as tasks:
        under_way = tasks.create_task(relay.ask())
        await asyncio.to_thread(relay.world.simulator.wait_for_calls, 3)
        redis.copy()
        under_way.cancel()
    await until(relay.is_settled)
    redis.restore()
    held = (await relay.balance()).held_nano_usd
    with redis.client() as client:
        client.zadd(OPEN_HOLDS, dict.fromkeys(client.zrange(OPEN_HOLDS, 0, -1), 1))

    await rounds(relay, *range(1, CALM_ROUNDS + 2), RECONCILE_EVERY)

    assert held == CHARGE
    assert (await relay.balance()).expired_nano_usd == 0
    await relay.assert_exact(alice=2, bob=1)


async def test_what_a_failover_loses_is_told_again(
    relay: Away, redis: OwnRedis, tmp_path: Path
) -> None:
    """
    Redis acknowledges a settle and loses it, with its entry for the ledger, which is slow: nobody
    has it but the write-ahead file, from which it is settled within two minutes.
    """
    with locked(tmp_path / "relay" / "relay.db"):
        # The first one keeps the way to the ledger busy, once it is on it.
        await relay.ask()
        await until(partial(is_taken, redis))
        redis.copy()
        await relay.ask()
        acknowledged = (await relay.balance()).posted_nano_usd
        redis.restore()
        restored = (await relay.balance()).posted_nano_usd
    await until(relay.is_settled)
    missing = len(await relay.rows())

    await rounds(relay, RECONCILE_EVERY, 2 * RECONCILE_EVERY)

    assert (acknowledged, restored, missing) == (3 * CHARGE, 2 * CHARGE, 2)
    await relay.assert_exact(alice=3, bob=1)


async def test_an_emptied_redis_is_filled(relay: Away, redis: OwnRedis) -> None:
    """
    Redis is emptied while a request is under way: who has a limit is refused until it is filled
    from the ledger, the request is posted once when it ends, and all adds up.
    """
    await asked(relay, 2)
    relay.world.simulator.set(
        "live", Behaviour(output_tokens="cap", stall="before_headers", fail_first=1)
    )
    async with asyncio.TaskGroup() as tasks:
        under_way = tasks.create_task(relay.ask())
        await asyncio.to_thread(relay.world.simulator.wait_for_calls, 5)
        with redis.client() as client:
            client.flushall()
        refused = await relay.ask()
        await rounds(relay, 1)
        filled = await relay.balance()
        served = await relay.ask()
        under_way.cancel()

    assert refused.status_code == 503
    assert (filled.posted_nano_usd, filled.held_nano_usd) == (3 * CHARGE, 0)
    assert served.status_code == 200
    await relay.assert_exact(alice=5, bob=1)


class Shifted:
    """A clock that is wrong by some minutes."""

    def __init__(self, minutes: int) -> None:
        self._wrong = timedelta(minutes=minutes)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._wrong

    def change(self, parts: Parts) -> Parts:
        """Give *parts* this clock."""
        services = replace(parts.services, clock=self)
        upkeep = upkeep_of(services, parts.database, parts.upkeep.worker_id)
        return replace(parts, services=services, upkeep=upkeep)


@pytest.mark.parametrize("minutes", [10, -10])
async def test_a_clock_that_is_wrong_expires_nothing(
    tmp_path: Path, redis: OwnRedis, minutes: int
) -> None:
    """
    Of two processes one is wrong by ten minutes: neither expires a hold of the other, and holds of
    both live for a minute from now, by Redis's clock.
    """
    database_url = f"sqlite:///{tmp_path}/right/relay.db"
    async with (
        away(tmp_path / "right", redis.url) as right,
        away(
            tmp_path / "wrong", redis.url, change=Shifted(minutes).change, database_url=database_url
        ) as wrong,
        asyncio.TaskGroup() as tasks,
    ):
        asking = []
        for each in (right, wrong):
            each.world.simulator.set("live", Behaviour(stall="before_headers"))
            asking.append(tasks.create_task(each.ask()))
            await asyncio.to_thread(each.world.simulator.wait_for_calls, 3)
        for each in (right, wrong):
            await each.parts.upkeep.aclose()
            await rounds(each, *range(1, CALM_ROUNDS + 3))
        with redis.client() as client:
            now_s, _ = client.time()
            expiries = [score / 1000 - now_s for _, score in client.zscan_iter(OPEN_HOLDS)]
        balance = await right.balance()
        for each in asking:
            each.cancel()

        assert (balance.held_nano_usd, balance.expired_nano_usd) == (2 * CHARGE, 0)
        assert len(expiries) == 2
        assert all(0 < expiry < 62 for expiry in expiries)


async def test_a_redis_that_may_evict_is_refused(tmp_path: Path) -> None:
    """
    `relay serve` does not start on a Redis that would throw away what customers have spent, and
    says what to do, in one line.
    """
    with own_redis(tmp_path / "redis", "--maxmemory-policy", "allkeys-lru") as redis:
        (tmp_path / "relay.yaml").write_text(
            f"""\
model_list:
  - {{model_name: smart, litellm_params: {{model: openai/gpt-4o-mini, api_key: sk-1}}}}
tiers: {{free: {{models: ["*"]}}}}
customers: {{default_tier: free}}
redis_url: {redis.url}
database_url: sqlite:///relay.db
""",
            encoding="utf-8",
        )
        arguments = ["serve", "--config", "relay.yaml", "--port", "0", "--workers", "2"]

        with pytest.raises(ProcessFailedError, match="ended early") as failed:
            async with relay("serve", arguments, tmp_path):
                pass

    assert "allkeys-lru" in str(failed.value)
    assert "Set maxmemory-policy noeviction" in str(failed.value)
    assert "Traceback" not in str(failed.value)
