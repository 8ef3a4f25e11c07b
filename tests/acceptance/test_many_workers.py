"""
Several processes on one Redis that fails: the server lives on, and every answer is counted once.

Each test is a line of the fault matrix, with `relay serve --workers N`, over real stores.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fixtures.deployed import Deployed, deployed, journaled
from fixtures.outages import ALICE, BOB, CHARGE, balance_of, until
from fixtures.own_redis import OwnRedis, own_redis
from fixtures.spend import hold, outcome

from proxy_app.selftest.processes import Running
from relay_middleware.core.holds import HoldState
from relay_middleware.core.records import RequestEnded
from relay_middleware.ledger.sql import SqlLedger

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CLIENTS, ANSWERS = 8, 12
"""Clients at once, and how many answers each of them wants."""


@pytest.fixture(name="redis")
def _redis(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis(tmp_path / "redis") as server:
        yield server


async def _is_emptied(redis_url: str) -> bool:
    return await journaled(redis_url) == 0


async def test_killed_while_redis_is_down(tmp_path: Path, redis: OwnRedis) -> None:
    """
    Redis is down: Bob, who has no limit, is served, by either worker; one of them is killed. The
    server lives on, and when Redis is back each of his 9 answers is counted once.
    """
    async with (
        deployed(tmp_path, redis_url=redis.url) as scene,
        scene.serve("server", workers=2) as running,
    ):
        await scene.served(running, BOB)
        first = await scene.workers(2)
        redis.kill()
        refused = await scene.ask(running, ALICE)
        served = [(await scene.ask(running, BOB)).status_code for _ in range(8)]
        scene.kill_worker(first.pop())
        redis.start()

        await scene.has_rows(BOB, 9)
        await until(lambda: _is_emptied(redis.url))
        await scene.served(running, ALICE)
        await scene.workers(2)

        assert (refused.status_code, served) == (503, [200] * 8)
        rows, balance = await scene.rows(BOB), await balance_of(redis.url, BOB)
        assert rows == [("settled", CHARGE, CHARGE)] * 9
        assert (balance.posted_nano_usd, balance.held_nano_usd) == (9 * CHARGE, 0)


async def test_redis_is_emptied_under_traffic(tmp_path: Path, redis: OwnRedis) -> None:
    """
    Four workers fill an empty Redis with one answer of the ledger's, not four times. Eight clients
    ask until each has 12 answers; after 24 of them Redis is emptied. All that was answered is in
    the ledger once, and the counter is its sum, to the nano-dollar; nothing is held.
    """
    async with deployed(tmp_path, redis_url=redis.url) as scene:
        await SqlLedger(scene.database).append([booked()])
        async with scene.serve("server", workers=4) as running:
            await scene.workers(4)
            filled = (await balance_of(redis.url, ALICE)).posted_nano_usd
            statuses: Counter[int] = Counter()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(CLIENTS):
                    tasks.create_task(_until_answered(scene, running, statuses))
                await until(lambda: _reaches(statuses, 24))
                with redis.client() as client:
                    client.flushall()

            answers = 1 + CLIENTS * ANSWERS
            await scene.has_rows(ALICE, answers)
            await until(lambda: _is_posted(redis.url, answers))
            await until(lambda: _is_emptied(redis.url))

            assert filled == CHARGE
            assert statuses[200] == CLIENTS * ANSWERS
            assert set(statuses) <= {200, 503}
            assert await scene.rows(ALICE) == [("settled", CHARGE, CHARGE)] * answers


def booked() -> RequestEnded:
    """A request of Alice's as the ledger has it from before."""
    held = hold("before", CHARGE, customer=ALICE, at=datetime.now(UTC))
    return outcome(held, HoldState.SETTLED, CHARGE)


async def _until_answered(scene: Deployed, running: Running, statuses: Counter[int]) -> None:
    """Ask until there were enough answers; a 503 is asked again, as its `Retry-After` says."""
    answered = 0
    while answered < ANSWERS:
        answer = await scene.ask(running, ALICE)
        statuses[answer.status_code] += 1
        answered += answer.status_code == 200
        if answer.status_code != 200:
            # Far sooner than it says: a Redis that is being filled is asked for all the same.
            await asyncio.sleep(0.05)


async def _reaches(statuses: Counter[int], answers: int) -> bool:
    return statuses[200] >= answers


async def _is_posted(redis_url: str, answers: int) -> bool:
    balance = await balance_of(redis_url, ALICE)
    return (balance.posted_nano_usd, balance.held_nano_usd) == (answers * CHARGE, 0)
