"""
What the scripts are given: the keys of one slot, amounts as text.
"""

import asyncio
from collections.abc import Sequence

import pytest
from fixtures.spend import AT, hold, release, settle
from redis.crc import key_slot

from relay_middleware.core.holds import Adjustment
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NO_MONEY, NanoUsd
from relay_middleware.core.rates import TokenLimit
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ports.stores import Spend
from relay_middleware.stores.breaker import Breaker, BreakingScripts
from relay_middleware.stores.connection import Reply
from relay_middleware.stores.encoding import Texts
from relay_middleware.stores.keys import BUCKETS
from relay_middleware.stores.redis import RedisSpendStore

pytestmark = pytest.mark.anyio

HOLD = hold(
    amount=9_007_199_254_740_991,
    tokens=5,
    token_limits=(TokenLimit("40000/minute", 40_000, 60), TokenLimit("1/day", 1, 86_400)),
    max_concurrency=4,
)
RATES = ["20/minute", "500/day"]
WINDOWS = [account.window for account in HOLD.accounts]


ANSWERS: dict[str, Reply] = {
    "claim": 1,
    "generation": b"epoch",
    "open": 1,
    "recall": Texts().hold(HOLD).encode(),
    "raise_to": [b"0", b"0"],
    "balances": [b"0"] * 16,
    "reserve": [b"OK", b"", *[b"0"] * 28],
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
    await store.reserve(HOLD, RATES)
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

    await RedisSpendStore(scripts, now=lambda: AT).reserve(HOLD, RATES)

    (_, _, args), *_ = scripts.calls
    assert args[:3] == ["h1", "9007199254740991", "60000"]


class AwayScripts(RecordingScripts):
    """
    Attributes:
        failing: Numbers of the calls that fail, counted from 0.
        ended: How many calls have ended.
    """

    def __init__(self, *failing: int) -> None:
        super().__init__()
        self.failing = failing
        self.ended = 0

    async def call(self, name: str, keys: Sequence[str], args: Sequence[str]) -> Reply:
        number = len(self.calls)
        reply = await super().call(name, keys, args)
        if number not in self.failing:
            # Later than those that fail.
            await asyncio.sleep(0)
        self.ended += 1
        if number in self.failing:
            raise StoreUnavailableError("away")
        return reply


async def test_the_generation_is_asked_for_in_one_turn() -> None:
    """
    The first bucket is asked for alone, the other 63 together, without waiting for one another.
    """
    scripts = AwayScripts()
    asked = asyncio.create_task(RedisSpendStore(scripts, now=lambda: AT).generation())
    await asyncio.sleep(0)
    alone = len(scripts.calls)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert (alone, len(scripts.calls)) == (1, BUCKETS)
    assert await asked == " ".join(["epoch"] * BUCKETS)


async def test_a_breaker_that_tries_one_call_lets_the_generation_through() -> None:
    """
    Redis was away and is back: the first question to it is the whole generation, and is answered.
    """
    seconds = [100.0]
    breaker = Breaker(monotonic_s=lambda: seconds[0])
    scripts = BreakingScripts(AwayScripts(0, 1, 2), breaker)
    store = RedisSpendStore(scripts, now=lambda: AT)
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await store.generation()
    seconds[0] += 1

    assert await store.generation() == " ".join(["epoch"] * BUCKETS)


async def test_where_one_bucket_fails_no_other_is_left_behind() -> None:
    """
    Of the 64 calls of a sweep the third fails: that is told when all have ended.
    """
    scripts = AwayScripts(2)

    with pytest.raises(StoreUnavailableError):
        await RedisSpendStore(scripts, now=lambda: AT).sweep()

    assert scripts.ended == BUCKETS
