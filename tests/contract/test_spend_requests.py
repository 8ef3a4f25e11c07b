"""
What every `SpendStore` promises of request rates, which it counts when a hold is taken.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import time_machine
from fixtures.clock import FakeClock
from fixtures.spend import (
    ALICE,
    AT,
    Subject,
    balances,
    hold,
    is_reserved,
    local_store,
    redis_store,
    release,
    running,
    settle,
)
from hypothesis import given
from hypothesis import strategies as st
from limits.aio.storage import MemoryStorage, RedisStorage
from redis.asyncio import BlockingConnectionPool, Redis

from relay_middleware.core.holds import (
    NotReserved,
    Refused,
    Reserved,
    TooManyRequests,
    TooManyTokens,
)
from relay_middleware.core.rates import RequestLimit, TokenLimit
from relay_middleware.ports.stores import SpendStore
from relay_middleware.stores import local_rates
from relay_middleware.stores.keys import Keys

pytestmark = pytest.mark.anyio

DAY_S = 86_400
# Whose one bucket is longer than the tests live.
TOKENS = (TokenLimit("1000/forever", 1000, 10**9),)


def left(result: Reserved | Refused) -> list[int]:
    """What is left of each rate of a hold that was taken."""
    assert isinstance(result, Reserved)
    return [status.remaining_requests for status in result.rates]


def refusing(result: Reserved | Refused) -> str | None:
    """The rate that refuses; None where none does."""
    return result.status.limit if isinstance(result, TooManyRequests) else None


async def test_a_rate_is_inclusive(spend: SpendStore) -> None:
    """
    Of three a day the third passes and the fourth is refused, with the limit's numbers.
    """
    results = [await spend.reserve(hold(f"h{i}", 1), ["3/day"]) for i in range(4)]

    assert [is_reserved(result) for result in results] == [True, True, True, False]
    refused = results[-1]
    assert isinstance(refused, TooManyRequests)
    status = refused.status
    assert (status.limit, status.limit_requests, status.remaining_requests) == ("3/day", 3, 0)
    assert DAY_S - 60 < status.reset_after_s <= DAY_S


async def test_a_rate_of_one(spend: SpendStore) -> None:
    """
    One a day admits exactly one (LESSONS G: off by one at limit 1).
    """
    results = [await spend.reserve(hold(f"h{i}", 1), ["1/day"]) for i in range(2)]

    assert [is_reserved(result) for result in results] == [True, False]


async def test_what_is_left_of_the_rates_is_told(spend: SpendStore) -> None:
    """
    Of 2 an hour and 9 a day the first request leaves 1 and 8, the second 0 and 7; without rates
    nothing is told.
    """
    rates = ["2/hour", "9/day"]

    results = [await spend.reserve(hold(f"h{i}", 1), rates) for i in range(2)]

    assert [left(result) for result in results] == [[1, 8], [0, 7]]
    assert isinstance(results[0], Reserved)
    assert [status.limit for status in results[0].rates] == rates
    assert left(await spend.reserve(hold("without", 1))) == []


@pytest.mark.parametrize("tight", ["1/hour", "1/day"], ids=["shorter", "longer"])
async def test_a_refused_request_uses_up_nothing(spend: SpendStore, tight: str) -> None:
    """
    Refused twice by one of two rates, a customer has used up nothing by that: no money, no tokens,
    no place, and of the other rate, 9, the one request that was let in; so the next leaves 7.
    """
    rates = {"1/hour": ["1/hour", "9/day"], "1/day": ["9/hour", "1/day"]}[tight]
    (other,) = set(rates) - {tight}
    held = [hold(f"h{i}", 20, tokens=300, token_limits=TOKENS, max_concurrency=2) for i in range(3)]

    first, *refused = [await spend.reserve(each, rates) for each in held]
    after = await balances(spend)
    last = await spend.reserve(
        hold("h4", 80, tokens=700, token_limits=TOKENS, max_concurrency=2), [other]
    )

    assert is_reserved(first)
    assert [refusing(result) for result in refused] == [tight, tight]
    assert after == [(0, 20)] * 4
    assert left(last) == [7]


async def test_a_refused_hold_may_be_tried_again(spend: SpendStore) -> None:
    """
    A hold that a rate has refused is not remembered: under another rate it is taken.
    """
    await spend.reserve(hold("h1", 1), ["1/day"])
    await spend.reserve(hold("h2", 1), ["1/day"])

    again = await spend.reserve(hold("h2", 1), ["2/day"])

    assert isinstance(again, Reserved)
    assert not again.is_duplicate


async def test_rates_are_asked_last(spend: SpendStore) -> None:
    """
    What money, tokens and a place refuse as well is refused by them, in this order; and by a rate
    only where all of them would do. None of that is counted.
    """
    rates = ["1/day"]
    await spend.reserve(hold("h1", 60, tokens=600, token_limits=TOKENS, max_concurrency=1), rates)

    async def tried(amount: int, tokens: int, places: int) -> Reserved | Refused:
        held = hold("h2", amount, tokens=tokens, token_limits=TOKENS, max_concurrency=places)
        return await spend.reserve(held, rates)

    assert isinstance(await tried(50, 500, 1), NotReserved)
    assert isinstance(await tried(40, 500, 1), TooManyTokens)
    assert running(await tried(40, 400, 1)) == 1
    assert refusing(await tried(40, 400, 2)) == "1/day"
    assert left(await spend.reserve(hold("h3", 0), ["9/day"])) == [7]


async def test_a_request_that_money_refuses_is_not_counted(spend: SpendStore) -> None:
    """
    Refused for its money, a request has used up none of 3 a day: the next one leaves 2.
    """
    await spend.reserve(hold("h1", 200), ["3/day"])

    assert left(await spend.reserve(hold("h2", 1), ["3/day"])) == [2]


async def test_a_repeated_reserve_counts_once(spend: SpendStore) -> None:
    """
    Whoever repeats a reserve, not knowing whether it was heard, has made one request: of 3 a day
    each answer says 2 left, as after its end, and where nothing is left it is no refusal.
    """
    results = [await spend.reserve(hold("h1", 1), ["3/day"]) for _ in range(3)]
    await settle(spend, hold("h1", 1), 1)
    results.append(await spend.reserve(hold("h1", 1), ["3/day"]))
    full = await spend.reserve(hold("h1", 1), ["1/day"])

    assert [left(result) for result in results] == [[2]] * 4
    assert left(full) == [0]


@pytest.mark.parametrize("is_dispatched", [True, False])
async def test_a_request_that_was_let_in_stays_counted(
    spend: SpendStore, *, is_dispatched: bool
) -> None:
    """
    A hold that is given back leaves its request counted: a rate is of requests, not of answers.
    """
    await spend.reserve(hold("h1", 1), ["3/day"])
    await release(spend, hold("h1", 1), is_dispatched=is_dispatched)

    assert left(await spend.reserve(hold("h2", 1), ["3/day"])) == [1]


async def test_a_race_for_fifty_requests_has_fifty_winners(spend: SpendStore) -> None:
    """
    150 at once on 50 a day: exactly 50 are let in, and only they hold money.
    """
    results = await asyncio.gather(
        *(spend.reserve(hold(f"h{i}", 1, month=None), ["50/day"]) for i in range(150))
    )

    assert sum(map(is_reserved, results)) == 50
    assert await balances(spend) == [(0, 50)] * 4


async def test_customers_are_counted_apart(spend: SpendStore) -> None:
    """
    One a day is of each customer, whatever slashes and colons its id has.
    """
    names = ["a", "a/b", "b", "a:86400", "a/b/1/1/day"]

    results = [await spend.reserve(hold(name, 1, customer=name), ["1/day"]) for name in names]

    assert [left(result) for result in results] == [[0]] * 5


async def test_rates_over_the_same_time_share_a_count(spend: SpendStore) -> None:
    """
    Of 3 and of 5 a day one request leaves 2 and 4: it is counted once. Of 9 a day the next leaves
    7.
    """
    results = [
        await spend.reserve(hold("h1", 1), ["3/day", "5/day"]),
        await spend.reserve(hold("h2", 1), ["9 per 24 hours"]),
    ]

    assert [left(result) for result in results] == [[2, 4], [7]]


async def test_a_window_longer_than_the_clock(spend: SpendStore) -> None:
    """
    A rate over more time than has passed since 1970 counts as any other.
    """
    rate = "2 per 99 years"

    results = [await spend.reserve(hold(f"h{i}", 1), [rate]) for i in range(3)]

    assert [is_reserved(result) for result in results] == [True, True, False]


STEP_S = 7.001
"""Of which no multiple divides a minute: `limits` counts in floats, and may be a request off where
what counts of the minute before is a whole number."""


@given(steps=st.lists(st.integers(0, 6), max_size=40))
def test_embedded_counts_as_limits_does(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int]
) -> None:
    """
    However requests come, at most 42 s apart, of five a minute the embedded store lets in those
    that `limits` does, in memory, and says that as many are left.
    """
    asyncio.run(compare(tmp_path_factory.mktemp("store"), steps))


async def compare(folder: Path, steps: list[int]) -> None:
    # At the start of a minute, where those of `limits` in memory begin, with a request or not.
    clock = FakeClock(AT)
    limits = MemoryStorage()
    with time_machine.travel(AT, tick=False) as traveller:
        async with local_store(folder, clock) as subject:
            for number, step in enumerate([0, *steps]):
                clock.advance(seconds=step * STEP_S)
                traveller.shift(step * STEP_S)
                theirs = await limits.acquire_sliding_window_entry("k", 5, 60)
                result = await subject.store.reserve(hold(f"h{number}", 0), ["5/minute"])
                previous, left_s, current, _ = await limits.get_sliding_window("k", 60)
                remaining = max(0, 5 - int(previous * left_s / 60 + current))

                assert is_reserved(result) is theirs
                if isinstance(result, Reserved):
                    assert left(result) == [remaining]


async def test_embedded_windows_begin_anew(tmp_path: Path) -> None:
    """
    Three of 3 a day at noon fill the day; at 6 o'clock of the second evening, 6 h into the window
    after, 2.25 of them count, so one fits; two days without a request later three are left.
    """
    clock = FakeClock(AT)
    async with local_store(tmp_path, clock) as subject:
        spend = subject.store
        full = [await spend.reserve(hold(f"h{i}", 1), ["3/day"]) for i in range(4)]
        clock.advance(hours=30)
        evening = [await spend.reserve(hold(f"e{i}", 1), ["3/day"]) for i in range(2)]
        clock.advance(hours=18 + 24)
        last = await spend.reserve(hold("last", 1), ["3/day"])

    assert [refusing(result) for result in full] == [None, None, None, "3/day"]
    assert [refusing(result) for result in evening] == [None, "3/day"]
    assert left(last) == [2]


async def test_a_clock_that_is_set_back_keeps_the_count(tmp_path: Path) -> None:
    """
    An hour back, the two of 3 a day that were counted are still there, and the wait is a day.
    """
    clock = FakeClock(AT)
    async with local_store(tmp_path, clock) as subject:
        results = [await subject.store.reserve(hold(f"h{i}", 1), ["3/day"]) for i in range(2)]
        clock.advance(hours=-1)
        results.append(await subject.store.reserve(hold("h3", 1), ["3/day"]))

    assert left(results[-1]) == [0]
    assert isinstance(results[-1], Reserved)
    assert results[-1].rates[0].reset_after_s == DAY_S


async def test_embedded_forgets_who_came_longest_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With room for two windows, the third customer's takes the place of the one that was counted
    longest ago, bob's: of 9 a day he is told 8 once more, and alice 6 after three.
    """
    monkeypatch.setattr(local_rates, "CAPACITY", 2)
    names = ["alice", "bob", "alice", "carol", "alice", "bob"]
    async with local_store(tmp_path) as subject:
        results = [
            await subject.store.reserve(hold(f"h{i}", 1, customer=name), ["9/day"])
            for i, name in enumerate(names)
        ]

    assert [left(result) for result in results] == [[8], [8], [7], [8], [6], [8]]


