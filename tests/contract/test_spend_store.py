"""
What every `SpendStore` promises, over each of them.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fixtures.clock import FakeClock
from fixtures.spend_states import expire, grant
from redis.asyncio import Redis

from relay_middleware.core.holds import (
    TRANSITIONS,
    Account,
    Ended,
    Hold,
    HoldEvent,
    HoldState,
    HoldStateError,
    NotReserved,
    Reserved,
    Shortage,
)
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import MAX_NANO_USD, NanoUsd
from relay_middleware.core.periods import Period, window_of, windows_of
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ports import SpendStore
from relay_middleware.stores.connection import RedisScripts
from relay_middleware.stores.keys import account_key, hold_key, open_holds_key
from relay_middleware.stores.local import LocalSpendStore
from relay_middleware.stores.redis import RedisSpendStore

pytestmark = pytest.mark.anyio

# Far ahead: Redis forgets by its own clock what ended long ago.
AT = datetime(2100, 11, 23, 12, 0, tzinfo=UTC)
ALICE = CustomerId("alice")


def hold(
    name: str = "h1",
    amount: int = 60,
    *,
    month: int | None = 100,
    day: int | None = None,
    customer: str = "alice",
    at: datetime = AT,
) -> Hold:
    limits = {Period.MONTH: month, Period.DAY: day}
    return Hold(
        hold_id=HoldId(name),
        customer_id=CustomerId(customer),
        amount_nano_usd=NanoUsd(amount),
        accounts=tuple(
            Account(
                window=window,
                limit_nano_usd=None
                if (limit := limits.get(window.period)) is None
                else NanoUsd(limit),
            )
            for window in windows_of(at)
        ),
        ttl_s=60,
    )


@pytest.fixture(name="spend", params=["local", "redis"])
async def _spend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SpendStore]:
    """
    Every implementation, one at a time.
    """
    store: SpendStore
    if request.param == "local":
        store = LocalSpendStore(state_dir=tmp_path, clock=FakeClock(AT))
    else:
        store = RedisSpendStore(RedisScripts(request.getfixturevalue("redis_url")))
    await store.start()
    yield store
    await store.aclose()


async def balances(spend: SpendStore, *, customer: str = "alice") -> list[tuple[int, int]]:
    """Posted and held of each account, by way of a hold of nothing that changes neither."""
    probe = hold("probe", 0, customer=customer)
    result = await spend.reserve(probe)
    assert isinstance(result, Reserved)
    return [(int(item.posted_nano_usd), int(item.held_nano_usd)) for item in result.balances]


async def test_reserve_holds_in_every_period(spend: SpendStore) -> None:
    """
    A hold of 60 is held in day, week, month and lifetime, limited or not.
    """
    result = await spend.reserve(hold())

    assert isinstance(result, Reserved)
    assert not result.is_duplicate
    assert [item.held_nano_usd for item in result.balances] == [60, 60, 60, 60]


@pytest.mark.parametrize(("amount", "fits"), [(100, True), (101, False)])
async def test_limit_is_inclusive(spend: SpendStore, amount: int, *, fits: bool) -> None:
    """
    Of a limit of 100 exactly 100 may be held, and not 101.
    """
    assert isinstance(await spend.reserve(hold(amount=amount)), Reserved) is fits


async def test_refusal_names_the_account_and_changes_nothing(spend: SpendStore) -> None:
    """
    A month's limit that is used up refuses, and the day's account is left as it was.
    """
    await spend.reserve(hold("h1", 60))

    result = await spend.reserve(hold("h2", 50, day=1000))

    assert isinstance(result, NotReserved)
    assert result.account.window.period is Period.MONTH
    told = [(each.posted_nano_usd, each.held_nano_usd) for each in result.balances]
    assert told == [(0, 60)] * 4
    assert result.shortage is Shortage.IN_FLIGHT
    assert await balances(spend) == [(0, 60)] * 4


async def test_first_limit_that_refuses_is_named(spend: SpendStore) -> None:
    """
    Where day and month both refuse, the day is named: accounts are asked in their order.
    """
    result = await spend.reserve(hold(amount=200, day=150))

    assert isinstance(result, NotReserved)
    assert result.account.window.period is Period.DAY


@pytest.mark.parametrize(
    ("settled", "expected"), [(41, Shortage.EXHAUSTED), (40, Shortage.IN_FLIGHT)]
)
async def test_spent_and_held_are_told_apart(
    spend: SpendStore, settled: int, expected: Shortage
) -> None:
    """
    60 do not fit 100 with 41 spent; with 40 spent and 1 held they would once that is given back.
    """
    await spend.reserve(hold("spent", settled))
    await spend.settle(hold("spent", settled), NanoUsd(settled))
    await spend.reserve(hold("open", 1))

    result = await spend.reserve(hold("h", 60))

    assert isinstance(result, NotReserved)
    assert result.shortage is expected


async def test_free_requests_always_fit(spend: SpendStore) -> None:
    """
    An amount of 0 passes where nothing at all is left: free models stay usable.
    """
    await spend.reserve(hold("all", 100))
    await spend.settle(hold("all", 100), NanoUsd(100))

    assert isinstance(await spend.reserve(hold("free", 0)), Reserved)


async def test_no_limit_never_refuses(spend: SpendStore) -> None:
    """
    Without a limit any amount is held, and still counted.
    """
    result = await spend.reserve(hold(amount=MAX_NANO_USD, month=None))

    assert isinstance(result, Reserved)
    assert result.balances[0].held_nano_usd == MAX_NANO_USD


async def test_settle_posts_the_charge_and_frees_the_hold(spend: SpendStore) -> None:
    """
    60 held and 25 charged leave 25 posted and nothing held, in all four periods.
    """
    await spend.reserve(hold())

    ended = await spend.settle(hold(), NanoUsd(25))

    assert (ended.previous, ended.is_duplicate) == (HoldState.OPEN, False)
    assert await balances(spend) == [(25, 0)] * 4


async def test_settle_is_never_refused_for_the_limit(spend: SpendStore) -> None:
    """
    A charge above hold and limit is posted all the same; the next hold is refused.
    """
    await spend.reserve(hold())

    await spend.settle(hold(), NanoUsd(500))

    assert await balances(spend) == [(500, 0)] * 4
    assert isinstance(await spend.reserve(hold("h2", 1)), NotReserved)


async def test_settle_of_an_unknown_hold_is_posted_once(spend: SpendStore) -> None:
    """
    A late settle whose hold is gone is money that was spent; repeated, it is spent once.
    """
    first = await spend.settle(hold(), NanoUsd(25))
    second = await spend.settle(hold(), NanoUsd(25))

    assert (first.previous, second.is_duplicate) == (None, True)
    assert await balances(spend) == [(25, 0)] * 4


async def test_settle_posts_to_the_period_of_its_hold(spend: SpendStore) -> None:
    """
    A hold of November that settles in December is November's.
    """
    await spend.reserve(hold(at=AT))

    await spend.settle(hold(at=AT), NanoUsd(25))

    december = await spend.reserve(hold("later", 0, at=AT + timedelta(days=10)))
    assert isinstance(december, Reserved)
    month, lifetime = december.balances[2], december.balances[3]
    assert (month.posted_nano_usd, lifetime.posted_nano_usd) == (0, 25)


async def test_release_gives_everything_back(spend: SpendStore) -> None:
    """
    After a release the whole limit can be held again.
    """
    await spend.reserve(hold("h1", 100))

    await spend.release(hold("h1", 100), is_dispatched=False)

    assert isinstance(await spend.reserve(hold("h2", 100)), Reserved)


async def test_everything_may_be_repeated(spend: SpendStore) -> None:
    """
    Three times the same command does what one does, and says that it was a repetition.
    """
    reserved = [await spend.reserve(hold()) for _ in range(3)]
    settled = [await spend.settle(hold(), NanoUsd(25)) for _ in range(3)]
    await spend.reserve(hold("h2", 10))
    released = [await spend.release(hold("h2", 10), is_dispatched=True) for _ in range(3)]

    for answers in (reserved, settled, released):
        assert [getattr(answer, "is_duplicate", None) for answer in answers] == [False, True, True]
    assert await balances(spend) == [(25, 0)] * 4


async def test_a_reserve_after_its_release_is_not_taken(spend: SpendStore) -> None:
    """
    A reserve that was cut off and arrives after it was given up holds nothing.
    """
    await spend.release(hold(), is_dispatched=False)

    result = await spend.reserve(hold())

    assert isinstance(result, Reserved)
    assert (result.is_duplicate, result.state) == (True, HoldState.RELEASED)
    assert await balances(spend) == [(0, 0)] * 4


async def test_another_charge_for_the_same_hold_is_an_error(spend: SpendStore) -> None:
    """
    Settled for 25 and asked to settle for 26: an error with both numbers, and nothing changes.
    """
    await spend.reserve(hold())
    await spend.settle(hold(), NanoUsd(25))

    with pytest.raises(HoldStateError, match="for 25, not for 26"):
        await spend.settle(hold(), NanoUsd(26))

    assert await balances(spend) == [(25, 0)] * 4


async def in_state(spend: SpendStore, state: HoldState, redis_url: str | None) -> None:
    """Bring hold h1 of 60 into *state*; into `EXPIRED` as a sweep would."""
    await spend.reserve(hold())
    if state is HoldState.SETTLED:
        await spend.settle(hold(), NanoUsd(60))
    elif state is HoldState.RELEASED:
        await spend.release(hold(), is_dispatched=True)
    elif state is HoldState.EXPIRED:
        await expire(spend, hold(), redis_url)


def redis_url_of(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("redis_url") if "redis" in request.node.name else None


@pytest.mark.parametrize("state", HoldState, ids=lambda state: state.value)
@pytest.mark.parametrize("event", [HoldEvent.SETTLE, HoldEvent.RELEASE], ids=lambda e: e.value)
async def test_the_table_of_transitions_is_the_stores(
    spend: SpendStore, state: HoldState, event: HoldEvent, request: pytest.FixtureRequest
) -> None:
    """
    Each store allows what `TRANSITIONS` allows, forbids the rest, and leaves 60 or 0 posted.
    """
    await in_state(spend, state, redis_url_of(request))
    allowed = (state, event) in TRANSITIONS
    repeated = TRANSITIONS.get((HoldState.OPEN, event)) is state

    async def act() -> Ended:
        if event is HoldEvent.SETTLE:
            return await spend.settle(hold(), NanoUsd(60))
        return await spend.release(hold(), is_dispatched=True)

    if allowed or repeated:
        ended = await act()
        assert (ended.previous, ended.is_duplicate) == (state, repeated)
        expected = 60 if event is HoldEvent.SETTLE else 0
    else:
        with pytest.raises(HoldStateError):
            await act()
        expected = 60 if state is HoldState.SETTLED else 0
    assert await balances(spend) == [(expected, 0)] * 4


@pytest.mark.parametrize("state", [HoldState.OPEN, HoldState.EXPIRED], ids=lambda s: s.value)
@pytest.mark.parametrize("event", [HoldEvent.SETTLE, HoldEvent.RELEASE], ids=lambda e: e.value)
async def test_free_holds_end_like_others(
    spend: SpendStore, state: HoldState, event: HoldEvent, request: pytest.FixtureRequest
) -> None:
    """
    A hold of 0 is settled and released like one of 60: Redis knows no number `-0` to take back.
    """
    await spend.reserve(hold("free", 0))
    if state is HoldState.EXPIRED:
        await expire(spend, hold("free", 0), redis_url_of(request))

    if event is HoldEvent.SETTLE:
        ended = await spend.settle(hold("free", 0), NanoUsd(0))
    else:
        ended = await spend.release(hold("free", 0), is_dispatched=True)

    assert ended.previous is state
    assert await balances(spend) == [(0, 0)] * 4


@pytest.mark.parametrize(
    ("amount", "expected"), [(120, None), (121, Shortage.EXHAUSTED)], ids=["fits", "one-more"]
)
async def test_credit_raises_the_limit(
    spend: SpendStore, amount: int, expected: Shortage | None, request: pytest.FixtureRequest
) -> None:
    """
    A limit of 100 and a credit of 20 let 120 be held, and not 121; the answer shows the credit.
    """
    month = window_of(Period.MONTH, AT)
    await grant(spend, ALICE, month, NanoUsd(20), redis_url_of(request))

    result = await spend.reserve(hold(amount=amount))

    assert result.balances[2].credit_nano_usd == 20
    assert (result.shortage if isinstance(result, NotReserved) else None) == expected


@pytest.mark.parametrize("customer", ["alice", "never-seen-before"])
async def test_a_race_for_six_places_has_six_winners(spend: SpendStore, customer: str) -> None:
    """
    50 holds of 16 at once on a limit of 100 (LESSONS A): exactly 6 fit, also for a new customer.
    """
    results = await asyncio.gather(
        *(spend.reserve(hold(f"h{i}", 16, customer=customer)) for i in range(50))
    )

    assert sum(isinstance(result, Reserved) for result in results) == 6
    assert await balances(spend, customer=customer) == [(0, 96)] * 4


async def test_a_race_of_one_hold_holds_once(spend: SpendStore) -> None:
    """
    The same hold 50 times at once is held once, settled 50 times at once it is charged once.
    """
    results = await asyncio.gather(*(spend.reserve(hold()) for _ in range(50)))
    assert [getattr(item, "is_duplicate", None) for item in results].count(False) == 1

    await asyncio.gather(*(spend.settle(hold(), NanoUsd(7)) for _ in range(50)))

    assert await balances(spend) == [(7, 0)] * 4


async def test_customers_do_not_touch_each_other(spend: SpendStore) -> None:
    """
    What alice holds is not bob's.
    """
    await spend.reserve(hold("a", 100))

    assert isinstance(await spend.reserve(hold("b", 100, customer="bob")), Reserved)


async def test_amounts_are_exact_to_the_last_nano(spend: SpendStore) -> None:
    """
    At the highest limit, 2^53 - 1, one nano-dollar still decides.
    """
    most = MAX_NANO_USD
    await spend.reserve(hold("h1", most - 1, month=most))
    await spend.settle(hold("h1", most - 1, month=most), NanoUsd(most - 1))

    assert isinstance(await spend.reserve(hold("h2", 2, month=most)), NotReserved)
    fits = await spend.reserve(hold("h3", 1, month=most))
    assert isinstance(fits, Reserved)
    assert fits.balances[2].posted_nano_usd == 9_007_199_254_740_990


async def test_raise_to_never_lowers_and_never_adds(spend: SpendStore) -> None:
    """
    Raised to 50 by five at once, then to 30: 50.
    """
    month = window_of(Period.MONTH, AT)

    await asyncio.gather(*(spend.raise_to(ALICE, month, NanoUsd(50)) for _ in range(5)))
    await spend.raise_to(ALICE, month, NanoUsd(30))

    assert (await balances(spend))[2] == (50, 0)


async def test_acknowledge_leaves_open_holds_alone(spend: SpendStore) -> None:
    """
    An open hold cannot be forgotten, whoever acknowledges it.
    """
    await spend.reserve(hold())

    await spend.acknowledge([(ALICE, HoldId("h1")), (ALICE, HoldId("unknown"))])

    assert (await spend.settle(hold(), NanoUsd(1))).previous is HoldState.OPEN


# What only Redis can show; `tests/unit/test_local_store.py` is its counterpart.


@pytest.fixture(name="redis_client")
async def _redis_client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture(name="redis_spend")
async def _redis_spend(redis_url: str) -> AsyncIterator[RedisSpendStore]:
    store = RedisSpendStore(RedisScripts(redis_url))
    yield store
    await store.aclose()


async def test_redis_keeps_final_holds_until_acknowledged(
    redis_spend: RedisSpendStore, redis_client: Redis
) -> None:
    """
    A settled hold has no time to live, then 10 minutes; released before dispatch, 10 at once; an
    open one has none, whoever acknowledges it.
    """
    await redis_spend.reserve(hold("open", 1))
    await redis_spend.reserve(hold("settled", 1))
    await redis_spend.settle(hold("settled", 1), NanoUsd(1))
    await redis_spend.release(hold("released", 1), is_dispatched=True)
    await redis_spend.release(hold("refused", 1), is_dispatched=False)
    names = ["settled", "released", "refused", "open"]
    keys = [hold_key(ALICE, HoldId(name)) for name in names]

    assert [await redis_client.ttl(key) for key in keys] == [-1, -1, 600, -1]
    await redis_spend.acknowledge([(ALICE, HoldId(name)) for name in names])

    assert [await redis_client.ttl(key) for key in keys] == [600, 600, 600, -1]


async def test_redis_lists_open_holds_by_expiry(
    redis_spend: RedisSpendStore, redis_client: Redis
) -> None:
    """
    An open hold stands in its bucket's list, due in its 60 s; settled or released ones do not.
    """
    for name in ("settled", "released", "open"):
        await redis_spend.reserve(hold(name, 1))
    await redis_spend.settle(hold("settled", 1), NanoUsd(1))
    await redis_spend.release(hold("released", 1), is_dispatched=True)

    due_ms = await redis_client.zscore(open_holds_key(ALICE), "open")
    now_s, _ = await redis_client.time()

    assert await redis_client.zrange(open_holds_key(ALICE), 0, -1) == ["open"]
    assert due_ms is not None
    assert due_ms / 1000 == pytest.approx(now_s + 60, abs=2)


async def test_redis_keeps_little_of_an_ended_hold(
    redis_spend: RedisSpendStore, redis_client: Redis
) -> None:
    """
    Of a settled hold its state and charge are kept, of a released one its state: no account names.
    """
    for name in ("settled", "released"):
        await redis_spend.reserve(hold(name, 5))
    await redis_spend.settle(hold("settled", 5), NanoUsd(3))
    await redis_spend.release(hold("released", 5), is_dispatched=True)

    kept = [await redis_client.hgetall(hold_key(ALICE, HoldId(n))) for n in ("settled", "released")]
    assert kept == [{"state": "settled", "amount": "3"}, {"state": "released", "amount": "0"}]


@pytest.mark.parametrize("command", ["reserve", "settle", "raise_to"])
async def test_redis_forgets_accounts_after_their_period(
    redis_spend: RedisSpendStore, redis_client: Redis, command: str
) -> None:
    """
    November's account is kept to 10 January (40 days after its end), a lifetime's for ever,
    whichever command made it.
    """
    if command == "reserve":
        await redis_spend.reserve(hold())
    elif command == "settle":
        await redis_spend.settle(hold(), NanoUsd(1))
    else:
        for item in hold().accounts:
            await redis_spend.raise_to(ALICE, item.window, NanoUsd(1))

    month, lifetime = (account_key(ALICE, item.window) for item in hold().accounts[2:])
    expected = datetime(2101, 1, 10, tzinfo=UTC)
    now_s, _ = await redis_client.time()
    assert await redis_client.ttl(month) == pytest.approx(expected.timestamp() - now_s, abs=2)
    assert await redis_client.ttl(lifetime) == -1


async def test_redis_away_is_said_without_the_password() -> None:
    """
    Nobody listens: the error names host and port and the remedy, never the password.
    """
    store = RedisSpendStore(RedisScripts("redis://:hunter2@127.0.0.1:1"))

    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1 did not answer") as raised:
        await store.reserve(hold())

    assert "hunter2" not in str(raised.value)
    await store.aclose()


async def test_redis_scripts_are_loaded_again(
    redis_spend: RedisSpendStore, redis_client: Redis
) -> None:
    """
    A Redis that has forgotten its scripts (restart, failover) is given them again.
    """
    await redis_spend.reserve(hold("h1", 1))
    await redis_client.script_flush()

    assert isinstance(await redis_spend.reserve(hold("h2", 1)), Reserved)
