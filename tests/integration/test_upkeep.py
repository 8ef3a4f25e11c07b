"""
Upkeep: whatever dies or loses its data, counters and ledger come to the same.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from fixtures.clock import FakeClock
from fixtures.spend import (
    ALICE,
    AT,
    balances,
    hold,
    is_reserved,
    outcome,
)
from redis.asyncio import Redis
from structlog.testing import capture_logs
from typing_extensions import override

from relay_middleware import tasks
from relay_middleware.core.holds import Hold, HoldState
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period, window_of, windows_of
from relay_middleware.core.records import LedgerRecord, RequestEnded
from relay_middleware.errors import ColdStoreError, StoreUnavailableError
from relay_middleware.ledger.corrections import credit
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.dead_letters import list_dead_letters
from relay_middleware.ledger.journal import QueueJournal
from relay_middleware.ledger.migrations import migrate
from relay_middleware.ledger.operations import CustomerChange, Operation
from relay_middleware.ledger.sql import SqlLedger
from relay_middleware.open_holds import OpenHolds
from relay_middleware.ports.books import LedgerAdjustment
from relay_middleware.ports.stores import Spend, SpendStore
from relay_middleware.stores.keys import Keys, bucket_of
from relay_middleware.stores.local import LocalSpendStore
from relay_middleware.stores.multiplexed import MultiplexedScripts
from relay_middleware.stores.redis import RedisSpendStore
from relay_middleware.stores.spool import FileSpool
from relay_middleware.upkeep import (
    LIFETIMES_EVERY,
    RECONCILE_EVERY,
    TAKE_OVER_EVERY,
    Books,
    Upkeep,
)

pytestmark = pytest.mark.anyio

MakeStore = Callable[[QueueJournal], SpendStore]


@dataclass(slots=True)
class Process:
    """
    A process of Relay, without a network.

    Attributes:
        pauses_s: How long it was to wait, each time.
    """

    spend: SpendStore
    ledger: SqlLedger
    spool: FileSpool
    open_holds: OpenHolds
    journal: QueueJournal
    upkeep: Upkeep
    pauses_s: list[float] = field(default_factory=list)

    async def end(self, held: Hold, charge: int) -> RequestEnded:
        """Note that *held* ended with *charge*, as a request does before the store is told."""
        record = outcome(held, HoldState.SETTLED, charge)
        self.spool.ended(held, record)
        self.open_holds.owe(held, record)
        return record

    async def settle(self, held: Hold, charge: int) -> None:
        """End *held* and tell the store."""
        record = await self.end(held, charge)
        await self.open_holds.tell(self.spend, held, record)

    async def reserve(self, held: Hold) -> None:
        """Take *held*, and note that a provider is about to be called."""
        await self.spend.reserve(held)
        self.open_holds.add(held)
        self.spool.dispatching(held)

    async def kill(self) -> None:
        """Let go of the write-ahead file, with what is in it, as the kernel does for the dead."""
        await self.spool.aclose()


@dataclass(slots=True)
class World:
    """Processes on one store, one ledger and one folder."""

    database: Database
    folder: Path
    make_store: MakeStore
    stack: AsyncExitStack
    redis_url: str = ""
    clock: FakeClock = field(default_factory=lambda: FakeClock(AT))
    processes: list[Process] = field(default_factory=list)

    async def process(self, *, is_started: bool = True) -> Process:
        """Start one more."""
        ledger = SqlLedger(self.database)

        async def appended(records: Sequence[LedgerRecord]) -> None:
            ended = [record for record in records if isinstance(record, RequestEnded)]
            await spend.acknowledge([(each.customer_id, each.hold_id) for each in ended])

        journal = QueueJournal(ledger, on_appended=appended)
        spend = self.make_store(journal)
        name = f"w{len(self.processes)}"
        spool = FileSpool(state_dir=self.folder, worker_id=name)
        pauses_s: list[float] = []

        async def sleep(seconds: float) -> None:
            pauses_s.append(seconds)
            await asyncio.sleep(0)

        async def has_peers() -> bool:
            return len(self.processes) > 1

        holds = OpenHolds()
        books = Books(spend=spend, ledger=ledger, spool=spool, open_holds=holds, clock=self.clock)
        upkeep = Upkeep(books, worker_id=name, hold_ttl_s=60, has_peers=has_peers, sleep=sleep)
        made = Process(spend, ledger, spool, holds, journal, upkeep, pauses_s)
        self.processes.append(made)
        await self.stack.enter_async_context(_running(made))
        if is_started:
            await fill(made)
        return made


def books_of(
    world: World,
    process: Process,
    *,
    spend: SpendStore | None = None,
    ledger: SqlLedger | None = None,
) -> Books:
    """Return the books of *process*, another store or ledger among them."""
    return Books(
        spend=spend or process.spend,
        ledger=ledger or process.ledger,
        spool=process.spool,
        open_holds=process.open_holds,
        clock=world.clock,
    )


async def fill(process: Process) -> None:
    """What `Upkeep.start` does, without the rounds that follow."""
    await process.upkeep.start()
    await process.upkeep.aclose()


class _running:  # noqa: N801 - reads as a function
    def __init__(self, process: Process) -> None:
        self._process = process

    async def __aenter__(self) -> None:
        await self._process.spool.start()
        await self._process.journal.start()

    async def __aexit__(self, *_: object) -> None:
        await self._process.upkeep.aclose()
        await self._process.journal.aclose()
        await self._process.spend.aclose()
        await self._process.spool.aclose()


@pytest.fixture(name="stack")
async def _stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture(name="sqlite")
async def _sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/relay.db")
    await migrate(database)
    yield database
    await database.aclose()


@pytest.fixture(name="world")
def _world(redis_url: str, sqlite: Database, tmp_path: Path, stack: AsyncExitStack) -> World:
    """Processes on one Redis."""
    return World(sqlite, tmp_path, partial(in_redis, redis_url), stack, redis_url)


@pytest.fixture(name="either", params=["redis", "embedded"])
def _either(
    request: pytest.FixtureRequest, sqlite: Database, tmp_path: Path, stack: AsyncExitStack
) -> World:
    """Processes on one Redis, or with the embedded store, one after the other."""
    if request.param == "redis":
        make = partial(in_redis, request.getfixturevalue("redis_url"))
    else:
        make = partial(in_process, tmp_path)
    return World(sqlite, tmp_path, make, stack)


def in_redis(redis_url: str, _: QueueJournal) -> SpendStore:
    return RedisSpendStore(MultiplexedScripts(redis_url), now=lambda: AT)


def in_process(folder: Path, journal: QueueJournal) -> SpendStore:
    return LocalSpendStore(state_dir=folder, clock=FakeClock(AT), journal=journal)


@pytest.fixture(name="client")
async def _client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


def settled(name: str, charge: int) -> RequestEnded:
    return outcome(hold(name), HoldState.SETTLED, charge)


async def states(process: Process, *names: str) -> dict[str, str]:
    found = await process.ledger.states([HoldId(name) for name in names])
    return {str(name): state.value for name, state in found.items()}


async def test_a_cold_store_is_told_what_the_ledger_has(either: World) -> None:
    """
    25 settled and a hold of 60 expired are 85 spent after a start, 60 of them for now; nothing is
    held.
    """
    process = await either.process(is_started=False)
    expired = dataclasses.replace(settled("h2", 0), state=HoldState.EXPIRED)
    await process.ledger.append([settled("h1", 25), expired])

    await fill(process)

    (month,) = await process.spend.balances(ALICE, [window_of(Period.MONTH, AT)])
    assert await balances(process.spend) == [(85, 0)] * 4
    assert month.expired_nano_usd == 60


async def test_many_processes_fill_a_store_once(world: World) -> None:
    """
    Five processes start at once on an empty Redis: the counter is the ledger's, not five times it.
    """
    processes = [await world.process(is_started=False) for _ in range(5)]
    await processes[0].ledger.append([settled(f"h{i}", 10) for i in range(7)])

    await asyncio.gather(*(fill(process) for process in processes))

    assert await balances(processes[4].spend) == [(70, 0)] * 4


async def test_a_warm_store_is_left_as_it_is(world: World, client: Redis) -> None:
    """
    A process that joins others neither adds nor lowers anything.
    """
    first = await world.process()
    await first.reserve(hold("h1", 60))
    await first.settle(hold("h1", 60), 40)
    epochs = await client.mget(await client.keys("*:epoch"))

    second = await world.process()

    assert await balances(second.spend) == [(40, 0)] * 4
    assert await client.mget(await client.keys("*:epoch")) == epochs


async def test_redis_is_flushed(world: World, client: Redis) -> None:
    """
    40 in the ledger, 7 that it had not heard of yet, 9 of which the store had not heard either, a
    hold that is open: after the flush 56 are spent; the open one settles for 3, once: 59.
    """
    process = await world.process()
    for name, charge in (("booked", 40), ("journaled", 7)):
        await process.reserve(hold(name, 40, month=None))
        await process.settle(hold(name, 40, month=None), charge)
    await process.ledger.append([settled("booked", 40)])
    await process.reserve(hold("owed", 10, month=None))
    await process.end(hold("owed", 10, month=None), 9)
    await process.reserve(hold("open", 5, month=None))
    await client.flushall()

    with pytest.raises(ColdStoreError):
        await process.spend.reserve(hold("new"))
    await process.upkeep.do_round(1)
    after = await balances(process.spend)
    for _ in range(3):
        await process.settle(hold("open", 5, month=None), 3)
    await process.upkeep.do_round(2)

    assert after == [(56, 0)] * 4
    assert await balances(process.spend) == [(59, 0)] * 4
    assert process.open_holds.owed == []


async def test_redis_loses_one_bucket(world: World, client: Redis) -> None:
    """
    Alice has 40 in the ledger and 7 that it had not heard of; all of her bucket is gone, its epoch
    as well, and no other. That is noticed at once: nobody is served from it, and after a round she
    has her 47. Bob, whose bucket is as it was, has 5 settled, 9 that the store had not heard of and
    an open hold of 3: he is charged for each once, and what was held for the 9 is given back.
    """
    assert bucket_of(ALICE) != bucket_of(CustomerId("bob"))
    process = await world.process()
    for name, charge in (("booked", 40), ("journaled", 7)):
        await process.reserve(hold(name, 40, month=None))
        await process.settle(hold(name, 40, month=None), charge)
    await process.ledger.append([settled("booked", 40)])
    bobs = partial(hold, month=None, customer="bob")
    await process.reserve(bobs("bob 5", 5))
    await process.settle(bobs("bob 5", 5), 5)
    await process.reserve(bobs("bob 9", 9, ttl_s=0))
    await process.end(bobs("bob 9", 9), 9)
    await process.reserve(bobs("bob 3", 3))
    epoch = Keys().epoch(bucket_of(ALICE))
    await client.delete(*await client.keys(epoch.removesuffix("epoch") + "*"))

    with pytest.raises(ColdStoreError):
        await process.spend.reserve(hold("new"))
    await process.upkeep.do_round(1)
    alices = await balances(process.spend)
    for rounds in range(2, 9):
        await process.upkeep.do_round(rounds)
    held = await balances(process.spend, customer="bob")
    await process.settle(bobs("bob 3", 3), 2)
    await process.upkeep.do_round(RECONCILE_EVERY)

    assert alices == [(47, 0)] * 4
    assert held == [(14, 3)] * 4
    assert await balances(process.spend) == [(47, 0)] * 4
    assert await balances(process.spend, customer="bob") == [(16, 0)] * 4


async def test_redis_loses_counters_and_no_epoch(world: World, client: Redis) -> None:
    """
    Of a bucket whose epoch is there the counters are gone: the next comparison brings alice's 40
    back, says by how much all of them were too low, and leaves bob's 5 as they are.
    """
    process = await world.process()
    for name, customer, charge in (("h1", "alice", 40), ("h2", "bob", 5)):
        held = hold(name, 60, month=None, customer=customer)
        await process.reserve(held)
        await process.settle(held, charge)
        await process.ledger.append([outcome(held, HoldState.SETTLED, charge)])
    await client.delete(*await client.keys("*:a:alice:*"))

    with capture_logs() as logs:
        await process.upkeep.do_round(RECONCILE_EVERY)

    assert await balances(process.spend) == [(40, 0)] * 4
    assert await balances(process.spend, customer="bob") == [(5, 0)] * 4
    assert process.upkeep.drift.below_nano_usd == 4 * 40
    assert [each["below_nano_usd"] for each in logs if each["event"] == "spend_raised"] == [4 * 40]


async def test_others_book_before_a_store_is_filled(world: World, client: Redis) -> None:
    """
    Who fills a flushed Redis waits until the others, who look once a second, have booked.
    """
    first, second = await world.process(), await world.process()
    await second.reserve(hold("h1", 60))
    await second.settle(hold("h1", 60), 25)
    await client.flushall()
    booked = asyncio.Event()

    async def sleep(seconds: float) -> None:
        first.pauses_s.append(seconds)
        await second.upkeep.do_round(1)
        booked.set()

    first.upkeep = Upkeep(
        books_of(world, first),
        worker_id="w0",
        hold_ttl_s=60,
        has_peers=_yes,
        sleep=sleep,
    )
    await first.upkeep.do_round(1)
    await second.upkeep.do_round(2)

    assert first.pauses_s == [2.5]
    assert booked.is_set()
    assert await balances(first.spend) == [(25, 0)] * 4
    assert await states(first, "h1") == {"h1": "settled"}


async def test_more_to_book_than_a_transaction_takes(world: World, client: Redis) -> None:
    """
    1,201 answers of 1 ended while the database was away, then Redis lost its data: they are booked
    500 at a time, and 1,201 are spent.
    """
    process = await world.process()
    for i in range(1201):
        await process.end(hold(f"h{i}", 1, month=None), 1)
    await client.flushall()
    ledger = CountingLedger(world.database)
    upkeep = Upkeep(
        books_of(world, process, ledger=ledger), worker_id="w0", hold_ttl_s=60, has_peers=_no
    )
    await upkeep.do_round(1)

    assert ledger.batches == [500, 500, 201]
    assert await balances(process.spend) == [(1201, 0)] * 4


async def test_what_is_refused_when_it_is_booked_is_kept(world: World, client: Redis) -> None:
    """
    The ledger has 40 for a hold that this process knows as settled for 25, and Redis loses its
    data: the 25 are a dead letter, what ended beside it is booked, and 42 are spent.
    """
    process = await world.process()
    for name, charge in (("h1", 25), ("h2", 2)):
        await process.reserve(hold(name, 40, month=None))
        await process.settle(hold(name, 40, month=None), charge)
    await process.ledger.append([settled("h1", 40)])
    await client.flushall()

    with capture_logs() as logs:
        await process.upkeep.do_round(1)

    (letter,) = await list_dead_letters(world.database)
    assert letter.letter_id == "h1/settled/25"
    assert "with a charge of 40 nano-dollars, not 25" in letter.reason
    assert [each["event"] for each in logs if each["log_level"] == "error"] == [
        "ledger_record_refused"
    ]
    assert await balances(process.spend) == [(42, 0)] * 4


async def test_redis_is_flushed_while_it_is_filled(world: World, client: Redis) -> None:
    """
    Redis loses its data once more when the first customer's spend is in, and the second one's is
    not: it is filled again before anyone is served from it.
    """
    process = await world.process()
    await process.ledger.append([settled("h1", 40)])
    await client.flushall()

    async def flush() -> None:
        ledger.after_spends = None
        await client.flushall()

    ledger = CountingLedger(world.database, after_spends=flush)
    upkeep = Upkeep(
        books_of(world, process, ledger=ledger), worker_id="w0", hold_ttl_s=60, has_peers=_no
    )
    await upkeep.do_round(1)
    with pytest.raises(ColdStoreError):
        await process.spend.reserve(hold("new", 60))
    await upkeep.do_round(2)

    assert await balances(process.spend) == [(40, 0)] * 4
    assert is_reserved(await process.spend.reserve(hold("new", 60)))


async def _yes() -> bool:
    return True


async def _no() -> bool:
    return False


class CountingLedger(SqlLedger):
    """
    Attributes:
        batches: How many records came together.
        reads: How often it was asked for corrections.
        after_spends: What happens when some of its sums were taken.
    """

    def __init__(
        self, database: Database, *, after_spends: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        super().__init__(database)
        self.batches: list[int] = []
        self.reads = 0
        self.after_spends = after_spends

    @override
    async def spends(self, at: datetime) -> AsyncIterator[Sequence[Spend]]:
        async for spends in super().spends(at):
            yield spends
            if self.after_spends is not None:
                await self.after_spends()

    @override
    async def adjustments(self, at: datetime) -> Sequence[LedgerAdjustment]:
        self.reads += 1
        return await super().adjustments(at)

    @override
    async def append(self, records: Sequence[LedgerRecord]) -> None:
        self.batches.append(len(records))
        await super().append(records)


async def test_a_killed_process_is_taken_over(either: World) -> None:
    """
    Killed with one answer ended (25, of which the store has not heard) and one under way (60):
    whoever comes next settles the one and expires the other; both once, however many come.
    """
    dead = await either.process()
    await dead.reserve(hold("ended", 30, month=None))
    await dead.end(hold("ended", 30, month=None), 25)
    await dead.reserve(hold("under way", 60, month=None))
    await dead.kill()
    await dead.spend.aclose()

    heir = await either.process()
    await heir.journal.drain(10)
    first = await balances(heir.spend)
    (month,) = await heir.spend.balances(ALICE, [window_of(Period.MONTH, AT)])
    await heir.kill()
    await heir.spend.aclose()
    third = await either.process()

    assert (first, await balances(third.spend)) == ([(85, 0)] * 4, [(85, 0)] * 4)
    assert month.expired_nano_usd == 60


async def test_what_expired_counts_however_late_the_ledger_heard_of_it(world: World) -> None:
    """
    The ledger hears of an expired hold of 60 when the store was filled already: the next comparison
    counts it, the ones after that no more.
    """
    process = await world.process()
    await process.ledger.append([dataclasses.replace(settled("h1", 0), state=HoldState.EXPIRED)])

    for _ in range(3):
        await process.upkeep.reconcile()

    assert await balances(process.spend) == [(60, 0)] * 4


async def test_what_expired_before_a_loss_of_data_may_settle_after_it(
    world: World, client: Redis
) -> None:
    """
    A hold of 60 expired, Redis lost its data and was filled: 60 are spent. It settles for 3 after
    all: 3 are.
    """
    process = await world.process()
    held = hold("h1", 60, month=None)
    await process.reserve(held)
    await process.spend.expire(held)
    await process.ledger.append([dataclasses.replace(settled("h1", 0), state=HoldState.EXPIRED)])
    await client.flushall()
    await process.upkeep.do_round(1)
    before = await balances(process.spend)

    await process.settle(held, 3)

    assert (before, await balances(process.spend)) == ([(60, 0)] * 4, [(3, 0)] * 4)


async def test_a_loss_of_data_does_not_forget_what_was_given_up(
    world: World, client: Redis
) -> None:
    """
    An heir gave up what a killed process was about, 60, and Redis loses it before the ledger has
    heard of it: it is spent all the same, and in the ledger.
    """
    dead = await world.process()
    await dead.reserve(hold("under way", 60, month=None))
    await dead.kill()
    heir = await world.process()
    await client.flushall()

    await heir.upkeep.do_round(1)

    assert await balances(heir.spend) == [(60, 0)] * 4
    assert await states(heir, "under way") == {"under way": "expired"}


async def test_an_heir_forgets_what_the_ledger_has_as_expired(either: World) -> None:
    """
    What a killed process was about is kept in the heir's file until the ledger has it, no longer.
    """
    dead = await either.process()
    await dead.reserve(hold("under way", 60, month=None))
    await dead.kill()
    await dead.spend.aclose()
    heir = await either.process()
    kept = len(heir.spool.remembered())
    await heir.ledger.append(
        [dataclasses.replace(settled("under way", 0), state=HoldState.EXPIRED)]
    )

    await heir.upkeep.do_round(2)

    assert (kept, heir.spool.remembered()) == (1, [])


async def test_a_process_that_is_killed_while_others_live(world: World) -> None:
    """
    A survivor takes over within five rounds; what the ledger has already is not charged again.
    """
    survivor, dead = await world.process(), await world.process()
    await dead.reserve(hold("booked", 30, month=None))
    await dead.settle(hold("booked", 30, month=None), 25)
    await survivor.ledger.append([settled("booked", 25)])
    await dead.reserve(hold("ended", 30, month=None))
    await dead.end(hold("ended", 30, month=None), 7)
    await dead.kill()

    for rounds in range(1, TAKE_OVER_EVERY + 1):
        await survivor.upkeep.do_round(rounds)

    assert await balances(survivor.spend) == [(32, 0)] * 4


async def test_counters_that_are_too_low_are_raised(world: World, client: Redis) -> None:
    """
    Redis comes back from a copy that lacks 30 of 40: within 60 rounds it is raised, and said.
    """
    process = await world.process()
    await process.reserve(hold("h1", 60, month=None))
    await process.settle(hold("h1", 60, month=None), 40)
    await process.ledger.append([settled("h1", 40)])
    await client.hset(Keys().account(ALICE, window_of(Period.MONTH, AT)), "posted", 10)

    with capture_logs() as logs:
        await process.upkeep.do_round(RECONCILE_EVERY)

    assert await balances(process.spend) == [(40, 0)] * 4
    assert process.upkeep.drift.below_nano_usd == process.upkeep.raised_nano_usd == 30
    assert {"event": "spend_raised", "log_level": "error", "below_nano_usd": 30} in logs


async def test_a_late_settle_is_not_raised_again(either: World) -> None:
    """
    A hold of 60 expired, and then was settled for 3, of which the ledger has not heard: it still
    takes 60 for spent, and the counters stay at 3.
    """
    process = await either.process()
    held = hold("h1", 60, month=None)
    await process.reserve(held)
    await process.spend.expire(held)
    await process.journal.drain(10)
    await process.ledger.append([dataclasses.replace(settled("h1", 0), state=HoldState.EXPIRED)])
    await process.journal.aclose()
    await process.settle(held, 3)

    drift = await process.upkeep.reconcile()

    assert await balances(process.spend) == [(3, 0)] * 4
    assert drift.below_nano_usd == 0


async def test_counters_are_never_lowered(world: World) -> None:
    """
    What the ledger has not heard of yet is told as such, and stays.
    """
    process = await world.process()
    await process.reserve(hold("h1", 60, month=None))
    await process.settle(hold("h1", 60, month=None), 40)
    await process.ledger.append([settled("h0", 5)])

    drift = await process.upkeep.reconcile()

    assert (drift.below_nano_usd, drift.above_nano_usd) == (0, 4 * 35)
    assert await balances(process.spend) == [(40, 0)] * 4


async def test_an_odd_record_does_not_stop_a_round(either: World) -> None:
    """
    Of two owed records the first has half a character in a provider's text: both of 25 and 7 are
    told, and what is due after that is done.
    """
    process = await either.process()
    odd, plain = hold("h1", 40, month=None), hold("h2", 40, month=None)
    for held in (odd, plain):
        await process.reserve(held)
    record = outcome(odd, HoldState.SETTLED, 25, tokens=3)
    assert record.usage is not None
    usage = dataclasses.replace(record.usage, service_tier="\ud800")
    process.open_holds.owe(odd, dataclasses.replace(record, usage=usage))
    await process.end(plain, 7)

    await process.upkeep.do_round(TAKE_OVER_EVERY)

    assert process.open_holds.owed == []
    assert await balances(process.spend) == [(32, 0)] * 4


async def test_one_process_reconciles_for_all(world: World, client: Redis) -> None:
    """
    Of two processes one compares, which takes the database's time.
    """
    first, second = await world.process(), await world.process()
    await first.ledger.append([settled("h1", 40)])

    await first.upkeep.do_round(RECONCILE_EVERY)
    await second.upkeep.do_round(RECONCILE_EVERY)

    assert [each.upkeep.raised_nano_usd for each in (first, second)] == [4 * 40, 0]
    assert await client.get(Keys().claim("reconcile")) == b"w0"


async def test_lifetimes_are_compared_where_something_lacks(world: World, client: Redis) -> None:
    """
    40 are settled and booked. Where nothing lacks, or a lifetime's counter alone, a minute's
    comparison reads no lifetimes; that of an hour does. Where a month's lacks, each does.
    """
    process = await world.process()
    await process.reserve(hold("h1", 40))
    await process.settle(hold("h1", 40), 40)
    await process.ledger.append([settled("h1", 40)])
    ledger = CountingLedger(world.database)
    upkeep = Upkeep(
        books_of(world, process, ledger=ledger), worker_id="w0", hold_ttl_s=60, has_peers=_no
    )
    *_, month, lifetime = [Keys().account(ALICE, window) for window in windows_of(AT)]

    async def after(rounds: int, *forgotten: str) -> list[tuple[int, int]]:
        await client.delete(*forgotten)
        await upkeep.do_round(rounds)
        return await balances(process.spend)

    assert await after(RECONCILE_EVERY, lifetime) == [*[(40, 0)] * 3, (0, 0)]
    assert await after(LIFETIMES_EVERY, lifetime) == [(40, 0)] * 4
    assert await after(RECONCILE_EVERY, lifetime, month) == [(40, 0)] * 4


async def test_what_the_store_has_not_heard_of_is_told_later(world: World) -> None:
    """
    The store was away when a request ended: the next round tells it, and nothing is owed any more.
    """
    process = await world.process()
    await process.reserve(hold("h1", 60))
    await process.end(hold("h1", 60), 25)

    await process.upkeep.do_round(1)

    assert await balances(process.spend) == [(25, 0)] * 4
    assert process.open_holds.owed == []


async def test_corrections_reach_the_store_once(world: World) -> None:
    """
    A credit of 20 that the command line gives is there after one round, and after ten.
    """
    process = await world.process()
    await credit(
        world.database,
        Operation(operation_id="op", at=AT),
        CustomerChange(customer_id=ALICE, tier="free"),
        period=Period.MONTH,
        amount_nano_usd=NanoUsd(20),
    )

    for rounds in range(1, 11):
        await process.upkeep.do_round(rounds)

    (month,) = await process.spend.balances(ALICE, [window_of(Period.MONTH, AT)])
    assert month.credit_nano_usd == 20


async def test_corrections_are_read_when_something_was_changed(world: World) -> None:
    """
    Of ten rounds in which operators change something once, two ask for all corrections there are;
    a store that was filled anew is told them anew.
    """
    process = await world.process()
    ledger = CountingLedger(world.database)
    numbers = iter([1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2])
    upkeep = Upkeep(
        books_of(world, process, ledger=ledger),
        worker_id="w9",
        hold_ttl_s=60,
        has_peers=_no,
        revision=lambda: next(numbers),
    )

    for rounds in range(1, 11):
        await upkeep.do_round(rounds)
    before = ledger.reads
    async with Redis.from_url(world.redis_url) as client:
        await client.flushall()
    await upkeep.do_round(11)

    assert (before, ledger.reads) == (2, 3)


async def test_open_holds_are_kept_alive(world: World, client: Redis) -> None:
    """
    A hold whose time would run out lives on while its process does; when that is gone, it expires.
    """
    process = await world.process()
    held = hold("h1", 60)
    await process.reserve(held)
    key = Keys().open_holds(7)
    await client.zadd(key, {"h1": 1})
    await process.upkeep.touch()
    await process.upkeep.do_round(1)
    alive = await balances(process.spend)
    process.open_holds.owe(held, settled("h1", 1))
    process.open_holds.pay(HoldId("h1"))
    await client.zadd(key, {"h1": 1})
    await process.upkeep.touch()
    await process.upkeep.do_round(2)

    assert (alive, await balances(process.spend)) == ([(0, 60)] * 4, [(60, 0)] * 4)


async def test_a_database_that_hangs_costs_no_hold(world: World) -> None:
    """
    The ledger does not answer for as long as one may wait: holds of a minute are still touched,
    every 20 seconds.
    """
    process = await world.process()
    store = TouchedStore(MultiplexedScripts("redis://127.0.0.1:1"), now=lambda: AT)
    ledger = HangingLedger(world.database)
    pauses_s: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses_s.append(seconds)
        await asyncio.sleep(0)

    upkeep = Upkeep(
        books_of(world, process, spend=store, ledger=ledger),
        worker_id="w9",
        hold_ttl_s=60,
        has_peers=_no,
        sleep=sleep,
    )
    await upkeep.start()
    ledger.is_hanging = True
    async with asyncio.timeout(20), store.has_touched:
        await store.has_touched.wait_for(lambda: store.touches >= 3)
    await upkeep.aclose()

    assert pauses_s.count(20.0) >= 3
    assert pauses_s.count(1.0) <= 2


async def test_after_an_outage_those_who_live_come_first(world: World, client: Redis) -> None:
    """
    Redis was away for longer than holds live: for five rounds nobody is swept, so that processes
    which live have touched what is theirs; the dead one's hold expires in the sixth.
    """
    process = await world.process()
    await process.reserve(hold("of the dead", 60, month=None))
    await client.zadd(Keys().open_holds(7), {"of the dead": 1})
    store = FlakyStore(MultiplexedScripts(world.redis_url), now=lambda: AT)
    upkeep = Upkeep(
        books_of(world, process, spend=store), worker_id="w9", hold_ttl_s=60, has_peers=_no
    )
    with pytest.raises(StoreUnavailableError):
        await upkeep.do_round(1)
    store.is_away = False

    expired = []
    for rounds in range(2, 8):
        await upkeep.do_round(rounds)
        expired.append((await balances(store))[0])
    await store.aclose()

    assert expired == [(0, 60)] * 5 + [(60, 0)]


async def test_it_ends_although_a_cancellation_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A command to the store takes the first cancellation for its own and goes on: the second ends it.
    """
    monkeypatch.setattr(tasks, "AGAIN_S", 0.01)
    process = await world.process()
    store = DeafStore(MultiplexedScripts("redis://127.0.0.1:1"), now=lambda: AT)
    upkeep = Upkeep(
        books_of(world, process, spend=store), worker_id="w9", hold_ttl_s=60, has_peers=_no
    )
    await upkeep.start()

    async with asyncio.timeout(20):
        await store.has_begun.wait()
        await upkeep.aclose()

    assert store.lost == 1


