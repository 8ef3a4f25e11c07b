"""
Stores that fail under a running Relay: nothing is let through unchecked, and nothing is lost.

Each test is a line of the fault matrix, over real sockets, with a Redis of its own.
"""

import asyncio
import statistics
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fixtures.outages import ALICE, BOB, CHARGE, Away, away, until
from fixtures.own_redis import OwnRedis, own_redis
from fixtures.snare import script, snare
from structlog.testing import capture_logs

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TIMEOUT_S = 0.25
"""That of one command to Redis."""


@pytest.fixture(name="redis")
def _redis(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture(name="relay")
async def _relay(tmp_path: Path, redis: OwnRedis) -> AsyncIterator[Away]:
    async with away(tmp_path / "relay", redis.url) as relay:
        yield relay


async def test_a_lost_reply_to_a_reserve_is_one_hold_and_one_call(
    tmp_path: Path, redis: OwnRedis
) -> None:
    """
    The hold is taken and the answer lost: it is asked for again, found to be there, and served; one
    provider call, one charge.
    """
    async with snare(redis.port) as trap, away(tmp_path / "relay", trap.url) as relay:
        before = relay.world.simulator.calls()
        trap.losing = {script("reserve"): 1}

        answer = await relay.ask()

        assert answer.status_code == 200
        assert trap.lost == 1
        assert relay.world.simulator.calls() - before == 1
        await relay.assert_exact(alice=2, bob=1)


async def test_lost_replies_to_a_reserve_leave_nothing_held(
    tmp_path: Path, redis: OwnRedis
) -> None:
    """
    The answer is lost twice, so the client is told 503 and asks again: of the two holds one is
    given back, and one provider call was made.
    """
    async with snare(redis.port) as trap, away(tmp_path / "relay", trap.url) as relay:
        before = relay.world.simulator.calls()
        trap.losing = {script("reserve"): 2}

        answers = [(await relay.ask()).status_code for _ in range(2)]

        assert answers == [503, 200]
        assert relay.world.simulator.calls() - before == 1
        await relay.assert_exact(alice=2, bob=1)


async def test_lost_replies_to_a_settle_post_once(tmp_path: Path, redis: OwnRedis) -> None:
    """
    The settle takes effect and its answer is lost four times: it is repeated until it is answered,
    and posted once. The client has its answer meanwhile.
    """
    async with snare(redis.port) as trap, away(tmp_path / "relay", trap.url) as relay:
        trap.losing = {script("settle"): 4}

        answer = await relay.ask()

        assert answer.status_code == 200
        await relay.assert_exact(alice=2, bob=1)
        assert trap.lost == 4


async def test_redis_down(relay: Away, redis: OwnRedis) -> None:
    """
    Who has a limit is refused within 300 ms and without a call; who has none is served, and counted
    exactly when Redis is back. Refusals leave nothing behind that would pile up.
    """
    calls = relay.world.simulator.calls
    redis.kill()
    before = calls()

    refusals = [await relay.timed(ALICE) for _ in range(5)]
    owed = await relay.metric("relay_owed_settlements")
    refusals += [await relay.timed(ALICE) for _ in range(20)]
    refused = await relay.ask(ALICE)

    assert {status for status, _ in refusals} == {503}
    assert statistics.median(seconds for _, seconds in refusals) < 0.3
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"]["code"] == "enforcement_unavailable"
    assert calls() == before
    assert await relay.metric("relay_owed_settlements") == owed <= 3
    assert (await relay.enforcement(), await relay.metric("relay_breaker_open")) == ("away", 1)

    served = [await relay.ask(BOB) for _ in range(3)]
    assert [answer.status_code for answer in served] == [200] * 3
    assert await relay.metric("relay_owed_settlements") == owed + 3

    redis.start()
    await until(relay.is_enforcing)
    assert (await relay.ask(ALICE)).status_code == 200
    await relay.assert_exact(alice=2, bob=4)


async def test_redis_is_slow(relay: Away, redis: OwnRedis) -> None:
    """
    Redis stops answering. Of 100 requests at once none waits for the time-outs of others (that
    would be 100 / 16 of 250 ms); later ones are refused without a wait, and it recovers by itself.
    """
    before = relay.world.simulator.calls()
    redis.freeze()

    crowd = await asyncio.gather(*(relay.timed(ALICE) for _ in range(100)))
    later = [await relay.timed(ALICE) for _ in range(20)]

    assert {status for status, _ in [*crowd, *later]} == {503}
    assert max(seconds for _, seconds in crowd) < 100 / 16 * TIMEOUT_S
    assert statistics.median(seconds for _, seconds in later) < TIMEOUT_S
    assert await relay.metric("relay_breaker_open") == 1
    assert relay.world.simulator.calls() == before

    redis.thaw()
    await until(relay.is_enforcing)
    assert (await relay.ask(ALICE)).status_code == 200
    await relay.assert_exact(alice=2, bob=1)


async def test_redis_is_slow_for_who_is_served_all_the_same(relay: Away, redis: OwnRedis) -> None:
    """
    Redis stops answering, and Bob's requests, which need not be checked, do not wait for it either.
    """
    redis.freeze()
    await asyncio.gather(*(relay.timed(ALICE) for _ in range(20)))

    served = [await relay.timed(BOB) for _ in range(10)]

    assert {status for status, _ in served} == {200}
    # The settle, too, is waited for in vain once at most.
    assert statistics.median(seconds for _, seconds in served) < TIMEOUT_S
    redis.thaw()
    await relay.assert_exact(alice=1, bob=11)


async def test_redis_is_full(relay: Away, redis: OwnRedis) -> None:
    """
    At its `maxmemory` Redis refuses to write: no call for who has a limit; what is served all the
    same is counted when there is room again.
    """
    before = relay.world.simulator.calls()
    with redis.client() as client:
        client.config_set("maxmemory", "1mb")
        refused = await relay.ask(ALICE)
        calls = relay.world.simulator.calls()
        served = await relay.ask(BOB)
        client.config_set("maxmemory", "0")

    assert (refused.status_code, calls) == (503, before)
    assert served.status_code == 200
    await until(relay.is_enforcing)
    assert (await relay.ask(ALICE)).status_code == 200
    await relay.assert_exact(alice=2, bob=2)
    assert (await relay.balance(BOB)).posted_nano_usd == 2 * CHARGE


async def test_an_end_without_redis_claims_nothing(relay: Away, redis: OwnRedis) -> None:
    """
    A process that ends while Redis is away says that nobody knows whether all is in the ledger; one
    that ends when it is there again says nothing.
    """
    redis.kill()
    with capture_logs() as logs:
        await relay.world.relay.drain(1)
        said = [each["event"] for each in logs if each["log_level"] == "error"]
        redis.start()
        await until(relay.is_enforcing)
        logs.clear()
        await relay.world.relay.drain(20)

    assert said == ["journal_unknown"]
    assert [each for each in logs if each["log_level"] == "error"] == []
