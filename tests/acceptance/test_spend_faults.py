"""
Two processes on one Redis, through connections that lose commands and replies.
"""

import asyncio
import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fixtures.fault_proxy import Fault, fault_proxy
from fixtures.spend import ALICE, AT, hold, redis_store
from fixtures.spend_clients import AMOUNT

from relay_middleware.core.holds import Reserved
from relay_middleware.core.periods import Period, window_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
LIMIT = 300
CLIENTS, HOLDS = 4, 20


async def clients(url: str, seed: int, name: str, way: str) -> dict[str, int]:
    """Run a process of four clients; return what each hold that it opened was charged."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "tests/fixtures/spend_clients.py"),
        *(url, str(seed), name, str(CLIENTS), str(HOLDS), str(LIMIT), way),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    assert process.returncode == 0
    ended: dict[str, int] = json.loads(output)
    return ended


@pytest.mark.parametrize(("way", "seed"), [("redis", 1), ("multiplexed", 2), ("multiplexed", 3)])
async def test_lost_commands_and_replies_lose_no_money(redis_url: str, way: str, seed: int) -> None:
    """
    8 clients in 2 processes and 160 holds of 10 on a limit of 300: whatever is cut, counters and
    journal are the sum of what the clients were told, to the nano-dollar, the limit was not passed,
    and nothing is held at the end: what is left of the limit admits a hold for each 10, no more.
    """
    port = urlsplit(redis_url).port
    assert port is not None
    async with redis_store(redis_url) as subject, fault_proxy(port, seed) as proxy:
        told = await asyncio.gather(
            *(clients(proxy.url, seed * 10 + i, f"p{i}", way) for i in range(2))
        )
        (month,) = await subject.store.balances(ALICE, [window_of(Period.MONTH, AT)])
        journaled = await subject.journaled()
        left = [
            await subject.store.reserve(hold(f"left-{i}", AMOUNT, month=LIMIT))
            for i in range(LIMIT // AMOUNT)
        ]

    ended = {name: charge for part in told for name, charge in part.items()}
    charged = sum(charge for charge in ended.values() if charge > 0)
    assert (month.posted_nano_usd, month.held_nano_usd) == (charged, 0)
    # How near the limit it comes is a matter of time: a client may give up while others hold.
    assert LIMIT // 2 < charged <= LIMIT
    assert sum(isinstance(one, Reserved) for one in left) == (LIMIT - charged) // AMOUNT
    assert {entry.hold_id: entry.charge_nano_usd for entry in journaled} == {
        name: max(0, charge) for name, charge in ended.items()
    }
    assert len(journaled) == len(ended)
    for direction in ("command", "reply"):
        assert proxy.faults[direction, Fault.CUT] >= 5
