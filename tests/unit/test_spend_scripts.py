"""
What the scripts are given: the keys of one slot, amounts as text.
"""

from collections.abc import Sequence

import pytest
from fixtures.spend import AT, hold, release, settle
from redis.crc import key_slot

from relay_middleware.core.holds import Adjustment
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NO_MONEY, NanoUsd
from relay_middleware.core.rates import TokenLimit
from relay_middleware.ports.stores import Spend
from relay_middleware.stores.connection import Reply
from relay_middleware.stores.encoding import encode_hold
from relay_middleware.stores.keys import BUCKETS
from relay_middleware.stores.redis import RedisSpendStore

pytestmark = pytest.mark.anyio

HOLD = hold(
    amount=9_007_199_254_740_991,
    tokens=5,
    token_limits=(TokenLimit("40000/minute", 40_000, 60), TokenLimit("1/day", 1, 86_400)),
    max_concurrency=4,
)
WINDOWS = [account.window for account in HOLD.accounts]


ANSWERS: dict[str, Reply] = {
    "claim": 1,
    "generation": b"epoch",
    "open": 1,
    "recall": encode_hold(HOLD).encode(),
    "raise_to": [b"0", b"0"],
    "balances": [b"0"] * 16,
    "reserve": [b"OK", b"", *[b"0"] * 22],
}


class RecordingScripts:
    """Runs nothing, and says that all is well, one hold is due, and all accounts are empty."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Sequence[str], Sequence[str]]] = []

    async def start(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    async def call(self, name: str, keys: Sequence[str], args: Sequence[str]) -> Reply:
        self.calls.append((name, keys, args))
        if name == "due":
            return [b"h1"] if "{00}" in keys[0] else []
        return ANSWERS.get(name, [b"OK", b"", *[b"0"] * 16])


async def test_each_script_touches_one_slot() -> None:
    """
    All keys of each call of each script are in one slot of a cluster, also for many customers.
    """
    scripts = RecordingScripts()
    store = RedisSpendStore(scripts, now=lambda: AT)
    many = [(CustomerId(f"c{i}"), HoldId(f"h{i}")) for i in range(200)]
    await store.reserve(HOLD)
    await settle(store, HOLD, 1)
    await release(store, HOLD)
    await store.expire(HOLD)
    await store.vacate(HOLD)
    await store.sweep()
    await store.touch(many, ttl_s=1)
    await store.acknowledge(many)
    await store.raise_to(
        [
            Spend(customer_id=customer_id, window=WINDOWS[0], posted_nano_usd=NanoUsd(1))
            for customer_id, _ in many
        ]
    )
    await store.balances(HOLD.customer_id, WINDOWS)
    nothing = Adjustment(operation_id="op", posted_nano_usd=NO_MONEY, credit_nano_usd=NO_MONEY)
    await store.adjust(HOLD.customer_id, WINDOWS[0], nothing)
    await store.claim("fill", "me")
    await store.generation()
    await store.begin_filling()
    await store.open()

    for name, keys, _ in scripts.calls:
        assert len({key_slot(key.encode()) for key in keys}) == 1, name
    acknowledged = [keys for name, keys, _ in scripts.calls if name == "acknowledge"]
    assert {name for name, _, _ in scripts.calls} == {
        "acknowledge", "adjust", "balances", "begin", "claim", "due", "expire", "generation",
        "open", "raise_to", "recall", "release", "reserve", "settle", "touch", "vacate",
    }  # fmt: skip
    assert len(acknowledged) <= BUCKETS
    assert sum(map(len, acknowledged)) == 200


async def test_amounts_travel_as_text() -> None:
    """
    2^53 - 1 arrives with all its 16 digits: Lua would print 14 of a number.
    """
    scripts = RecordingScripts()

    await RedisSpendStore(scripts, now=lambda: AT).reserve(HOLD)

    (_, _, args), *_ = scripts.calls
    assert args[:3] == ["h1", "9007199254740991", "60000"]
