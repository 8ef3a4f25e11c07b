"""
What every `SpendStore` promises of tokens per time and of requests at the same time.
"""

import asyncio
from importlib.resources import files
from pathlib import Path

import pytest
from fixtures.clock import FakeClock
from fixtures.spend import (
    ALICE,
    AT,
    balances,
    hold,
    is_reserved,
    local_store,
    redis_store,
    release,
    running,
    settle,
)
from redis.asyncio import Redis

from relay_middleware.core.holds import NotReserved, Reserved, TooManyTokens
from relay_middleware.core.identifiers import HoldId
from relay_middleware.core.rates import TokenLimit, TokenWindow
from relay_middleware.ports.stores import SpendStore
from relay_middleware.stores.connection import source_of
from relay_middleware.stores.keys import Keys

pytestmark = pytest.mark.anyio

# Whose one bucket is longer than the tests live.
LIMIT = TokenLimit("1000/forever", 1000, 10**9)
LIMITS = (LIMIT,)
DAY = TokenLimit("1000/day", 1000, 86_400)


@pytest.mark.parametrize(("tokens", "fits"), [(1000, True), (1001, False)])
async def test_a_token_limit_is_inclusive(spend: SpendStore, tokens: int, *, fits: bool) -> None:
    """
    Of 1,000 tokens exactly 1,000 may be taken, and not 1,001.
    """
    result = await spend.reserve(hold(tokens=tokens, token_limits=LIMITS))

    assert is_reserved(result) is fits


async def test_what_is_left_is_told(spend: SpendStore) -> None:
    """
    600 of 1,000 taken leave 400, told with the hold and with the refusal of 500 more.
    """
    first = await spend.reserve(hold("h1", 1, tokens=600, token_limits=LIMITS))
    second = await spend.reserve(hold("h2", 1, tokens=500, token_limits=LIMITS))

    assert isinstance(first, Reserved)
    assert isinstance(second, TooManyTokens)
    assert [status.remaining_tokens for status in first.tokens] == [400]
    assert (second.status.limit, second.status.remaining_tokens) == (LIMIT, 400)
    assert second.status.retry_after_s > 0


async def test_all_or_nothing(spend: SpendStore) -> None:
    """
    A hold that one of its scopes refuses takes nothing of the others: no money, tokens or place.
    """
    await spend.reserve(hold("h1", 40, tokens=600, token_limits=LIMITS, max_concurrency=1))

    refused = [
        await spend.reserve(hold("money", 70, tokens=1, token_limits=LIMITS, max_concurrency=9)),
        await spend.reserve(hold("tokens", 1, tokens=401, token_limits=LIMITS, max_concurrency=9)),
        await spend.reserve(hold("place", 1, tokens=1, token_limits=LIMITS, max_concurrency=1)),
    ]
    last = await spend.reserve(hold("h2", 60, tokens=400, token_limits=LIMITS, max_concurrency=2))

    assert isinstance(refused[0], NotReserved)
    assert isinstance(refused[1], TooManyTokens)
    assert running(refused[2]) == 1
    assert is_reserved(last)
    assert await balances(spend) == [(0, 100)] * 4


async def test_what_was_taken_too_much_is_given_back(spend: SpendStore) -> None:
    """
    600 taken and 100 used leave 900; 500 more that are released leave 900 again.
    """
    await spend.reserve(hold("h1", 1, tokens=600, token_limits=LIMITS))
    await settle(spend, hold("h1", 1, token_limits=LIMITS), 1, tokens=100)
    after_settle = await spend.reserve(hold("probe1", 0, token_limits=LIMITS))
    await spend.reserve(hold("h2", 1, tokens=500, token_limits=LIMITS))
    await release(spend, hold("h2", 1, token_limits=LIMITS))
    after_release = await spend.reserve(hold("probe2", 0, token_limits=LIMITS))

    assert isinstance(after_settle, Reserved)
    assert isinstance(after_release, Reserved)
    assert [each.tokens[0].remaining_tokens for each in (after_settle, after_release)] == [900, 900]


async def test_more_than_was_taken_counts(spend: SpendStore) -> None:
    """
    A provider that ignores the cap: 10 taken and 990 used leave 10.
    """
    await spend.reserve(hold("h1", 1, tokens=10, token_limits=LIMITS))
    await settle(spend, hold("h1", 1, token_limits=LIMITS), 1, tokens=990)

    fits = [
        is_reserved(await spend.reserve(hold(f"p{n}", 0, tokens=n, token_limits=LIMITS)))
        for n in (11, 10)
    ]

    assert fits == [False, True]


