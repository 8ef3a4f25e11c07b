"""
Booking: what ended is written into the ledger past the journal.
"""

from collections.abc import Sequence

from relay_middleware.bugs import log_refused_record
from relay_middleware.core.records import RequestEnded
from relay_middleware.errors import RecordRefusedError
from relay_middleware.ports.books import Ledger


async def book(ledger: Ledger, records: Sequence[RequestEnded]) -> None:
    """
    Append *records*; what *ledger* never takes becomes a dead letter, and keeps no other out.

    Raises:
        StoreUnavailableError: Not all of them are there; they may be booked again.
    """
    try:
        await ledger.append(records)
    except RecordRefusedError as error:
        if len(records) > 1:
            for record in records:
                await book(ledger, [record])
            return
        await ledger.bury(records[0], str(error))
        log_refused_record(records[0], error)