async def test_an_entry_that_the_journal_lost(world: World, client: Redis) -> None:
    """
    A charge of 25 is in the store, and its entry is gone from the journal: at the second comparison
    it is written into the ledger itself, and stays charged once.
    """
    process = await world.process()
    held = hold("h1", 30, month=None)
    await process.reserve(held)
    await process.settle(held, 25)
    await client.delete(Keys().journal(bucket_of(ALICE)))

    for comparison in (1, 2):
        await process.upkeep.do_round(comparison * RECONCILE_EVERY)

    assert await states(process, "h1") == {"h1": "settled"}
    assert await balances(process.spend) == [(25, 0)] * 4
    assert process.spool.remembered() == []


async def test_an_entry_of_an_expired_hold_that_the_journal_lost(
    world: World, client: Redis
) -> None:
    """
    What an heir gave up, 60, is in the store, and its entry is gone: at the second comparison the
    ledger has it too.
    """
    dead = await world.process()
    await dead.reserve(hold("under way", 60, month=None))
    await dead.kill()
    heir = await world.process()
    await client.delete(Keys().journal(bucket_of(ALICE)))

    for comparison in (1, 2):
        await heir.upkeep.do_round(comparison * RECONCILE_EVERY)

    assert await states(heir, "under way") == {"under way": "expired"}
    assert await balances(heir.spend) == [(60, 0)] * 4
    assert heir.spool.remembered() == []


