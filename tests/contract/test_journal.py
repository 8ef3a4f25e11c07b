"""
The journal: nothing is lost, doubled or reordered on the way to the ledger.
"""

import asyncio
import dataclasses
import json
from collections.abc import Sequence

import pytest
from fixtures.records import AT, ended
from structlog.testing import capture_logs
from typing_extensions import override

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.journaled import decode_record
from relay_middleware.core.records import CustomerCreated, LedgerRecord, RequestEnded
from relay_middleware.core.usage import Usage
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ledger.database import Database, ValueRefusedError
from relay_middleware.ledger.dead_letters import list_dead_letters
from relay_middleware.ledger.journal import MAX_BATCH, QueueJournal
from relay_middleware.ledger.sql import LedgerConflictError, SqlLedger
from relay_middleware.ports.books import Ledger

pytestmark = pytest.mark.anyio


class MemoryLedger:
    """
    Keeps records in a list.

    Attributes:
        failures: How many more calls fail as if the database were away.
        refused: A record that is never taken.
        refusal: What it is refused with.
    """

    def __init__(
        self,
        *,
        failures: int = 0,
        refused: LedgerRecord | None = None,
        refusal: Exception | None = None,
    ) -> None:
        self.kept: list[LedgerRecord] = []
        self.batches: list[int] = []
        self.failures = failures
        self.refused = refused
        self.refusal = refusal or LedgerConflictError("refused")
        self.buried: list[tuple[LedgerRecord, str]] = []

    async def append(self, records: Sequence[LedgerRecord]) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("away")
        if self.refused in records:
            raise self.refusal
        self.batches.append(len(records))
        self.kept += records

    async def bury(self, record: RequestEnded, reason: str) -> None:
        self.buried.append((record, reason))


class Notes:
    """What was acknowledged, and how long was waited."""

    def __init__(self, *, failing: bool = False) -> None:
        self.acknowledged: list[LedgerRecord] = []
        self.pauses_s: list[float] = []
        self.failing = failing

    async def acknowledge(self, records: Sequence[LedgerRecord]) -> None:
        self.acknowledged += records
        if self.failing:
            raise StoreUnavailableError("away")

    async def sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        await asyncio.sleep(0)


async def fed(ledger: Ledger, notes: Notes, records: Sequence[LedgerRecord]) -> int:
    """Hand *records* over one by one, and return how many have not arrived."""
    journal = QueueJournal(ledger, on_appended=notes.acknowledge, sleep=notes.sleep)
    await journal.start()
    await journal.start()
    for record in records:
        journal.put(record)
    missing = await journal.drain(5)
    await journal.aclose()
    await journal.aclose()
    return missing


async def test_order_is_kept_and_batches_form() -> None:
    """
    1,200 records arrive in their order, in batches of at most 500, and are acknowledged so.
    """
    records = [ended(f"r{i}") for i in range(1200)]
    ledger, notes = MemoryLedger(), Notes()

    assert await fed(ledger, notes, records) == 0

    assert ledger.kept == records
    assert notes.acknowledged == records
    assert max(ledger.batches) <= MAX_BATCH
    assert len(ledger.batches) == 3


async def test_a_full_batch_waits_for_nobody() -> None:
    """
    Of 1,001 records that would wait an hour for others, 1,000 arrive in two batches, and one waits.
    """
    ledger, has_both = MemoryLedger(), asyncio.Event()

    async def appended(_: Sequence[LedgerRecord]) -> None:
        if len(ledger.batches) == 2:
            has_both.set()

    journal = QueueJournal(ledger, on_appended=appended, gather_s=3600)
    for i in range(1001):
        journal.put(ended(f"r{i}"))

    await journal.start()
    async with asyncio.timeout(5):
        await has_both.wait()
    await journal.aclose()

    assert ledger.batches == [500, 500]
    assert journal.waiting == 1


async def test_a_database_that_is_away_delays_and_loses_nothing() -> None:
    """
    After three failures, waited for 0.1, 0.2 and 0.4 seconds, everything is there once.
    """
    records = [ended(f"r{i}") for i in range(5)]
    ledger, notes = MemoryLedger(failures=3), Notes()

    assert await fed(ledger, notes, records) == 0

    assert ledger.kept == records
    assert notes.pauses_s == [0.1, 0.2, 0.4]