MID_S = 40
"""Of a previous window of 1,000, one counts less every 86 s; so a test has 40 s each way."""


@pytest.fixture(name="theirs")
async def _theirs(redis_url: str) -> AsyncIterator[RedisStorage]:
    """
    The storage that `limits` has for Redis.
    """
    pool = BlockingConnectionPool.from_url(redis_url)
    yield RedisStorage(
        "async+redis://",
        implementation="redispy",
        connection_pool=pool,  # type: ignore[arg-type]
    )
    await pool.aclose()


async def set_windows(redis_url: str, *, elapsed_s: int) -> None:
    """
    Let 1,000 and then 200 requests of alice and of `k`, as `limits` has them, be counted in windows
    of a day, of which the second began *elapsed_s* ago.
    """
    left_s = DAY_S - elapsed_s
    async with Redis.from_url(redis_url) as client:
        if left_s + DAY_S > 0:
            await client.set("LIMITS:{k}", 200, ex=left_s + DAY_S)
        if left_s > 0:
            await client.set("LIMITS:{k}/-1", 1000, ex=left_s)
        ends_ms = ((await client.time())[0] + left_s) * 1000
        window = {"ends": ends_ms, "current": 200, "previous": 1000}
        key = Keys().requests(ALICE, RequestLimit("any", 1, DAY_S))
        await client.hset(key, mapping=window)


