"""
What the scripts are given: the keys of one slot, amounts as text.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from redis.crc import key_slot

from relay_middleware.core.holds import Account, Hold
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import windows_of
from relay_middleware.stores.connection import Reply
from relay_middleware.stores.redis import RedisSpendStore

pytestmark = pytest.mark.anyio

WINDOWS = windows_of(datetime(2026, 11, 23, tzinfo=UTC))
HOLD = Hold(
    hold_id=HoldId("h1"),
    customer_id=CustomerId("alice"),
    amount_nano_usd=NanoUsd(9_007_199_254_740_991),
    accounts=tuple(Account(window=window, limit_nano_usd=None) for window in WINDOWS),
    ttl_s=60,
)


class RecordingScripts:
    """Runs nothing, and says that all is well with four empty accounts."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Sequence[str], Sequence[str]]] = []

    async def ping(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    async def call(self, name: str, keys: Sequence[str], args: Sequence[str]) -> Reply:
        self.calls.append((name, keys, args))
        return [b"OK", b"", *[b"0"] * 12]


async def test_each_script_touches_one_slot() -> None:
    """
    All keys of each call of each script are in one slot of a cluster, also for many customers.
    """
    scripts = RecordingScripts()
    store = RedisSpendStore(scripts)
    await store.reserve(HOLD)
    await store.settle(HOLD, NanoUsd(1))
    await store.release(HOLD, is_dispatched=True)
    await store.raise_to(HOLD.customer_id, WINDOWS[0], NanoUsd(1))
    await store.acknowledge([(CustomerId(f"c{i}"), HoldId(f"h{i}")) for i in range(200)])

    for name, keys, _ in scripts.calls:
        assert len({key_slot(key.encode()) for key in keys}) == 1, name
    acknowledged = [keys for name, keys, _ in scripts.calls if name == "acknowledge"]
    assert {name for name, _, _ in scripts.calls} == {
        "acknowledge", "raise_to", "release", "reserve", "settle"
    }  # fmt: skip
    assert len(acknowledged) <= 64
    assert sum(map(len, acknowledged)) == 200


async def test_amounts_travel_as_text() -> None:
    """
    2^53 - 1 arrives with all its 16 digits: Lua would print 14 of a number.
    """
    scripts = RecordingScripts()

    await RedisSpendStore(scripts).reserve(HOLD)

    (_, _, args), *_ = scripts.calls
    assert args[:3] == ["h1", "9007199254740991", "60000"]