async def test_the_file_forgets_what_the_ledger_has(world: World) -> None:
    """
    Of two ended requests the ledger has one: the write-ahead file keeps the other and the open one.
    """
    process = await world.process()
    for name in ("booked", "journaled", "open"):
        await process.reserve(hold(name, 10))
    await process.settle(hold("booked", 10), 1)
    await process.settle(hold("journaled", 10), 2)
    await process.ledger.append([settled("booked", 1)])

    await process.upkeep.do_round(2)

    kept = {str(item.hold.hold_id) for item in process.spool.remembered()}
    assert kept == {"journaled", "open"}


async def test_a_store_that_is_away_is_said_once(world: World) -> None:
    """
    Upkeep goes on in the next round, and does not log the same thing each second.
    """

    process = await world.process()
    store = AwayStore(MultiplexedScripts("redis://127.0.0.1:1"), now=lambda: AT)
    store.is_away = False
    has_run = asyncio.Event()
    pauses_s: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds > 1:
            await asyncio.Event().wait()  # Between touches.
        store.is_away = True
        pauses_s.append(seconds)
        if len(pauses_s) == 4:
            has_run.set()
            await asyncio.Event().wait()

    upkeep = Upkeep(
        books_of(world, process, spend=store),
        worker_id="w9",
        hold_ttl_s=60,
        has_peers=_yes,
        sleep=sleep,
    )
    with capture_logs() as logs:
        await upkeep.start()
        await has_run.wait()
        await upkeep.aclose()
    await store.aclose()

    assert [entry["event"] for entry in logs] == ["upkeep_delayed"]


