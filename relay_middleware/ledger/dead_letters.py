"""
Dead letters: what the ledger refuses for good, kept for a correction by hand.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from relay_middleware.core.instants import from_us, to_us
from relay_middleware.core.journaled import encode_record
from relay_middleware.core.records import RequestEnded
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.tables import DEAD_LETTER


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """
    A record that will never be a row.

    Attributes:
        letter_id: Of the record; what makes keeping it idempotent.
        source: Where it came from, such as a stream's name.
        payload: The record as it came.
        reason: Why it was refused.
        first_seen_at: Aware, UTC.
    """

    letter_id: str
    source: str
    payload: str
    reason: str
    first_seen_at: datetime


async def keep_dead_letter(database: Database, letter: DeadLetter) -> bool:
    """
    Keep *letter*; the second of the same id changes nothing.

    What no database takes as text, such as a zero byte, is written as a backslash and its number:
    it may be the reason of the refusal.

    Returns:
        Whether it was not there already.

    Raises:
        StoreUnavailableError: The database did not answer.
    """
    row = {
        "id": _storable(letter.letter_id),
        "source": _storable(letter.source),
        "payload": _storable(letter.payload),
        "reason": _storable(letter.reason),
        "first_seen_us": to_us(letter.first_seen_at),
    }
    insert = database.insert_into(DEAD_LETTER).values(row)
    async with database.begin() as connection:
        kept = await connection.execute(insert.on_conflict_do_nothing())
    return kept.rowcount > 0


def letter_of(record: RequestEnded, reason: str) -> DeadLetter:
    """Return the letter of *record*: one for each way in which its hold is said to have ended."""
    state, charge = record.state.value, record.charge_nano_usd
    return DeadLetter(
        letter_id=f"{record.hold_id}/{state}/{charge}",
        source="request",
        # The standard library's: it writes whatever a text or number has in it.
        payload=json.dumps(encode_record(record)),
        reason=reason,
        first_seen_at=record.ended_at,
    )


async def list_dead_letters(database: Database) -> Sequence[DeadLetter]:
    """Return all of them, the oldest first."""
    query = select(DEAD_LETTER).order_by(DEAD_LETTER.c.first_seen_us, DEAD_LETTER.c.id)
    async with database.connect() as connection:
        return [
            DeadLetter(
                letter_id=row.id,
                source=row.source,
                payload=row.payload,
                reason=row.reason,
                first_seen_at=from_us(row.first_seen_us),
            )
            for row in await connection.execute(query)
        ]


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