@pytest.mark.parametrize("refusal", [LedgerConflictError("why"), ValueRefusedError("why")])
async def test_one_bad_record_keeps_no_other_out(refusal: Exception) -> None:
    """
    A record that the ledger refuses for good is a dead letter, and logged with what it would have
    charged; those beside it arrive, and only they are acknowledged.
    """
    records = [ended(f"r{i}", i) for i in range(5)]
    ledger, notes = MemoryLedger(refused=records[2], refusal=refusal), Notes()

    with capture_logs() as logs:
        assert await fed(ledger, notes, records) == 0

    assert ledger.kept == [*records[:2], *records[3:]]
    assert notes.acknowledged == ledger.kept
    assert ledger.buried == [(records[2], "why")]
    assert logs == [
        {
            "event": "ledger_record_refused",
            "log_level": "error",
            "customer_id": "alice",
            "hold_id": "r2",
            "charge_nano_usd": 2,
            "reason": "why",
        }
    ]


async def test_a_refused_customer_is_named() -> None:
    """
    A record without money is logged too; where nothing was taken, nothing is acknowledged.
    """
    carol = CustomerCreated(customer_id=CustomerId("carol"), tier="free", created_at=AT)
    ledger, notes = MemoryLedger(refused=carol), Notes(failing=True)

    with capture_logs() as logs:
        assert await fed(ledger, notes, [carol]) == 0

    assert [(entry["event"], entry["customer_id"]) for entry in logs] == [
        ("ledger_record_refused", "carol")
    ]


async def test_a_provider_cannot_stop_the_books(database: Database) -> None:
    """
    Of three requests, one reports more tokens than a column holds: the other two are charged, and
    that one is kept, with its charge of 2, for a correction by hand.
    """
    usage = Usage(input_tokens=2**63, output_tokens=5)
    bad = dataclasses.replace(ended("bad", 2), usage=usage)
    ledger = SqlLedger(database)

    assert await fed(ledger, Notes(), [ended("r1", 1), bad, ended("r3", 4)]) == 0

    ((*_, lifetime),) = [batch async for batch in ledger.spends(AT)]
    assert lifetime.posted_nano_usd == 5
    (letter,) = await list_dead_letters(database)
    assert letter.letter_id == "bad/settled/2"
    assert "refused a value" in letter.reason
    assert decode_record(json.loads(letter.payload)) == bad


async def test_a_dead_letter_waits_for_the_database() -> None:
    """
    A record is refused, and the database is away when it is to be kept: it is tried again, and kept
    once.
    """

    class AwayLedger(MemoryLedger):
        @override
        async def bury(self, record: RequestEnded, reason: str) -> None:
            if not self.batches:
                self.batches.append(0)
                raise StoreUnavailableError("away")
            await super().bury(record, reason)

    bad = ended("r1", 7)
    ledger, notes = AwayLedger(refused=bad), Notes()

    assert await fed(ledger, notes, [bad]) == 0

    assert ledger.buried == [(bad, "refused")]
    assert notes.pauses_s == [0.1]


async def test_a_failing_acknowledgement_does_not_append_twice() -> None:
    """
    What the ledger has it keeps once, whatever becomes of the acknowledgement.
    """
    records = [ended("r1"), ended("r2")]
    ledger, notes = MemoryLedger(), Notes(failing=True)

    assert await fed(ledger, notes, records) == 0

    assert ledger.kept == records


async def test_drain_tells_how_many_are_missing() -> None:
    """
    With the database away for good the drain ends in time and counts what is not there.
    """
    ledger, notes = MemoryLedger(failures=10**9), Notes()
    journal = QueueJournal(ledger, on_appended=notes.acknowledge, sleep=notes.sleep)
    await journal.start()
    journal.put(ended("r1"))
    journal.put(ended("r2"))

    assert await journal.drain(0.01) == 2

    await journal.aclose()


async def test_draining_nothing_takes_no_time() -> None:
    """
    An empty journal is drained, started or not.
    """
    journal = QueueJournal(MemoryLedger(), on_appended=Notes().acknowledge)

    assert await journal.drain(0) == 0