class FlakyStore(RedisSpendStore):
    """A store that is away at first."""

    is_away = True

    @override
    async def generation(self) -> str | None:
        if self.is_away:
            raise StoreUnavailableError("away")
        return await super().generation()


class TouchedStore(RedisSpendStore):
    """A store that is warm and empty, and counts how often its holds were touched."""

    def __init__(self, scripts: MultiplexedScripts, *, now: Callable[[], datetime]) -> None:
        super().__init__(scripts, now=now)
        self.touches = 0
        self.has_touched = asyncio.Condition()

    @override
    async def generation(self) -> str | None:
        return " ".join(["epoch"] * 64)

    @override
    async def sweep(self, *_: object) -> int:
        return 0

    @override
    async def touch(self, holds: Sequence[tuple[CustomerId, HoldId]], *, ttl_s: float) -> None:
        async with self.has_touched:
            self.touches += 1
            self.has_touched.notify_all()


class DeafStore(RedisSpendStore):
    """
    A store that is warm, and loses the first cancellation.

    Attributes:
        has_begun: Whether it is asked in a round.
        lost: How many it has lost.
    """

    def __init__(self, scripts: MultiplexedScripts, *, now: Callable[[], datetime]) -> None:
        super().__init__(scripts, now=now)
        self.has_begun = asyncio.Event()
        self.lost = 0

    @override
    async def generation(self) -> str | None:
        return " ".join(["epoch"] * 64)

    @override
    async def sweep(self, *_: object) -> int:
        self.has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self.lost:
                raise
            self.lost += 1
        return 0