async def test_an_expired_hold_keeps_its_tokens(spend: SpendStore) -> None:
    """
    Nobody knows what an expired hold used, so all of it counts, until it is settled for less.
    """
    await spend.reserve(hold("h1", 1, tokens=600, token_limits=LIMITS, ttl_s=0))
    await spend.sweep()
    expired = await spend.reserve(hold("p1", 0, token_limits=LIMITS))
    await settle(spend, hold("h1", 1, token_limits=LIMITS), 1, tokens=50)
    settled = await spend.reserve(hold("p2", 0, token_limits=LIMITS))

    assert isinstance(expired, Reserved)
    assert isinstance(settled, Reserved)
    assert [each.tokens[0].remaining_tokens for each in (expired, settled)] == [400, 950]


async def test_every_token_limit_counts(spend: SpendStore) -> None:
    """
    Of two limits the one that refuses is named, and neither has counted.
    """
    tight = TokenLimit("100/long", 100, 2 * 10**9)

    result = await spend.reserve(hold(tokens=101, token_limits=(LIMIT, tight)))
    after = await spend.reserve(hold("probe", 0, token_limits=(LIMIT, tight)))

    assert isinstance(result, TooManyTokens)
    assert isinstance(after, Reserved)
    assert result.status.limit == tight
    assert [status.remaining_tokens for status in after.tokens] == [1000, 100]


async def test_a_race_for_four_places_has_four_winners(spend: SpendStore) -> None:
    """
    50 requests at once of a customer that may have 4 at the same time: 4 are let in.
    """
    results = await asyncio.gather(
        *(spend.reserve(hold(f"h{i}", 1, max_concurrency=4)) for i in range(50))
    )

    assert sum(map(is_reserved, results)) == 4
    assert {running(result) for result in results} == {None, 4}


@pytest.mark.parametrize("end", ["settle", "release", "expire", "vacate", "run out"])
async def test_a_place_is_given_back(spend: SpendStore, end: str) -> None:
    """
    However a request ends, and when its client leaves, the next one is let in; as when the hold's
    time runs out, swept or not.
    """
    first = hold("h1", 1, max_concurrency=1, ttl_s=0 if end == "run out" else 60)
    await spend.reserve(first)
    if end == "settle":
        await settle(spend, first, 1)
    elif end == "release":
        await release(spend, first)
    elif end == "expire":
        await spend.expire(first)
    elif end == "vacate":
        await spend.vacate(first)

    assert is_reserved(await spend.reserve(hold("h2", 1, max_concurrency=1)))


async def test_a_place_of_a_hold_that_is_touched_stays_taken(spend: SpendStore) -> None:
    """
    A long stream keeps its place as long as its process lives; once vacated it is not taken again.
    """
    await spend.reserve(hold("h1", 1, max_concurrency=1, ttl_s=0))
    await spend.touch([(ALICE, HoldId("h1"))], ttl_s=60)
    taken = await spend.reserve(hold("h2", 1, max_concurrency=1))
    await spend.vacate(hold("h1", 1, max_concurrency=1))
    await spend.touch([(ALICE, HoldId("h1"))], ttl_s=60)

    assert running(taken) == 1
    assert is_reserved(await spend.reserve(hold("h2", 1, max_concurrency=1)))


async def test_vacating_leaves_the_money_held(spend: SpendStore) -> None:
    """
    A client that leaves frees its place; what its answer may cost stays set aside.
    """
    await spend.reserve(hold("h1", 60, max_concurrency=1))

    await spend.vacate(hold("h1", 60, max_concurrency=1))

    assert await balances(spend) == [(0, 60)] * 4


async def test_embedded_window_slides(tmp_path: Path) -> None:
    """
    1,000 taken at noon of a day's limit: refused for the rest of the day; at 6 o'clock of the next
    one three quarters count, so 250 fit; two midnights later all of it.
    """
    clock = FakeClock(AT)
    async with local_store(tmp_path, clock) as subject:
        spend = subject.store

        async def left(name: str) -> int:
            result = await spend.reserve(hold(name, 0, token_limits=(DAY,)))
            assert isinstance(result, Reserved)
            return result.tokens[0].remaining_tokens

        await spend.reserve(hold("h1", 1, tokens=1000, token_limits=(DAY,)))
        found = [await left("noon")]
        clock.advance(hours=18)
        found.append(await left("morning"))
        clock.advance(hours=18)
        found.append(await left("third day"))

    assert found == [0, 250, 1000]


