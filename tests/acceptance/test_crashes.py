"""
Processes that are killed, or told to end: money set aside comes back, what was spent is booked
once.

Each test is a line of the fault matrix, with `relay serve` as users start it, over real stores.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import yaml
from fixtures.deployed import Deployed, age, called, deployed, journaled, kill, taken
from fixtures.outages import ALICE, ALL_OF_CAP, CHARGE, away, balance_of, config, locked, until
from fixtures.own_redis import OwnRedis, own_redis
from fixtures.snare import snare
from fixtures.world import deployment

from proxy_app.serving import listen, serve_here
from relay_middleware.config import load_config
from relay_middleware.testing import Behaviour

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

STALLED = Behaviour(output_tokens="cap", stall="before_headers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """
    What is there after a kill and a restart.

    Attributes:
        rows: Alice's requests in the ledger: state, charge and hold.
        remaining_cents: What she is told of her ten dollars with a further answer.
        held: What Redis holds for her; None with the embedded store.
        files: Write-ahead files that are left when the second process has ended.
    """

    rows: list[tuple[str, int, int]]
    remaining_cents: float
    held: int | None
    files: list[Path]


@pytest.fixture(scope="module", name="aftermath", params=["redis", "embedded"])
async def _aftermath(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Aftermath:
    """
    A process is killed when one answer of Alice's is in the ledger, one is settled and the ledger
    could not be told, and of one the provider has been asked. Another one takes its place.
    """
    folder = tmp_path_factory.mktemp("crash")
    async with AsyncExitStack() as stack:
        redis_url = None
        if request.param == "redis":
            redis_url = stack.enter_context(own_redis(folder / "redis")).url
        scene = await stack.enter_async_context(deployed(folder, redis_url=redis_url))
        await _crash(scene, redis_url)
        async with scene.serve("second") as running:
            await scene.has_rows(ALICE, 3)
            rows = await scene.rows(ALICE)
            further = await scene.ask(running, ALICE)
            await scene.has_rows(ALICE, 4)
            held = None
            if redis_url is not None:
                held = (await balance_of(redis_url, ALICE)).held_nano_usd
        assert running.process.returncode == 0
        return Aftermath(
            rows=rows,
            remaining_cents=further.json()["relay"]["spend_remaining_cents"],
            held=held,
            files=scene.files(),
        )


async def _crash(scene: Deployed, redis_url: str | None) -> None:
    async with scene.serve("first") as running:
        await scene.served(running, ALICE)
        with locked(scene.folder / "relay.db"):
            assert (await scene.ask(running, ALICE)).status_code == 200
            scene.simulator.set("live", STALLED)
            calls = scene.simulator.calls()
            asking = asyncio.create_task(scene.ask(running, ALICE))
            await called(scene.simulator, calls + 1)
            if redis_url is not None:
                await until(lambda: _is_taken(redis_url))
            await kill(running)
            await asyncio.gather(asking, return_exceptions=True)
    scene.simulator.set("live", ALL_OF_CAP)
    if redis_url is not None:
        await age(redis_url)


async def _is_taken(redis_url: str) -> bool:
    return await taken(redis_url) == 1


async def test_killed_after_dispatch(aftermath: Aftermath) -> None:
    """
    Nobody knows what the request came to that was under way: it is expired, counts for what was set
    aside, and is not charged.
    """
    assert [row for row in aftermath.rows if row[0] == "expired"] == [("expired", 0, CHARGE)]


async def test_killed_after_settle_before_the_ledger_had_it(aftermath: Aftermath) -> None:
    """
    The answer that was given is in the ledger, once, beside the one that was there before.
    """
    settled = [row for row in aftermath.rows if row[0] == "settled"]

    assert settled == [("settled", CHARGE, CHARGE)] * 2


async def test_a_restart_counts_nothing_twice(aftermath: Aftermath) -> None:
    """
    Two answers, the expired one and a further answer are 0.04 of 1,000 cents; nothing is held, and
    no file is left that a third process would settle again.
    """
    assert aftermath.remaining_cents == 1000 - 0.04
    assert aftermath.held in {0, None}
    assert aftermath.files == []


@pytest.fixture(name="redis")
def _redis(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis(tmp_path / "redis") as server:
        yield server


async def test_killed_between_commit_and_acknowledgement(tmp_path: Path, redis: OwnRedis) -> None:
    """
    The process is killed when the ledger has committed a record and Redis has not heard of it: the
    entry is delivered again, and there is no second row.
    """
    async with snare(redis.port) as trap, deployed(tmp_path, redis_url=trap.url) as scene:
        async with scene.serve("first") as running:
            await scene.served(running, ALICE)
            await until(lambda: _is_emptied(redis.url))
            trap.holding = b"XACK"
            assert (await scene.ask(running, ALICE)).status_code == 200
            async with asyncio.timeout(60):
                await trap.caught.wait()
            await kill(running)
        committed, waiting = len(await scene.rows(ALICE)), await taken(redis.url)
        trap.holding = None
        await age(redis.url)

        database_url = f"sqlite:///{tmp_path}/relay.db"
        async with away(tmp_path / "next", redis.url, database_url=database_url) as relay:
            await until(relay.is_settled)
            # Whoever begins is answered once.
            assert await scene.rows(ALICE) == [("settled", CHARGE, CHARGE)] * 3
            assert (await relay.balance()).posted_nano_usd == 3 * CHARGE

        assert (committed, waiting) == (2, 1)


async def _is_emptied(redis_url: str) -> bool:
    return await journaled(redis_url) == 0


async def test_killed_where_nobody_takes_its_file(tmp_path: Path, redis: OwnRedis) -> None:
    """
    A process of another machine is killed while a provider works: its hold runs out by Redis's
    clock, five seconds after it was last touched, and whoever lives counts it.
    """
    async with deployed(tmp_path, redis_url=redis.url, hold_ttl_s=5) as scene:
        async with scene.serve("dead") as running:
            await scene.served(running, ALICE)
            scene.simulator.set("live", STALLED)
            asking = asyncio.create_task(scene.ask(running, ALICE))
            await called(scene.simulator, 2)
            held = (await balance_of(redis.url, ALICE)).held_nano_usd
            await kill(running)
            await asyncio.gather(asking, return_exceptions=True)

        database_url = f"sqlite:///{tmp_path}/relay.db"
        async with away(tmp_path / "alive", redis.url, database_url=database_url) as alive:
            # Whoever begins is answered once.
            await scene.has_rows(ALICE, 3)
            await until(alive.is_settled)
            rows, balance = await scene.rows(ALICE), await alive.balance()

    assert held == CHARGE
    assert ("expired", 0, CHARGE) in rows
    assert (balance.posted_nano_usd, balance.held_nano_usd) == (3 * CHARGE, 0)


async def test_sigterm_while_streams_run(tmp_path: Path, redis: OwnRedis) -> None:
    """
    Told to end while two streams run: the one that can end within two seconds does, the other is
    cut off; both are charged for what came (80 bytes are 20 tokens), the exit code is 0, and
    nothing is held or left to be written.
    """
    text, pieces = "Simulated " * 40, 20
    async with deployed(tmp_path) as scene:
        models = [deployment(scene.provider, name=name, profile=name) for name in ("live", "stuck")]
        scene.configure(redis_url=redis.url, drain_timeout_s=2, model_list=models)
        live = replace(ALL_OF_CAP, text=text, chunk_tokens=pieces, chunk_delay_s=0.1)
        scene.simulator.set("live", live)
        stuck = Behaviour(text=text, chunk_tokens=pieces, stall="after_content")
        scene.simulator.set("stuck", stuck)
        async with scene.serve("server") as running:
            begun = [asyncio.Event(), asyncio.Event()]
            streams = [
                asyncio.create_task(scene.stream(running, name, is_begun))
                for name, is_begun in zip(("live", "stuck"), begun, strict=True)
            ]
            await asyncio.gather(*(each.wait() for each in begun))
            running.process.send_signal(signal.SIGTERM)
            ended, cut = await asyncio.gather(*streams, return_exceptions=True)
            code = await running.process.wait()
        rows, balance = await scene.rows(ALICE), await balance_of(redis.url, ALICE)

        assert isinstance(ended, str)
        assert ended.endswith("data: [DONE]\n\n")
        assert isinstance(cut, httpx.RemoteProtocolError)
        assert code == 0
        assert {row[:2] for row in rows} == {("settled", CHARGE), ("settled", 20_000)}
        assert (balance.posted_nano_usd, balance.held_nano_usd) == (CHARGE + 20_000, 0)
        assert (await journaled(redis.url), scene.files()) == (0, [])


@pytest.fixture(name="unhandled")
def _unhandled() -> Iterator[list[int]]:
    """Notes each SIGTERM that nobody else handles, instead of ending the tests."""
    noted: list[int] = []
    handler = signal.signal(signal.SIGTERM, lambda number, _: noted.append(number))
    yield noted
    signal.signal(signal.SIGTERM, handler)


def test_sigterm_in_the_first_moment(tmp_path: Path, unhandled: list[int]) -> None:
    """
    A SIGTERM that comes when the server has just said that it listens ends it.
    """
    path = tmp_path / "relay.yaml"
    stores = {"database_url": f"sqlite:///{tmp_path}/relay.db", "state_dir": str(tmp_path)}
    path.write_text(yaml.safe_dump({**config("http://127.0.0.1:9"), **stores}), encoding="utf-8")

    with listen("127.0.0.1", 0) as listener:
        serve_here(load_config(path, {}), listener, lambda _: signal.raise_signal(signal.SIGTERM))

    assert unhandled == []