class HangingLedger(SqlLedger):
    """A ledger that may fall silent."""

    is_hanging = False

    @override
    async def adjustments(self, at: datetime) -> Sequence[LedgerAdjustment]:
        if self.is_hanging:
            await asyncio.Event().wait()
        return await super().adjustments(at)


class AwayStore(RedisSpendStore):
    """A store that says it is warm, or nothing."""

    is_away = True

    async def generation(self) -> str | None:
        if self.is_away:
            raise StoreUnavailableError("away")
        return " ".join(["epoch"] * 64)


async def test_what_ends_after_the_booking_is_settled(world: World, client: Redis) -> None:
    """
    While another process fills a flushed Redis, and takes its time, a request ends for 7: that is
    not written into the ledger behind its back, but settled in the filled store. 25 and 7 are 32.
    """
    filling, other = await world.process(), await world.process()
    await other.reserve(hold("before", 30, month=None))
    await other.settle(hold("before", 30, month=None), 25)
    await client.flushall()
    await client.set(Keys().claim("fill"), "w0")
    await other.upkeep.do_round(1)
    await other.end(hold("after", 30, month=None), 7)

    await other.upkeep.do_round(2)
    booked = await states(other, "before", "after")
    await filling.upkeep.do_round(1)
    await other.upkeep.do_round(3)

    assert booked == {"before": "settled"}
    assert await balances(other.spend) == [(32, 0)] * 4
    assert other.open_holds.owed == []


