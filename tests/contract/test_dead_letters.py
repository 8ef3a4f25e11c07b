"""
What the ledger refuses for good is kept for a person.
"""

from datetime import timedelta

import pytest
from fixtures.records import AT

from relay_middleware.ledger.database import Database
from relay_middleware.ledger.dead_letters import DeadLetter, keep_dead_letter, list_dead_letters

pytestmark = pytest.mark.anyio


def letter(name: str = "1-0", payload: str = "{}", minutes: int = 0) -> DeadLetter:
    return DeadLetter(
        letter_id=name,
        source="relay:{07}:journal",
        payload=payload,
        reason="the ledger has request r1 with another charge",
        first_seen_at=AT + timedelta(minutes=minutes),
    )


async def test_a_letter_is_kept_once(database: Database) -> None:
    """
    The first of an id stays as it came, the oldest of all stands first.
    """
    assert await keep_dead_letter(database, letter("b", minutes=1))
    assert await keep_dead_letter(database, letter("a"))
    assert not await keep_dead_letter(database, letter("a", '{"changed": 1}', minutes=2))

    assert await list_dead_letters(database) == [letter("a"), letter("b", minutes=1)]


async def test_what_no_database_takes_is_kept_readably(database: Database) -> None:
    """
    A zero byte or half a character, which may be why the record was refused, does not keep it out.
    """
    await keep_dead_letter(database, letter(payload="flex\0 \ud800 é"))

    (kept,) = await list_dead_letters(database)

    assert kept.payload == r"flex\x00 \ud800 é"
