"""
What every `RateLimiter` promises, over each of them.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fixtures.spend import SCRIPTS
from limits.aio.storage import RedisStorage
from redis.asyncio import BlockingConnectionPool, Redis

from relay_middleware.core.rates import RequestLimit
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.stores.breaker import Breaker, BreakingScripts
from relay_middleware.stores.multiplexed import MultiplexedScripts
from relay_middleware.stores.rate_limits import ScriptedWindows, WindowRateLimiter

pytestmark = pytest.mark.anyio


@pytest.fixture(name="rates", params=["memory", *SCRIPTS])
async def _rates(request: pytest.FixtureRequest) -> AsyncIterator[WindowRateLimiter]:
    """
    Every implementation, one at a time.
    """
    if request.param == "memory":
        yield WindowRateLimiter.in_memory()
    else:
        scripts = SCRIPTS[request.param](request.getfixturevalue("redis_url"))
        yield WindowRateLimiter.in_redis(scripts)
        await scripts.aclose()


async def test_the_limit_is_inclusive(rates: WindowRateLimiter) -> None:
    """
    Of three a day the third passes and the fourth is refused, with the limit's numbers.
    """
    counts = [await rates.hit("alice", ["3/day"]) for _ in range(4)]

    assert [count.refusing is None for count in counts] == [True, True, True, False]
    refusing = counts[-1].refusing
    assert refusing is not None
    assert (refusing.limit, refusing.limit_requests, refusing.remaining_requests) == ("3/day", 3, 0)
    assert 0 < refusing.reset_after_s <= 86_400


async def test_a_limit_of_one(rates: WindowRateLimiter) -> None:
    """
    One a day admits exactly one (LESSONS G: off by one at limit 1).
    """
    assert (await rates.hit("alice", ["1/day"])).refusing is None
    assert (await rates.hit("alice", ["1/day"])).refusing is not None


async def test_a_refused_request_is_not_counted_by_later_limits(rates: WindowRateLimiter) -> None:
    """
    Refused twice by 1 an hour, a customer has used up nothing of 9 a day by that: of a request that
    is counted 7 are left, not 5.
    """
    for _ in range(3):
        await rates.hit("alice", ["1/hour", "9/day"])

    count = await rates.hit("alice", ["9/day"])

    assert [status.remaining_requests for status in count.counted] == [7]


async def test_what_is_left_is_told_with_the_count(rates: WindowRateLimiter) -> None:
    """
    Of 2 an hour and 9 a day a request leaves 1 and 8; the third is told what refuses it, and of
    none that has counted it.
    """
    limits = ["2/hour", "9/day"]
    first, _, third = [await rates.hit("alice", limits) for _ in range(3)]

    assert [(each.limit, each.remaining_requests) for each in first.counted] == [
        ("2/hour", 1),
        ("9/day", 8),
    ]
    assert third.counted == ()
    assert third.refusing is not None
    assert third.refusing.limit == "2/hour"


async def test_subjects_do_not_touch_each_other(rates: WindowRateLimiter) -> None:
    """
    `a/b` under one a day is not `a` or `b`, although `limits` joins names with a slash.
    """
    subjects = ["a", "a/b", "b", "a/b/1/1/day"]

    counts = [await rates.hit(subject, ["1/day"]) for subject in subjects]

    assert [count.refusing for count in counts] == [None] * 4


async def test_a_subject_is_one_part_of_a_key(redis_url: str) -> None:
    """
    A slash in a subject is encoded: what a name is does not hang on how `limits` builds its keys.
    """
    scripts = MultiplexedScripts(redis_url)
    await WindowRateLimiter.in_redis(scripts).hit("a/b", ["1/day"])
    await scripts.aclose()

    async with Redis.from_url(redis_url, decode_responses=True) as client:
        (key,) = await client.keys("*")
    assert key == "relay:rates:LIMITER/a%2Fb/1/1/day"


async def test_a_race_for_fifty_places_has_fifty_winners(rates: WindowRateLimiter) -> None:
    """
    150 at once on 50 a day: exactly 50 pass, and none fails for want of a connection.
    """
    results = await asyncio.gather(*(rates.hit("alice", ["50/day"]) for _ in range(150)))

    assert [result.refusing for result in results].count(None) == 50


@pytest.mark.parametrize("way", SCRIPTS)
async def test_redis_away_is_said(way: str) -> None:
    """
    Nobody listens: the error names where, never the password.
    """
    scripts = SCRIPTS[way]("redis://:hunter2@127.0.0.1:1")
    limiter = WindowRateLimiter.in_redis(scripts)

    with pytest.raises(
        StoreUnavailableError, match=r"counted: .*127\.0\.0\.1:1 did not ans"
    ) as hit:
        await limiter.hit("alice", ["1/day"])
    assert "hunter2" not in str(hit.value)
    await scripts.aclose()


async def test_redis_away_is_asked_three_times() -> None:
    """
    Behind a breaker the fourth request does not wait for a Redis that did not answer three times.
    """
    scripts = BreakingScripts(
        MultiplexedScripts("redis://127.0.0.1:1"), Breaker(monotonic_s=lambda: 0.0)
    )
    limiter = WindowRateLimiter.in_redis(scripts)
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match="did not answer"):
            await limiter.hit("alice", ["1/day"])

    with pytest.raises(StoreUnavailableError, match="was not asked"):
        await limiter.hit("alice", ["1/day"])
    await scripts.aclose()


DAY_S = 86_400
MID_S = 40
"""Of a previous window of 1,000, one counts less every 86 s; so a test has 40 s each way."""


@pytest.fixture(name="storages")
async def _storages(redis_url: str) -> AsyncIterator[tuple[RedisStorage, ScriptedWindows]]:
    """
    The storage that `limits` has for Redis, and ours, on the same server.
    """
    pool = BlockingConnectionPool.from_url(redis_url)
    theirs = RedisStorage(
        "async+redis://",
        implementation="redispy",
        connection_pool=pool,  # type: ignore[arg-type]
    )
    scripts = MultiplexedScripts(redis_url)
    yield theirs, ScriptedWindows(scripts, key_prefix="ours")
    await scripts.aclose()
    await pool.aclose()


async def set_windows(redis_url: str, *, previous: int, current: int, elapsed_s: int) -> None:
    """Let both storages have counted so much of `k`, in a window that began *elapsed_s* ago."""
    left_s = DAY_S - elapsed_s
    async with Redis.from_url(redis_url) as client:
        if left_s + DAY_S > 0:
            await client.set("LIMITS:{k}", current, ex=left_s + DAY_S)
        if left_s > 0:
            await client.set("LIMITS:{k}/-1", previous, ex=left_s)
        ends_ms = ((await client.time())[0] + left_s) * 1000
        window = {"ends": ends_ms, "current": current, "previous": previous}
        await client.hset("ours:k", mapping=window)


@pytest.mark.parametrize(
    ("elapsed_s", "counted"),
    [
        (21_600 - MID_S, 750 + 200),  # a quarter of the window is over: three of the previous count
        (DAY_S - 1800 - MID_S, 21 + 200),  # half an hour is left
        (DAY_S + 21_600 - MID_S, 150),  # the window is over: it has become the previous one
        (2 * DAY_S + 1, 0),  # so long ago that it does not count
    ],
)
async def test_ours_counts_as_limits_does(
    redis_url: str,
    storages: tuple[RedisStorage, ScriptedWindows],
    elapsed_s: int,
    counted: int,
) -> None:
    """
    1,000 in the previous window and 200 in this one: of as many as count and two more, both
    storages admit two and not a third, and tell the same windows after each.
    """
    await set_windows(redis_url, previous=1000, current=200, elapsed_s=elapsed_s)

    theirs, ours = storages
    told = []
    for _ in range(3):
        admitted = await theirs.acquire_sliding_window_entry("k", counted + 2, DAY_S)
        told.append((admitted, await theirs.get_sliding_window("k", DAY_S)))
    limit = RequestLimit("any", counted + 2, DAY_S)
    hits = [await ours.hit("k", limit) for _ in range(3)]

    assert [hit.is_counted for hit in hits] == [True, True, False]
    for hit, (is_counted, (previous, _, current, until_forgotten_s)) in zip(
        hits, told, strict=True
    ):
        window = hit.window
        assert (hit.is_counted, window.previous_requests, window.current_requests) == (
            is_counted,
            previous,
            current,
        )
        assert window.left_ms == pytest.approx((until_forgotten_s - DAY_S) * 1000, abs=2000)


async def test_ours_forgets_windows(redis_url: str) -> None:
    """
    A customer that never comes back leaves nothing: two windows long, to the second.
    """
    scripts = MultiplexedScripts(redis_url)
    await WindowRateLimiter.in_redis(scripts).hit("alice", ["1/day"])
    await scripts.aclose()

    async with Redis.from_url(redis_url) as client:
        (key,) = await client.keys("*")
        assert await client.ttl(key) == pytest.approx(2 * DAY_S, abs=2)