async def test_who_books_late_raises_the_counters(world: World, client: Redis) -> None:
    """
    Redis was flushed and filled before this process looked: what it books then, 25, is posted too.
    """
    filling, late = await world.process(), await world.process()
    await late.reserve(hold("h1", 30, month=None))
    await late.settle(hold("h1", 30, month=None), 25)
    await client.flushall()
    await filling.upkeep.do_round(1)
    before = await balances(late.spend)

    await late.upkeep.do_round(1)

    assert before == [(0, 0)] * 4
    assert await balances(late.spend) == [(25, 0)] * 4
    assert await states(late, "h1") == {"h1": "settled"}


async def test_a_store_that_is_lost_twice_is_booked_twice(world: World, client: Redis) -> None:
    """
    25 before the first flush, 7 between it and the second: 32 are spent after both.
    """
    process = await world.process()
    for name, charge in (("h1", 25), ("h2", 7)):
        await process.reserve(hold(name, 30, month=None))
        await process.settle(hold(name, 30, month=None), charge)
        await client.flushall()
        await process.upkeep.do_round(1)

    assert await balances(process.spend) == [(32, 0)] * 4


async def test_what_redis_forgot_is_told_again(world: World, client: Redis) -> None:
    """
    A replica that lagged takes over: it lacks a settle of 25 which the ledger has not heard of
    either. Within two times 60 rounds it is told again, once.
    """
    process = await world.process()
    await process.reserve(hold("h1", 30, month=None))
    await process.settle(hold("h1", 30, month=None), 25)
    keys = await client.keys("*")
    await client.delete(*(key for key in keys if not key.endswith(b":epoch")))

    for rounds in range(1, 4):
        await process.upkeep.do_round(rounds * RECONCILE_EVERY)

    assert await balances(process.spend) == [(25, 0)] * 4
    assert await client.xlen(Keys().journal(bucket_of(ALICE))) == 1


