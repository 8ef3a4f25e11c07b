"""
What every `RateLimiter` promises, over each of them.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from relay_middleware.errors import StoreUnavailableError
from relay_middleware.stores.breaker import Breaker
from relay_middleware.stores.rate_limits import LimitsRateLimiter, status_of

pytestmark = pytest.mark.anyio


@pytest.fixture(name="rates", params=["memory", "redis"])
async def _rates(request: pytest.FixtureRequest) -> AsyncIterator[LimitsRateLimiter]:
    """
    Every implementation, one at a time.
    """
    if request.param == "memory":
        limiter = LimitsRateLimiter.in_memory()
    else:
        limiter = LimitsRateLimiter.in_redis(request.getfixturevalue("redis_url"))
    yield limiter
    await limiter.aclose()


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
    limiter = LimitsRateLimiter.in_redis(redis_url)
    await limiter.hit("a/b", ["1/day"])
    await limiter.aclose()

    async with Redis.from_url(redis_url, decode_responses=True) as client:
        (key,) = await client.keys("*")
    assert "/a%2Fb/1/1/day" in key


async def test_a_race_for_fifty_places_has_fifty_winners(rates: LimitsRateLimiter) -> None:
    """
    150 at once on 50 a day: exactly 50 pass, and none fails for want of a connection (the default
    pool of `limits` fails at 101).
    """
    results = await asyncio.gather(*(rates.hit("alice", ["50/day"]) for _ in range(150)))

    assert results.count(None) == 50


async def test_redis_away_is_said() -> None:
    """
    Nobody listens: the error names where, never the password.
    """
    limiter = LimitsRateLimiter.in_redis("redis://:hunter2@127.0.0.1:1")

    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1 failed") as hit:
        await limiter.hit("alice", ["1/day"])
    with pytest.raises(StoreUnavailableError):
        await limiter.status("alice", ["1/day"])

    assert "hunter2" not in str(hit.value)
    await limiter.aclose()


async def test_redis_away_is_asked_three_times() -> None:
    """
    Behind a breaker the fourth request does not wait for a Redis that did not answer three times.
    """
    breaker = Breaker(monotonic_s=lambda: 0.0)
    limiter = LimitsRateLimiter.in_redis("redis://127.0.0.1:1", breaker=breaker)
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match="failed"):
            await limiter.hit("alice", ["1/day"])

    with pytest.raises(StoreUnavailableError, match="was not asked"):
        await limiter.status("alice", ["1/day"])
    await limiter.aclose()