async def test_embedded_refund_goes_where_it_was_taken(tmp_path: Path) -> None:
    """
    600 taken yesterday and settled for 100 today: half a day later half of the 100 count.
    """
    clock = FakeClock(AT)
    async with local_store(tmp_path, clock) as subject:
        await subject.store.reserve(hold("h1", 1, tokens=600, token_limits=(DAY,)))
        clock.advance(hours=24)
        await settle(subject.store, hold("h1", 1, token_limits=(DAY,)), 1, tokens=100)
        result = await subject.store.reserve(hold("probe", 0, token_limits=(DAY,)))

    assert isinstance(result, Reserved)
    assert result.tokens[0].remaining_tokens == 950


async def test_redis_window_slides(redis_url: str) -> None:
    """
    What was taken in the bucket before counts as `TokenWindow` has it, to the token.
    """
    key = Keys().tokens(ALICE, DAY)
    async with redis_store(redis_url) as subject, Redis.from_url(redis_url) as client:
        seconds, _ = await client.time()
        bucket = seconds // DAY.window_s - 1
        await client.hset(key, mapping={"bucket": bucket, "current": 1000, "previous": 7})

        result = await subject.store.reserve(hold("h1", 0, token_limits=(DAY,)))

        kept = await client.hgetall(key)
        after_ms = (await client.time())[0] % DAY.window_s * 1000 + 1000
    assert isinstance(result, Reserved)
    now = TokenWindow(previous_tokens=1000, current_tokens=0, elapsed_ms=seconds % 86_400 * 1000)
    later = TokenWindow(previous_tokens=1000, current_tokens=0, elapsed_ms=after_ms)
    left = [1000 - each.used_tokens(DAY) for each in (now, later)]
    assert left[0] <= result.tokens[0].remaining_tokens <= left[1]
    assert (kept[b"current"], kept[b"previous"]) == (b"0", b"1000")


async def test_redis_refund_goes_where_it_was_taken(redis_url: str) -> None:
    """
    Taken in a bucket that has become the one before, 600 settled for 100 give that one 500 back.
    """
    key = Keys().tokens(ALICE, DAY)
    async with redis_store(redis_url) as subject, Redis.from_url(redis_url) as client:
        await subject.store.reserve(hold("h1", 1, tokens=600, token_limits=(DAY,)))
        # The next bucket begins.
        await client.hincrby(key, "bucket", 1)
        await client.hset(key, mapping={"previous": 600, "current": 5})

        await settle(subject.store, hold("h1", 1, token_limits=(DAY,)), 1, tokens=100)

        kept = await client.hgetall(key)
    assert (kept[b"current"], kept[b"previous"]) == (b"5", b"100")


async def test_redis_forgets_windows_and_places(redis_url: str) -> None:
    """
    A customer that never comes back leaves nothing behind: two windows long, and a day for places.
    """
    async with redis_store(redis_url) as subject, Redis.from_url(redis_url) as client:
        await subject.store.reserve(hold("h1", 1, tokens=1, token_limits=(DAY,), max_concurrency=1))

        ttl_s = [await client.ttl(name) for name in await client.keys("*:[tp]:alice*")]

    assert sorted(ttl_s) == pytest.approx([86_400, 2 * 86_400], abs=2)


@pytest.mark.parametrize(
    ("tokens", "reach_ms"),
    [
        # 104,249,991 * 86,400,000 is the last product that fits 2^53.
        (104_249_991, 86_400_000),
        (104_249_992, 86_399_999),
        (2**31 - 1, 1),
        (2**31 - 1, 43_200_001),
        (2**31 - 1, 86_399_999),
        (2**31 - 1, 86_400_000),
        # 1/length above a whole number, which a quotient in doubles does not show.
        (2_053_838_041, 10_099_561),
        (86_399_999, 86_399_999),
        (2_073_600_001, 43_199_999),
        (1, 1),
        (0, 86_400_000),
    ],
)
async def test_redis_counts_large_windows_exactly(
    redis_url: str, tokens: int, reach_ms: int
) -> None:
    """
    Of the bucket before, a day long, as much counts in Lua as in whole numbers, rounded up.
    """
    shared = source_of("generation").removesuffix(
        files("relay_middleware.stores").joinpath("lua", "generation.lua").read_text("utf-8")
    )
    script = f"{shared}\nreturn text(fading(tonumber(ARGV[1]), tonumber(ARGV[2]), 86400000))"
    elapsed_ms = 86_400_000 - reach_ms
    window = TokenWindow(previous_tokens=tokens, current_tokens=0, elapsed_ms=elapsed_ms)

    async with Redis.from_url(redis_url) as client:
        counted = int(await client.eval(script, 0, tokens, reach_ms))

    assert counted == window.used_tokens(DAY)