async def test_what_is_on_its_way_to_the_ledger_is_not_told_again(world: World) -> None:
    """
    The ledger is a minute late: a settle that Redis knows is not posted again.
    """
    process = await world.process()
    await process.reserve(hold("h1", 30, month=None))
    await process.settle(hold("h1", 30, month=None), 25)

    for rounds in range(1, 4):
        await process.upkeep.do_round(rounds * RECONCILE_EVERY)

    assert await balances(process.spend) == [(25, 0)] * 4


async def test_who_did_not_compare_tells_no_drift(world: World) -> None:
    """
    A process that found 30 lacking says so until another one has compared.
    """
    process, other = await world.process(), await world.process()
    await process.ledger.append([settled("h1", 30)])
    await process.upkeep.do_round(RECONCILE_EVERY)
    found = process.upkeep.drift.below_nano_usd
    async with Redis.from_url(world.redis_url) as client:
        await client.delete(Keys().claim("reconcile"))
    await other.upkeep.do_round(RECONCILE_EVERY)
    await process.upkeep.do_round(RECONCILE_EVERY)

    assert (found, process.upkeep.drift.below_nano_usd) == (4 * 30, 0)


async def test_a_hold_that_is_open_again_is_given_back(world: World, client: Redis) -> None:
    """
    Redis is restored from a copy in which a request of 60 was under way that has ended for 25: its
    hold runs out and is given back, not posted, and 25 are spent.
    """
    process = await world.process()
    held = hold("h1", 60, month=None)
    await process.reserve(held)
    copy = {key: await client.dump(key) for key in await client.keys("*")}
    await process.settle(held, 25)
    await process.ledger.append([settled("h1", 25)])
    await process.upkeep.do_round(2)
    await client.flushall()
    for key, dumped in copy.items():
        await client.restore(key, 0, dumped)
    await client.zadd(Keys().open_holds(bucket_of(ALICE)), {"h1": 1})

    await process.upkeep.do_round(RECONCILE_EVERY)

    (month,) = await process.spend.balances(ALICE, [window_of(Period.MONTH, AT)])
    assert await balances(process.spend) == [(25, 0)] * 4
    assert month.expired_nano_usd == 0
    assert await client.xlen(Keys().journal(bucket_of(ALICE))) == 0
