"""
The journal in Redis: every end of a hold reaches the ledger once, whoever dies on the way.
"""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest
from fixtures.outages import until
from fixtures.snare import snare
from fixtures.spend import Subject, balances, hold, outcome, redis_store, release, settle
from redis.asyncio import Redis
from structlog.testing import capture_logs

from relay_middleware.core import journaled
from relay_middleware.core.holds import HoldState
from relay_middleware.core.records import LedgerRecord, RequestEnded
from relay_middleware.errors import RecordRefusedError, StoreUnavailableError
from relay_middleware.stores.keys import BUCKETS, Keys, bucket_of
from relay_middleware.stores.stream import GROUP, MAX_DELIVERIES, Sink, StreamJournal

pytestmark = pytest.mark.anyio


class ListLedger:
    """
    Keeps records in a list.

    Attributes:
        failures: How many more calls fail as if the database were away.
        refused: Charges that are never taken.
    """

    def __init__(self, *, failures: int = 0, refused: frozenset[int] = frozenset()) -> None:
        self.kept: list[RequestEnded] = []
        self.failures = failures
        self.refused = refused
        self.batches: list[int] = []

    async def append(self, records: Sequence[LedgerRecord]) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("away")
        ended = [record for record in records if isinstance(record, RequestEnded)]
        if any(record.charge_nano_usd in self.refused for record in ended):
            raise RecordRefusedError("too odd")
        self.batches.append(len(ended))
        self.kept += ended

    @property
    def charges(self) -> list[int]:
        return sorted(record.charge_nano_usd for record in self.kept)


class Notes:
    """
    What a journal tells of itself.

    Attributes:
        failures: How many more batches cannot be acknowledged.
    """

    def __init__(self) -> None:
        self.appended: list[RequestEnded] = []
        self.buried: list[tuple[str, str, str]] = []
        self.pauses_s: list[float] = []
        self.has_paused = asyncio.Condition()
        self.failures = 0

    def sink(self, ledger: ListLedger) -> Sink:
        return Sink(
            ledger=ledger,  # type: ignore[arg-type] # of the port only `append` is used
            on_appended=self.on_appended,
            keep_dead_letter=self.bury,
        )

    async def on_appended(self, records: Sequence[RequestEnded]) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("away")
        self.appended += records

    async def bury(self, name: str, text: str, reason: str) -> None:
        self.buried.append((name, text, reason))

    async def sleep(self, seconds: float) -> None:
        async with self.has_paused:
            self.pauses_s.append(seconds)
            self.has_paused.notify_all()


