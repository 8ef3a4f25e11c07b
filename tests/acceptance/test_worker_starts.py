"""
Workers that start while Redis is away: the server lives on.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from fixtures.gate import Gate, gate
from fixtures.redis_server import PATIENCE
from fixtures.world import deployment, tiers

from proxy_app.selftest.processes import Running, relay
from proxy_app.selftest.strike import pid_of
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.workers import list_workers

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LONGEST_WAIT_S = 90


@pytest.fixture(name="redis_gate")
async def _redis_gate(redis_url: str) -> AsyncIterator[Gate]:
    """
    A way to Redis that can be shut.
    """
    async with gate(urlsplit(redis_url).port or 0) as made:
        yield made


@pytest.fixture(name="database")
async def _database(tmp_path: Path) -> AsyncIterator[Database]:
    """
    What the server writes.
    """
    database = Database(f"sqlite:///{tmp_path}/relay.db")
    yield database
    await database.aclose()


@pytest.fixture(name="server")
async def _server(tmp_path: Path, redis_gate: Gate, database: Database) -> AsyncIterator[Running]:
    """
    Two workers that serve.
    """
    config = {
        "model_list": [deployment("http://127.0.0.1:9")],
        "redis_url": f"redis://127.0.0.1:{redis_gate.port}?{PATIENCE}",
        "database_url": f"sqlite:///{tmp_path}/relay.db",
        "state_dir": str(tmp_path / "state"),
        **tiers(),
    }
    (tmp_path / "relay.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    arguments = ["serve", "--config", "relay.yaml", "--port", "0", "--workers", "2"]
    async with relay("serve", arguments, tmp_path) as running:
        while len(await workers(database)) < 2:
            running.check()
            await asyncio.sleep(0.05)
        yield running


async def workers(database: Database) -> set[str]:
    """Return those that live."""
    return {each.worker_id for each in await list_workers(database, datetime.now(UTC))}


async def replaced_in_vain(database: Database, server: Running, redis_gate: Gate) -> set[str]:
    """Shut Redis off, kill a worker, and wait until the next one waits; return who was there."""
    before = await workers(database)
    redis_gate.shut()
    os.kill(pid_of(min(before)), signal.SIGKILL)
    while "worker_waits" not in server.log_path.read_text("utf-8"):
        server.check()
        await asyncio.sleep(0.05)
    return before


async def test_a_worker_waits_for_redis(
    server: Running, database: Database, redis_gate: Gate
) -> None:
    """
    A worker is killed while Redis is away: the one in its place serves when Redis is back, and the
    server does not end.
    """
    async with asyncio.timeout(LONGEST_WAIT_S):
        before = await replaced_in_vain(database, server, redis_gate)
        await redis_gate.open()
        while not await workers(database) - before:
            server.check()
            await asyncio.sleep(0.05)

    assert "not_started" not in server.log_path.read_text("utf-8")


async def test_a_worker_that_waits_can_be_ended(
    server: Running, database: Database, redis_gate: Gate
) -> None:
    """
    SIGTERM ends a server, one of whose workers waits for a Redis that never comes.
    """
    async with asyncio.timeout(LONGEST_WAIT_S):
        await replaced_in_vain(database, server, redis_gate)
        server.process.send_signal(signal.SIGTERM)

        assert await server.process.wait() == 0