@pytest.mark.parametrize(
    ("elapsed_s", "counted"),
    [
        (21_600 - MID_S, 750 + 200),  # a quarter of the window is over: three of the previous count
        (DAY_S - 1800 - MID_S, 21 + 200),  # half an hour is left
        (DAY_S + 21_600 - MID_S, 150),  # the window is over: it has become the previous one
        (2 * DAY_S + 1, 0),  # so long ago that it does not count
    ],
)
async def test_redis_counts_as_limits_does(
    redis_url: str, theirs: RedisStorage, elapsed_s: int, counted: int
) -> None:
    """
    1,000 in the previous window and 200 in this one: of as many as count and two more, the store
    lets two in and not a third, as `limits` does.
    """
    await set_windows(redis_url, elapsed_s=elapsed_s)
    most = counted + 2

    told = [await theirs.acquire_sliding_window_entry("k", most, DAY_S) for _ in range(3)]
    async with redis_store(redis_url) as subject:
        results = [await subject.store.reserve(hold(f"h{i}", 0), [f"{most}/day"]) for i in range(3)]

    assert told == [True, True, False]
    assert [is_reserved(result) for result in results] == told
    assert [left(result) for result in results[:2]] == [[1], [0]]


@pytest.mark.parametrize("end", ["settle", "release", "expire"])
async def test_redis_forgets_rates(redis_url: str, end: str) -> None:
    """
    A customer that never comes back leaves nothing behind, however its request ended: a window is
    kept for two of its lengths.
    """
    async with redis_store(redis_url) as subject, Redis.from_url(redis_url) as client:
        held = hold("h1", 1)
        await subject.store.reserve(held, ["20/minute", "500/day"])
        await ended(subject, end)

        ttl_s = [await client.ttl(name) for name in await client.keys("*:r:alice*")]

    assert sorted(ttl_s) == pytest.approx([120, 2 * DAY_S], abs=2)


async def ended(subject: Subject, end: str) -> None:
    held = hold("h1", 1)
    if end == "settle":
        await settle(subject.store, held, 1)
    elif end == "release":
        await release(subject.store, held)
    else:
        await subject.store.expire(held)