class StoppingNotes(Notes):
    """Those of a journal that stands still after ten pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.has_stopped = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if len(self.pauses_s) == 10:
            self.has_stopped.set()
            await asyncio.Event().wait()


@pytest.fixture(name="subject")
async def _subject(redis_url: str) -> AsyncIterator[Subject]:
    """
    A store in Redis.
    """
    async with redis_store(redis_url) as subject:
        yield subject


@pytest.fixture(name="client")
async def _client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@asynccontextmanager
async def reading(
    redis_url: str,
    ledger: ListLedger,
    notes: Notes,
    *,
    name: str = "w1",
    claim_after_ms: int = 30_000,
) -> AsyncIterator[StreamJournal]:
    """A worker that brings the journal to *ledger*."""
    journal = StreamJournal(
        redis_url,
        notes.sink(ledger),
        worker_id=name,
        sleep=notes.sleep,
        claim_after_ms=claim_after_ms,
    )
    await journal.start()
    await journal.start()
    try:
        yield journal
    finally:
        await journal.aclose()


async def charged(subject: Subject, *charges: int, customer: str = "alice") -> None:
    """Settle a hold for each of *charges*."""
    for charge in charges:
        held = hold(f"{customer}-{charge}", charge, month=None, customer=customer)
        await subject.store.reserve(held)
        await settle(subject.store, held, charge)


async def test_a_hold_is_acknowledged_before_its_entry_is_forgotten(
    subject: Subject, redis_url: str
) -> None:
    """
    The store is away when it is to be told that the ledger has a charge of 7, ten times: when that
    worker has ended another one finds the entry and tells it, and does not take it for deadly.
    Without that the hold would be remembered for ever.
    """
    await charged(subject, 7)
    ledger, notes, others = ListLedger(), StoppingNotes(), Notes()
    notes.failures = 10
    async with reading(redis_url, ledger, notes), asyncio.timeout(20):
        await notes.has_stopped.wait()
    async with reading(redis_url, ledger, others, name="w2", claim_after_ms=0) as journal:
        assert await journal.drain(20) == 0

    assert (notes.appended, [each.hold_id for each in others.appended]) == ([], ["alice-7"])
    assert others.buried == []


async def test_what_is_settled_reaches_the_ledger_once(
    subject: Subject, redis_url: str, client: Redis
) -> None:
    """
    20 customers' charges of 1 to 20 by two workers: each is in the ledger once, none in Redis.
    """
    ledger, notes = ListLedger(), Notes()
    async with (
        reading(redis_url, ledger, notes) as journal,
        reading(redis_url, ledger, notes, name="w2"),
    ):
        for charge in range(1, 21):
            await charged(subject, charge, customer=f"c{charge}")
        assert await journal.drain(20) == 0

    assert ledger.charges == list(range(1, 21))
    assert len(notes.appended) == 20
    assert sum([await client.xlen(Keys().journal(bucket)) for bucket in range(BUCKETS)]) == 0


async def test_what_was_settled_before_anyone_read(subject: Subject, redis_url: str) -> None:
    """
    Entries wait for the first worker, and arrive in batches.
    """
    await charged(subject, *range(1, 51))
    ledger, notes = ListLedger(), Notes()
    async with reading(redis_url, ledger, notes) as journal:
        assert await journal.drain(20) == 0

    assert (ledger.charges, ledger.batches) == (list(range(1, 51)), [50])


async def test_a_release_after_dispatch_is_told(subject: Subject, redis_url: str) -> None:
    """
    A request whose providers all failed is in the ledger, for nothing.
    """
    await subject.store.reserve(hold())
    await release(subject.store, hold())
    ledger, notes = ListLedger(), Notes()
    async with reading(redis_url, ledger, notes) as journal:
        await journal.drain(20)

    assert [(each.hold_id, each.charge_nano_usd) for each in ledger.kept] == [("h1", 0)]


async def test_a_database_that_is_away_loses_nothing(subject: Subject, redis_url: str) -> None:
    """
    SQL fails three times: waited for 0.1, 0.2 and 0.4 s, and then everything is there once.
    """
    await charged(subject, 1, 2, 3)
    ledger, notes = ListLedger(failures=3), Notes()
    async with reading(redis_url, ledger, notes) as journal:
        await journal.drain(20)

    assert ledger.charges == [1, 2, 3]
    assert [pause for pause in notes.pauses_s if pause != 0.05] == [0.1, 0.2, 0.4]


async def test_what_a_dead_worker_had_taken_is_claimed(
    subject: Subject, redis_url: str, client: Redis
) -> None:
    """
    A worker takes an entry and dies before it has told the ledger: another one claims it.
    """
    await charged(subject, 7)
    stream = Keys().journal(bucket_of(hold().customer_id))
    await client.xgroup_create(stream, GROUP, id="0")
    await client.xreadgroup(GROUP, "dead", {stream: ">"})

    ledger, notes = ListLedger(), Notes()
    async with reading(redis_url, ledger, notes, claim_after_ms=0) as journal:
        assert await journal.drain(20) == 0

    assert ledger.charges == [7]


async def test_what_is_left_later_is_claimed_too(
    subject: Subject, redis_url: str, client: Redis
) -> None:
    """
    A worker dies while others have been up for long: they look as often as the wait for it says,
    so its entry does not take 10 s where that is none.
    """
    stream = Keys().journal(3)
    ledger, notes = ListLedger(), Notes()
    async with reading(redis_url, ledger, notes, claim_after_ms=0) as journal:
        await charged(subject, 7)
        assert await journal.drain(20) == 0
        async with client.pipeline() as pipeline:
            # In one step, so that nobody else takes it.
            pipeline.xadd(stream, {"entry": "no record"})
            pipeline.xreadgroup(GROUP, "dead", {stream: ">"})
            await pipeline.execute()
        assert await journal.drain(5) == 0

    assert [text for _, text, _ in notes.buried] == ["no record"]


async def test_it_can_be_opened_again(subject: Subject, redis_url: str) -> None:
    """
    A journal that was closed, because the rest of a relay did not start, reads when it is started.
    """
    ledger, notes = ListLedger(), Notes()
    async with reading(redis_url, ledger, notes) as journal:
        await journal.aclose()
        await charged(subject, 7)
        await journal.start()
        assert await journal.drain(20) == 0

    assert ledger.charges == [7]


async def test_a_worker_that_waits_for_sql_is_not_dead(
    subject: Subject, redis_url: str, client: Redis
) -> None:
    """
    While SQL is away an entry is not delivered to anybody else, and never becomes a dead letter.
    """
    await charged(subject, 7)
    stream = Keys().journal(bucket_of(hold().customer_id))
    ledger, notes = ListLedger(failures=2 * MAX_DELIVERIES), Notes()
    async with reading(redis_url, ledger, notes) as journal:
        await journal.drain(20)
        pending = await client.xpending(stream, GROUP)

    assert (ledger.charges, notes.buried, pending["pending"]) == ([7], [], 0)


async def test_one_bad_record_keeps_no_other_out(subject: Subject, redis_url: str) -> None:
    """
    Of three charges the ledger never takes the second: it is a dead letter with the reason, the
    others are in the ledger, and all are gone from Redis. The store goes on knowing that it has
    posted the second.
    """
    await charged(subject, 1, 2, 3)
    ledger, notes = ListLedger(refused=frozenset({2})), Notes()
    with capture_logs() as logs:
        async with reading(redis_url, ledger, notes) as journal:
            assert await journal.drain(20) == 0

    assert ledger.charges == [1, 3]
    assert sorted(each.charge_nano_usd for each in notes.appended) == [1, 3]
    ((name, text, reason),) = notes.buried
    assert ('"alice-2"' in text, reason) == (True, "too odd")
    assert [(entry["event"], entry["entry"]) for entry in logs] == [("journal_entry_refused", name)]


async def test_what_nobody_can_read_is_a_dead_letter(redis_url: str, client: Redis) -> None:
    """
    An entry that is no record is kept as it is.
    """
    await client.xadd(Keys().journal(3), {"entry": "no record"})
    await client.xadd(Keys().journal(4), {"other": "no entry"})
    ledger, notes = ListLedger(), Notes()
    async with reading(redis_url, ledger, notes) as journal:
        assert await journal.drain(20) == 0

    assert sorted(text for _, text, _ in notes.buried) == ["", "no record"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 7])
async def test_what_a_later_release_wrote_is_left_to_it(
    subject: Subject,
    redis_url: str,
    client: Redis,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    """
    Workers that read version 1, more of them than an entry may be delivered to, meet a charge of 2
    in version 2, and one of 5 that fails once: they bring the 5 to the ledger and bury nothing. Who
    reads version 2 has the 2 there too.
    """
    with monkeypatch.context() as later:
        later.setattr(journaled, "VERSION", 2)
        await charged(subject, 2)
    ledger, notes = ListLedger(), Notes()
    notes.failures = 1
    stream = Keys().journal(bucket_of(hold().customer_id))
    await charged(subject, 5)
    with capture_logs() as logs:
        async with AsyncExitStack() as stack:
            for i in range(workers):
                worker = reading(redis_url, ledger, notes, name=f"old{i}", claim_after_ms=500)
                await stack.enter_async_context(worker)

            async def have_all_met_it() -> bool:
                met = [each for each in logs if each["event"] == "journal_entries_left"]
                return len(met) >= workers and await client.xlen(stream) == 1

            await until(have_all_met_it)
        (pending,) = await client.xpending_range(stream, GROUP, "-", "+", 9)
    before = (set(ledger.charges), notes.buried, pending["times_delivered"])
    with monkeypatch.context() as later:
        later.setattr(journaled, "VERSION", 2)
        async with reading(redis_url, ledger, notes, name="new", claim_after_ms=0) as journal:
            assert await journal.drain(20) == 0

    assert before == ({5}, [], 0)
    assert (set(ledger.charges), notes.buried) == ({2, 5}, [])


async def test_what_no_database_takes_is_a_dead_letter(subject: Subject, redis_url: str) -> None:
    """
    A provider's text with half a character: its charge of 7 is posted, and the record is kept whole
    as a dead letter.
    """
    held = hold("h1", 10, month=None)
    record = outcome(held, HoldState.SETTLED, 7, tokens=3)
    assert record.usage is not None
    usage = dataclasses.replace(record.usage, service_tier="\ud800")
    record = dataclasses.replace(record, usage=usage)
    await subject.store.reserve(held)

    await subject.store.settle(held, record)

    ledger, notes = ListLedger(), Notes()
    async with reading(redis_url, ledger, notes) as journal:
        assert await journal.drain(20) == 0
    assert await balances(subject.store) == [(7, 0)] * 4
    ((_, text, _),) = notes.buried
    assert journaled.decode_record(json.loads(text)) == record


async def test_what_ends_those_who_take_it_is_a_dead_letter(
    subject: Subject, redis_url: str, client: Redis
) -> None:
    """
    Delivered six times and never committed, an entry is taken for what killed six workers.
    """
    await charged(subject, 7)
    stream = Keys().journal(bucket_of(hold().customer_id))
    await client.xgroup_create(stream, GROUP, id="0")
    ((_, ((entry_id, _),)),) = await client.xreadgroup(GROUP, "dead", {stream: ">"})
    for _ in range(MAX_DELIVERIES):
        await client.xclaim(stream, GROUP, "dead", 0, [entry_id])

    ledger, notes = ListLedger(), Notes()
    async with reading(redis_url, ledger, notes, claim_after_ms=0) as journal:
        assert await journal.drain(20) == 0

    assert (ledger.kept, len(notes.buried)) == ([], 1)


async def test_a_flush_does_not_stop_it(subject: Subject, redis_url: str, client: Redis) -> None:
    """
    Redis loses its data, and with it the consumer group: what comes after that arrives.
    """
    ledger, notes = ListLedger(), Notes()
    async with reading(redis_url, ledger, notes) as journal:
        await charged(subject, 1)
        await journal.drain(20)
        await client.flushall()
        await subject.store.open()
        generation = await subject.store.generation()
        assert generation is not None
        subject.store.adopt(generation)
        await charged(subject, 2)
        assert await journal.drain(20) == 0

    assert ledger.charges == [1, 2]


async def test_a_drain_does_not_wait_for_what_comes_meanwhile(
    subject: Subject, redis_url: str, client: Redis
) -> None:
    """
    What is there when it begins leaves, and another worker's next entry comes: that one is nobody's
    who ends now.
    """
    await charged(subject, 1)
    stream = Keys().journal(bucket_of(hold().customer_id))
    ((entry_id, _),) = await client.xrange(stream)

    async def sleep(_: float) -> None:
        await charged(subject, 2)
        await client.xdel(stream, entry_id)

    journal = StreamJournal(redis_url, Notes().sink(ListLedger()), worker_id="w1", sleep=sleep)

    assert await journal.drain(5) == 0
    assert await journal.waiting() == 1
    await journal.aclose()


async def test_redis_that_is_away_is_waited_for() -> None:
    """
    Nobody listens: the journal pauses longer and longer, and says that it cannot tell.
    """
    notes = Notes()
    journal = StreamJournal(
        "redis://127.0.0.1:1",
        notes.sink(ListLedger()),
        worker_id="w1",
        sleep=notes.sleep,
    )
    await journal.start()
    async with asyncio.timeout(20), notes.has_paused:
        await notes.has_paused.wait_for(lambda: len(notes.pauses_s) >= 8)
    with pytest.raises(StoreUnavailableError):
        await journal.waiting()
    assert await journal.drain(20) is None
    await journal.aclose()

    assert notes.pauses_s[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


async def test_a_journal_that_was_closed_begins_again(redis_url: str, subject: Subject) -> None:
    """
    A worker whose start failed half-way starts anew: what is settled then reaches the ledger.
    """
    ledger, notes = ListLedger(), Notes()
    async with reading(redis_url, ledger, notes) as journal:
        await journal.aclose()
        await journal.start()
        await settle(subject.store, hold("h1"), 7)
        assert await journal.drain(10) == 0

    assert ledger.charges == [7]


async def test_what_was_not_acknowledged_is_taken_again_at_once(
    redis_url: str, subject: Subject
) -> None:
    """
    The connection breaks between the commit and the acknowledgement: the same worker takes the
    entry again when there is another one, and does not wait until it takes itself for dead.
    """
    ledger, notes = ListLedger(), Notes()
    async with (
        snare(urlsplit(redis_url).port or 0) as trap,
        reading(trap.url, ledger, notes) as journal,
    ):
        trap.cutting = {b"XACK": 1}
        await settle(subject.store, hold("h1"), 7)

        assert await journal.drain(20) == 0

    # Twice: the ledger of SQL keeps one.
    assert ledger.charges == [7, 7]
