"""
What every `SpendStore` promises of money, over each of them.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fixtures.clock import FakeClock
from fixtures.spend import (
    ALICE,
    AT,
    SCRIPTS,
    ListJournal,
    Subject,
    balances,
    hold,
    redis_store,
    release,
    settle,
)
from redis.asyncio import Redis
from structlog.testing import capture_logs

from relay_middleware.core.holds import (
    TRANSITIONS,
    Adjustment,
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
from relay_middleware.core.periods import Period, window_of
from relay_middleware.errors import ColdStoreError, ConfigurationError, StoreUnavailableError
from relay_middleware.ports.stores import Drift, Spend, SpendStore
from relay_middleware.stores.connection import RedisScripts
from relay_middleware.stores.keys import Keys, bucket_of
from relay_middleware.stores.local import LocalSpendStore
from relay_middleware.stores.redis import RedisSpendStore

pytestmark = pytest.mark.anyio


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
    await settle(spend, hold("spent", settled), settled)
    await spend.reserve(hold("open", 1))

    result = await spend.reserve(hold("h", 60))

    assert isinstance(result, NotReserved)
    assert result.shortage is expected


async def test_free_requests_always_fit(spend: SpendStore) -> None:
    """
    An amount of 0 passes where nothing at all is left: free models stay usable.
    """
    await spend.reserve(hold("all", 100))
    await settle(spend, hold("all", 100), 100)

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

    ended = await settle(spend, hold(), 25)

    assert (ended.previous, ended.is_duplicate) == (HoldState.OPEN, False)
    assert await balances(spend) == [(25, 0)] * 4


async def test_settle_is_never_refused_for_the_limit(spend: SpendStore) -> None:
    """
    A charge above hold and limit is posted all the same; the next hold is refused.
    """
    await spend.reserve(hold())

    await settle(spend, hold(), 500)

    assert await balances(spend) == [(500, 0)] * 4
    assert isinstance(await spend.reserve(hold("h2", 1)), NotReserved)


async def test_settle_of_an_unknown_hold_is_posted_once(spend: SpendStore) -> None:
    """
    A late settle whose hold is gone is money that was spent; repeated, it is spent once.
    """
    first = await settle(spend, hold(), 25)
    second = await settle(spend, hold(), 25)

    assert (first.previous, second.is_duplicate) == (None, True)
    assert await balances(spend) == [(25, 0)] * 4


async def test_settle_posts_to_the_period_of_its_hold(spend: SpendStore) -> None:
    """
    A hold of November that settles in December is November's.
    """
    await spend.reserve(hold(at=AT))

    await settle(spend, hold(at=AT), 25)

    december = await spend.reserve(hold("later", 0, at=AT + timedelta(days=10)))
    assert isinstance(december, Reserved)
    month, lifetime = december.balances[2], december.balances[3]
    assert (month.posted_nano_usd, lifetime.posted_nano_usd) == (0, 25)


async def test_release_gives_everything_back(spend: SpendStore) -> None:
    """
    After a release the whole limit can be held again.
    """
    await spend.reserve(hold("h1", 100))

    await release(spend, hold("h1", 100), is_dispatched=False)

    assert isinstance(await spend.reserve(hold("h2", 100)), Reserved)


async def test_everything_may_be_repeated(spend: SpendStore) -> None:
    """
    Three times the same command does what one does, and says that it was a repetition.
    """
    reserved = [await spend.reserve(hold()) for _ in range(3)]
    settled = [await settle(spend, hold(), 25) for _ in range(3)]
    await spend.reserve(hold("h2", 10))
    released = [await release(spend, hold("h2", 10), is_dispatched=True) for _ in range(3)]

    for answers in (reserved, settled, released):
        assert [getattr(answer, "is_duplicate", None) for answer in answers] == [False, True, True]
    assert await balances(spend) == [(25, 0)] * 4


async def test_a_reserve_after_its_release_is_not_taken(spend: SpendStore) -> None:
    """
    A reserve that was cut off and arrives after it was given up holds nothing.
    """
    await release(spend, hold(), is_dispatched=False)

    result = await spend.reserve(hold())

    assert isinstance(result, Reserved)
    assert (result.is_duplicate, result.state) == (True, HoldState.RELEASED)
    assert await balances(spend) == [(0, 0)] * 4


async def test_another_charge_for_the_same_hold_is_an_error(spend: SpendStore) -> None:
    """
    Settled for 25 and asked to settle for 26: an error with both numbers, and nothing changes.
    """
    await spend.reserve(hold())
    await settle(spend, hold(), 25)

    with pytest.raises(HoldStateError, match="for 25, not for 26"):
        await settle(spend, hold(), 26)

    assert await balances(spend) == [(25, 0)] * 4


async def act(spend: SpendStore, held: Hold, event: HoldEvent) -> Ended:
    """Let *event* happen to *held*; settled is all of it."""
    if event is HoldEvent.SETTLE:
        return await settle(spend, held, held.amount_nano_usd)
    if event is HoldEvent.RELEASE:
        return await release(spend, held)
    return await spend.expire(held)


EVENT_TO = {
    HoldState.SETTLED: HoldEvent.SETTLE,
    HoldState.RELEASED: HoldEvent.RELEASE,
    HoldState.EXPIRED: HoldEvent.EXPIRE,
}


async def in_state(spend: SpendStore, state: HoldState, held: Hold) -> None:
    """Bring *held* into *state*."""
    await spend.reserve(held)
    if state in EVENT_TO:
        await act(spend, held, EVENT_TO[state])


@pytest.mark.parametrize("amount", [60, 0])
@pytest.mark.parametrize("state", HoldState, ids=lambda state: state.value)
@pytest.mark.parametrize("event", HoldEvent, ids=lambda event: event.value)
async def test_the_table_of_transitions_is_the_stores(
    subject: Subject, state: HoldState, event: HoldEvent, amount: int
) -> None:
    """
    Each store allows what `TRANSITIONS` allows and forbids the rest; 60 are posted where the hold
    is settled or expired, 0 where it is released. Redis knows no number `-0` for a hold of nothing.
    """
    spend, held = subject.store, hold(amount=amount)
    await in_state(spend, state, held)
    is_allowed = (state, event) in TRANSITIONS
    is_repeated = TRANSITIONS.get((HoldState.OPEN, event)) is state
    final = TRANSITIONS.get((state, event), state)

    if is_allowed or is_repeated:
        ended = await act(spend, held, event)
        assert (ended.previous, ended.is_duplicate) == (state, is_repeated)
    else:
        with pytest.raises(HoldStateError):
            await act(spend, held, event)

    posted = 0 if final is HoldState.RELEASED else amount
    assert await balances(spend) == [(posted, 0)] * 4
    (month,) = await spend.balances(ALICE, [window_of(Period.MONTH, AT)])
    assert month.expired_nano_usd == (amount if final is HoldState.EXPIRED else 0)


@pytest.mark.parametrize("event", HoldEvent, ids=lambda event: event.value)
async def test_what_ended_is_journaled_once(subject: Subject, event: HoldEvent) -> None:
    """
    Three times the same end is one entry in the journal, which says what was charged.
    """
    await subject.store.reserve(hold())
    for _ in range(3):
        await act(subject.store, hold(), event)

    (entry,) = await subject.journaled()
    charge = 60 if event is HoldEvent.SETTLE else 0
    assert (entry.hold_id, entry.charge_nano_usd) == ("h1", charge)
    assert EVENT_TO[entry.state] is event


async def test_what_nobody_was_called_for_is_not_journaled(subject: Subject) -> None:
    """
    A hold that is given back before a provider is called leaves the journal empty: a flood of
    refusals must not fill Redis.
    """
    await subject.store.reserve(hold())
    await release(subject.store, hold(), is_dispatched=False)

    assert await subject.journaled() == []


async def test_an_expired_hold_that_is_resolved_is_journaled_again(subject: Subject) -> None:
    """
    Expired and then given back, although nobody was called: both are told, the truth last.
    """
    await subject.store.reserve(hold())
    await subject.store.expire(hold())
    await release(subject.store, hold(), is_dispatched=False)

    states = [entry.state for entry in await subject.journaled()]
    assert states == [HoldState.EXPIRED, HoldState.RELEASED]


async def test_a_hold_that_is_not_known_can_expire(spend: SpendStore) -> None:
    """
    What a dead process has noted counts although the store has lost it, and once.
    """
    first = await spend.expire(hold())
    second = await spend.expire(hold())

    assert (first.previous, second.is_duplicate) == (None, True)
    assert await balances(spend) == [(60, 0)] * 4


async def test_sweep_expires_what_is_due(subject: Subject) -> None:
    """
    Of two holds of 10 and 20 the one of 10, whose time has run out, is posted; the other is held.
    """
    spend = subject.store
    await spend.reserve(hold("due", 10, ttl_s=0))
    await spend.reserve(hold("open", 20))

    assert [await spend.sweep(), await spend.sweep()] == [1, 0]

    assert await balances(spend) == [(10, 20)] * 4
    assert [entry.hold_id for entry in await subject.journaled()] == ["due"]


async def test_what_is_touched_does_not_expire(spend: SpendStore) -> None:
    """
    A hold whose time has run out lives on where it is touched before a sweep comes by.
    """
    await spend.reserve(hold("due", 10, ttl_s=0))

    await spend.touch([(ALICE, HoldId("due")), (ALICE, HoldId("unknown"))], ttl_s=60)

    assert await spend.sweep() == 0
    assert await balances(spend) == [(0, 10)] * 4


async def test_a_late_settle_of_an_expired_hold(spend: SpendStore) -> None:
    """
    A stream that outlived its hold of 60 cost 25: 25 are posted, not 85, and never again.
    """
    await spend.reserve(hold(ttl_s=0))
    await spend.sweep()

    ended = await settle(spend, hold(), 25)
    again = await settle(spend, hold(), 25)

    assert (ended.previous, again.is_duplicate) == (HoldState.EXPIRED, True)
    assert await balances(spend) == [(25, 0)] * 4


def adjustment(name: str, *, posted: int = 0, credit: int = 0) -> Adjustment:
    return Adjustment(
        operation_id=name, posted_nano_usd=NanoUsd(posted), credit_nano_usd=NanoUsd(credit)
    )


async def test_an_adjustment_is_applied_once(spend: SpendStore) -> None:
    """
    25 spent, 10 refunded by the same operation three times: 15, in the one account that it names.
    """
    month = window_of(Period.MONTH, AT)
    await spend.reserve(hold())
    await settle(spend, hold(), 25)

    told = [await spend.adjust(ALICE, month, adjustment("op", posted=-10)) for _ in range(3)]

    assert told == [True, False, False]
    assert await balances(spend) == [(25, 0), (25, 0), (15, 0), (25, 0)]


async def test_operations_of_customers_are_apart(spend: SpendStore) -> None:
    """
    The same operation id for two customers adjusts both.
    """
    month = window_of(Period.MONTH, AT)

    told = [
        await spend.adjust(CustomerId(name), month, adjustment("op", posted=5))
        for name in ("alice", "bob")
    ]

    assert told == [True, True]


@pytest.mark.parametrize(
    ("amount", "expected"), [(120, None), (121, Shortage.EXHAUSTED)], ids=["fits", "one-more"]
)
async def test_credit_raises_the_limit(
    spend: SpendStore, amount: int, expected: Shortage | None
) -> None:
    """
    A limit of 100 and a credit of 20 let 120 be held, and not 121; the answer shows the credit.
    """
    month = window_of(Period.MONTH, AT)
    await spend.adjust(ALICE, month, adjustment("op", credit=20))

    result = await spend.reserve(hold(amount=amount))

    assert isinstance(result, Reserved | NotReserved)
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

    await asyncio.gather(*(settle(spend, hold(), 7) for _ in range(50)))

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
    await settle(spend, hold("h1", most - 1, month=most), most - 1)

    assert isinstance(await spend.reserve(hold("h2", 2, month=most)), NotReserved)
    fits = await spend.reserve(hold("h3", 1, month=most))
    assert isinstance(fits, Reserved)
    assert fits.balances[2].posted_nano_usd == 9_007_199_254_740_990


def spent(amount: int, *, expired: int = 0, adjusted: int = 0, customer: str = "alice") -> Spend:
    return Spend(
        customer_id=CustomerId(customer),
        window=window_of(Period.MONTH, AT),
        posted_nano_usd=NanoUsd(amount),
        expired_nano_usd=NanoUsd(expired),
        adjusted_nano_usd=NanoUsd(adjusted),
    )


async def test_raise_to_never_lowers_and_never_adds(spend: SpendStore) -> None:
    """
    Raised to 50 by five at once, then to 30: 50, and 20 above what the last one said.
    """
    drifts = await asyncio.gather(*(spend.raise_to([spent(50)]) for _ in range(5)))
    last = await spend.raise_to([spent(30)])

    assert sum(drift.below_nano_usd for drift in drifts) == 50
    assert last == Drift(above_nano_usd=NanoUsd(20))
    assert (await balances(spend))[2] == (50, 0)


async def test_raise_to_leaves_corrections_alone(spend: SpendStore) -> None:
    """
    30 were refunded, and the ledger says 100 charged, twice, beside it: 70, whichever came first.
    """
    month = window_of(Period.MONTH, AT)
    drifts = [await spend.raise_to([spent(100, adjusted=-30), spent(5, customer="bob")])]
    await spend.adjust(ALICE, month, adjustment("op", posted=-30))
    drifts.append(await spend.raise_to([spent(100, adjusted=-30)]))

    assert drifts == [Drift(below_nano_usd=NanoUsd(105)), Drift()]
    assert (await balances(spend))[2] == (70, 0)
    assert (await balances(spend, customer="bob"))[2] == (5, 0)


async def test_raise_to_believes_nothing_of_what_expired(spend: SpendStore) -> None:
    """
    60 expired and were settled for 3, 10 were charged: of a ledger that has 18 charged and still 60
    for expired the store lacks 5, not 65.
    """
    await spend.reserve(hold("late", 60, month=None))
    await spend.expire(hold("late", 60, month=None))
    await settle(spend, hold("late", 60, month=None), 3)
    await settle(spend, hold("h1", 10), 10)

    drift = await spend.raise_to([spent(18 + 60, expired=60)])

    assert drift.below_nano_usd == 5
    assert (await balances(spend))[2] == (18, 0)


async def test_raise_to_does_not_take_an_expired_hold_for_a_charge(spend: SpendStore) -> None:
    """
    60 have expired here; the ledger, which was told what they came to, has 40 charged: nothing is
    lacking.
    """
    await spend.reserve(hold("late", 60, month=None))
    await spend.expire(hold("late", 60, month=None))

    assert await spend.raise_to([spent(40)]) == Drift(above_nano_usd=NanoUsd(20))


async def test_acknowledge_leaves_open_holds_alone(spend: SpendStore) -> None:
    """
    An open hold cannot be forgotten, whoever acknowledges it.
    """
    await spend.reserve(hold())

    await spend.acknowledge([(ALICE, HoldId("h1")), (ALICE, HoldId("unknown"))])

    assert (await settle(spend, hold(), 1)).previous is HoldState.OPEN


async def test_a_store_that_was_not_filled_moves_no_money(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """
    Before it was told what the ledger has, a store would let every limit begin anew: it refuses.
    """
    redis_url = request.getfixturevalue("redis_url")
    scripts = RedisScripts(redis_url)
    cold: list[SpendStore] = [
        LocalSpendStore(state_dir=tmp_path, clock=FakeClock(AT), journal=ListJournal()),
        RedisSpendStore(scripts, now=lambda: AT),
    ]
    month = window_of(Period.MONTH, AT)

    for store in cold:
        for attempt in (
            store.reserve(hold()),
            settle(store, hold(), 1),
            release(store, hold()),
            store.expire(hold()),
            store.adjust(ALICE, month, adjustment("op", credit=1)),
        ):
            with pytest.raises(ColdStoreError):
                await attempt
        assert await store.generation() is None
    await scripts.aclose()


# What only Redis can show; `tests/unit/test_local_store.py` is its counterpart.


@pytest.fixture(name="redis_client")
async def _redis_client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture(name="redis_spend", params=SCRIPTS)
async def _redis_spend(
    request: pytest.FixtureRequest, redis_url: str
) -> AsyncIterator[RedisSpendStore]:
    async with redis_store(redis_url, way=request.param) as subject:
        assert isinstance(subject.store, RedisSpendStore)
        yield subject.store


async def test_redis_keeps_final_holds_until_acknowledged(
    redis_spend: RedisSpendStore, redis_client: Redis
) -> None:
    """
    A settled hold has no time to live, then 10 minutes; released before dispatch, 10 at once; an
    open one has none, whoever acknowledges it.
    """
    await redis_spend.reserve(hold("open", 1))
    await redis_spend.reserve(hold("settled", 1))
    await settle(redis_spend, hold("settled", 1), 1)
    await release(redis_spend, hold("released", 1), is_dispatched=True)
    await release(redis_spend, hold("refused", 1), is_dispatched=False)
    names = ["settled", "released", "refused", "open"]
    keys = [Keys().hold(bucket_of(ALICE), HoldId(name)) for name in names]

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
    await settle(redis_spend, hold("settled", 1), 1)
    await release(redis_spend, hold("released", 1), is_dispatched=True)

    due_ms = await redis_client.zscore(Keys().open_holds(bucket_of(ALICE)), "open")
    now_s, _ = await redis_client.time()

    assert await redis_client.zrange(Keys().open_holds(bucket_of(ALICE)), 0, -1) == ["open"]
    assert due_ms is not None
    assert due_ms / 1000 == pytest.approx(now_s + 60, abs=2)


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_process_whose_clock_is_wrong(
    redis_url: str, redis_spend: RedisSpendStore, redis_client: Redis, minutes: int
) -> None:
    """
    A process ten minutes off expires neither too early nor too late: Redis's clock decides.
    """
    now_s, _ = await redis_client.time()
    wrong = datetime.fromtimestamp(now_s, UTC) + timedelta(minutes=minutes)
    other = RedisSpendStore(RedisScripts(redis_url), now=lambda: wrong)
    generation = await redis_spend.generation()
    assert generation is not None
    other.adopt(generation)
    await other.reserve(hold("open", 10))
    await other.reserve(hold("due", 20, ttl_s=0))

    swept = [await other.sweep(), await redis_spend.sweep()]

    assert swept == [1, 0]
    assert (await balances(redis_spend))[2] == (20, 10)
    await other.aclose()


async def test_redis_keeps_little_of_an_ended_hold(
    redis_spend: RedisSpendStore, redis_client: Redis
) -> None:
    """
    Of a settled hold its state and charge are kept, of a released one its state: no account names.
    """
    for name in ("settled", "released"):
        await redis_spend.reserve(hold(name, 5))
    await settle(redis_spend, hold("settled", 5), 3)
    await release(redis_spend, hold("released", 5), is_dispatched=True)

    kept = [
        await redis_client.hgetall(Keys().hold(bucket_of(ALICE), HoldId(n)))
        for n in ("settled", "released")
    ]
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
        await settle(redis_spend, hold(), 1)
    else:
        await redis_spend.raise_to(
            [
                Spend(customer_id=ALICE, window=item.window, posted_nano_usd=NanoUsd(1))
                for item in hold().accounts
            ]
        )

    month, lifetime = (Keys().account(ALICE, item.window) for item in hold().accounts[2:])
    expected = datetime(2101, 1, 10, tzinfo=UTC)
    now_s, _ = await redis_client.time()
    assert await redis_client.ttl(month) == pytest.approx(expected.timestamp() - now_s, abs=2)
    assert await redis_client.ttl(lifetime) == -1


@pytest.mark.parametrize("way", SCRIPTS)
async def test_redis_away_is_said_without_the_password(way: str) -> None:
    """
    Nobody listens: the error names host and port and the remedy, never the password.
    """
    store = RedisSpendStore(SCRIPTS[way]("redis://:hunter2@127.0.0.1:1"), now=lambda: AT)

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


async def test_what_was_sent_before_a_loss_does_not_arrive_after_it(
    redis_spend: RedisSpendStore, redis_client: Redis, redis_url: str
) -> None:
    """
    Redis is flushed and filled again by another process: until this one has seen that, nothing of
    what it sends is taken; then it is.
    """
    await redis_spend.reserve(hold())
    before = await redis_spend.generation()
    await redis_client.flushall()
    async with redis_store(redis_url) as other:
        after = await other.store.generation()

        with pytest.raises(ColdStoreError):
            await settle(redis_spend, hold(), 25)
        assert after is not None
        assert after != before
        redis_spend.adopt(after)
        await settle(redis_spend, hold(), 25)

        assert await balances(other.store) == [(25, 0)] * 4


async def test_one_at_a_time_has_a_claim(redis_spend: RedisSpendStore) -> None:
    """
    Of two processes one may fill the store, and may say so again; other work is another claim.
    """
    assert await redis_spend.claim("fill", "a")
    assert await redis_spend.claim("fill", "a")
    assert not await redis_spend.claim("fill", "b")
    assert await redis_spend.claim("reconcile", "b")


async def test_a_redis_that_evicts_is_refused(
    redis_spend: RedisSpendStore, redis_client: Redis
) -> None:
    """
    A policy under which counters could vanish is told at the start, with its remedy.
    """
    await redis_spend.start()
    await redis_client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(ConfigurationError, match=r"allkeys-lru: .* Set maxmemory-policy noev"):
            await redis_spend.start()
    finally:
        await redis_client.config_set("maxmemory-policy", "noeviction")


async def test_redis_leaves_a_hold_of_a_later_release(
    redis_spend: RedisSpendStore, redis_client: Redis
) -> None:
    """
    A hold of version 2 whose time has run out is left to those who can read it, the one beside it
    expires, and what three sweeps find is logged once; two holds are logged one by one.
    """
    for name in ("later", "due"):
        await redis_spend.reserve(hold(name, 10, ttl_s=0))
    key = Keys().hold(bucket_of(ALICE), HoldId("later"))
    await redis_client.hset(key, "hold", '[2, "a later release knows more"]')

    with capture_logs() as logs:
        swept = [await redis_spend.sweep() for _ in range(3)]
        await redis_spend.reserve(hold("newer", 10, ttl_s=0))
        key = Keys().hold(bucket_of(ALICE), HoldId("newer"))
        await redis_client.hset(key, "hold", "no hold")
        swept.append(await redis_spend.sweep())

    assert swept == [1, 0, 0, 0]
    assert [(each["event"], each["hold_id"]) for each in logs] == [
        ("hold_not_swept", "later"),
        ("hold_not_swept", "newer"),
    ]
    assert (
        await redis_client.hget(Keys().hold(bucket_of(ALICE), HoldId("later")), "state") == "open"
    )
