"""
What every `RateLimiter` promises, over each of them.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fixtures.spend import SCRIPTS
from limits.aio.storage import RedisStorage
from redis.asyncio import BlockingConnectionPool, Redis

from relay_middleware.errors import StoreUnavailableError
from relay_middleware.stores.breaker import Breaker, BreakingScripts
from relay_middleware.stores.multiplexed import MultiplexedScripts
from relay_middleware.stores.rate_limits import LimitsRateLimiter, status_of
from relay_middleware.stores.rate_storage import ScriptedStorage

pytestmark = pytest.mark.anyio


@pytest.fixture(name="rates", params=["memory", *SCRIPTS])
async def _rates(request: pytest.FixtureRequest) -> AsyncIterator[LimitsRateLimiter]:
    """
    Every implementation, one at a time.
    """
    if request.param == "memory":
        yield LimitsRateLimiter.in_memory()
    else:
        scripts = SCRIPTS[request.param](request.getfixturevalue("redis_url"))
        yield LimitsRateLimiter.in_redis(scripts)
        await scripts.aclose()


async def test_the_limit_is_inclusive(rates: LimitsRateLimiter) -> None:
    """
    Of three a day the third passes and the fourth is refused, with the limit's numbers.
    """
    assert [await rates.hit("alice", ["3/day"]) for _ in range(3)] == [None] * 3

    refusing = await rates.hit("alice", ["3/day"])

    assert refusing is not None
    assert (refusing.limit, refusing.limit_requests, refusing.remaining_requests) == ("3/day", 3, 0)
    assert 0 < refusing.reset_after_s <= 86_400


async def test_a_limit_of_one(rates: LimitsRateLimiter) -> None:
    """
    One a day admits exactly one (LESSONS G: off by one at limit 1).
    """
    assert await rates.hit("alice", ["1/day"]) is None
    assert await rates.hit("alice", ["1/day"]) is not None


async def test_a_refused_request_is_not_counted_by_later_limits(rates: LimitsRateLimiter) -> None:
    """
    Refused by 1 an hour, a request uses up nothing of 9 a day: 1 of them is gone, not 3.
    """
    for _ in range(3):
        await rates.hit("alice", ["1/hour", "9/day"])

    _, day = await rates.status("alice", ["1/hour", "9/day"])

    assert day.remaining_requests == 8


async def test_status_does_not_count(rates: LimitsRateLimiter) -> None:
    """
    Looking ten times leaves two of two.
    """
    seen = [(await rates.status("alice", ["2/day"]))[0].remaining_requests for _ in range(10)]

    assert seen == [2] * 10


@pytest.mark.parametrize(
    ("window", "remaining", "reset_after_s"),
    [
        ((0, 0.0, 0, 0.0), 3, 0),  # nothing counted yet
        ((0, 0.0, 3, 172_800.0), 0, 86_400),  # all three just now: a whole day
        ((0, 0.0, 1, 90_000.0), 2, 3_600),  # the day ends in an hour
        ((2, 64_800.0, 1, 151_200.0), 1, 21_600),  # yesterday's two count 1.5, in 6 h only 1
        ((2, 0.0, 3, 86_500.0), 0, 100),  # yesterday's count for nothing
        ((0, 0.0, 3, 86_399.0), 0, 0),  # `limits` has yet to move the window on
    ],
)
async def test_the_reset_is_when_one_more_is_left(
    window: tuple[int, float, int, float], remaining: int, reset_after_s: float
) -> None:
    """
    Of 3 a day: what two windows leave, and the seconds until one more is left.
    """
    status = status_of("3/day", *window)

    assert (status.remaining_requests, status.reset_after_s) == (remaining, reset_after_s)


async def test_subjects_do_not_touch_each_other(rates: LimitsRateLimiter) -> None:
    """
    `a/b` under one a day is not `a` or `b`, although `limits` joins names with a slash.
    """
    subjects = ["a", "a/b", "b", "a/b/1/1/day"]

    assert [await rates.hit(subject, ["1/day"]) for subject in subjects] == [None] * 4


async def test_a_subject_is_one_part_of_a_key(redis_url: str) -> None:
    """
    A slash in a subject is encoded: what a name is does not hang on how `limits` builds its keys.
    """
    scripts = MultiplexedScripts(redis_url)
    await LimitsRateLimiter.in_redis(scripts).hit("a/b", ["1/day"])
    await scripts.aclose()

    async with Redis.from_url(redis_url, decode_responses=True) as client:
        (key,) = await client.keys("*")
    assert key == "relay:rates:LIMITER/a%2Fb/1/1/day"


async def test_a_race_for_fifty_places_has_fifty_winners(rates: LimitsRateLimiter) -> None:
    """
    150 at once on 50 a day: exactly 50 pass, and none fails for want of a connection.
    """
    results = await asyncio.gather(*(rates.hit("alice", ["50/day"]) for _ in range(150)))

    assert results.count(None) == 50


@pytest.mark.parametrize("way", SCRIPTS)
async def test_redis_away_is_said(way: str) -> None:
    """
    Nobody listens: the error names where, never the password.
    """
    scripts = SCRIPTS[way]("redis://:hunter2@127.0.0.1:1")
    limiter = LimitsRateLimiter.in_redis(scripts)

    with pytest.raises(
        StoreUnavailableError, match=r"counted: .*127\.0\.0\.1:1 did not ans"
    ) as hit:
        await limiter.hit("alice", ["1/day"])
    with pytest.raises(StoreUnavailableError):
        await limiter.status("alice", ["1/day"])

    assert "hunter2" not in str(hit.value)
    await scripts.aclose()


async def test_redis_away_is_asked_three_times() -> None:
    """
    Behind a breaker the fourth request does not wait for a Redis that did not answer three times.
    """
    scripts = BreakingScripts(
        MultiplexedScripts("redis://127.0.0.1:1"), Breaker(monotonic_s=lambda: 0.0)
    )
    limiter = LimitsRateLimiter.in_redis(scripts)
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match="did not answer"):
            await limiter.hit("alice", ["1/day"])

    with pytest.raises(StoreUnavailableError, match="was not asked"):
        await limiter.status("alice", ["1/day"])
    await scripts.aclose()


DAY_S = 86_400
MID_S = 40
"""Of a previous window of 1,000, one counts less every 86 s; so a test has 40 s each way."""


@pytest.fixture(name="storages")
async def _storages(redis_url: str) -> AsyncIterator[tuple[RedisStorage, ScriptedStorage]]:
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
    yield theirs, ScriptedStorage(scripts, key_prefix="ours")
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
    storages: tuple[RedisStorage, ScriptedStorage],
    elapsed_s: int,
    counted: int,
) -> None:
    """
    1,000 in the previous window and 200 in this one: of as many as count and two more, both
    storages admit two and not a third, and tell the same windows before and after.
    """
    await set_windows(redis_url, previous=1000, current=200, elapsed_s=elapsed_s)

    before = [await storage.get_sliding_window("k", DAY_S) for storage in storages]
    admitted = [
        [await storage.acquire_sliding_window_entry("k", counted + 2, DAY_S) for _ in range(3)]
        for storage in storages
    ]
    after = [await storage.get_sliding_window("k", DAY_S) for storage in storages]

    assert admitted == [[True, True, False]] * 2
    assert [before[1][i] for i in (0, 2)] == [before[0][i] for i in (0, 2)]
    assert [after[1][i] for i in (0, 2)] == [after[0][i] for i in (0, 2)]
    if after[0][0]:
        assert after[1] == pytest.approx(after[0], abs=2)


async def test_ours_forgets_windows(redis_url: str) -> None:
    """
    A customer that never comes back leaves nothing: two windows long, to the second.
    """
    scripts = MultiplexedScripts(redis_url)
    await LimitsRateLimiter.in_redis(scripts).hit("alice", ["1/day"])
    await scripts.aclose()

    async with Redis.from_url(redis_url) as client:
        (key,) = await client.keys("*")
        assert await client.ttl(key) == pytest.approx(2 * DAY_S, abs=2)


async def test_ours_counts_nothing_else(
    storages: tuple[RedisStorage, ScriptedStorage],
) -> None:
    """
    What `limits` can count otherwise is refused, not counted wrongly.
    """
    with pytest.raises(NotImplementedError, match="only sliding windows"):
        await storages[1].incr("k", 60)
