"""
What operators change is applied once, or refused in words.
"""

import pytest
from fixtures.records import AT
from sqlalchemy import select

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.keys import KeyRight
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period
from relay_middleware.ledger.database import Database, ValueRefusedError
from relay_middleware.ledger.operations import (
    CustomerChange,
    Operation,
    RepeatedOperationError,
    create_key,
    set_spend_limit,
)
from relay_middleware.ledger.reports import list_customers, list_keys
from relay_middleware.ledger.tables import OPERATION, REVISION

pytestmark = pytest.mark.anyio

BOB = CustomerChange(customer_id=CustomerId("bob"), tier="free")


def named(operation_id: str) -> Operation:
    return Operation(operation_id=operation_id, at=AT)


async def revision(database: Database) -> int:
    async with database.connect() as connection:
        number: int = (await connection.execute(select(REVISION.c.number))).scalar_one()
        return number


async def test_a_repeated_creation_gives_no_dead_secret(database: Database) -> None:
    """
    The secret of a key is given once: the same operation again is an error, not a key that is not
    stored, and it changes nothing.
    """
    key, _ = await create_key(database, named("1"), right=KeyRight.MANAGEMENT)

    with pytest.raises(RepeatedOperationError, match="operation 1 was applied before"):
        await create_key(database, named("1"), right=KeyRight.MANAGEMENT)

    assert [report.api_key_id for report in await list_keys(database)] == [key.api_key_id]
    assert await revision(database) == 1


async def test_a_refused_value_changes_nothing(database: Database) -> None:
    """
    A limit below zero breaks a constraint: no customer, no operation and no revision is left of it.
    """
    with pytest.raises(ValueRefusedError):
        await set_spend_limit(
            database, named("1"), BOB, period=Period.DAY, limit_nano_usd=NanoUsd(-1)
        )

    assert await list_customers(database) == []
    assert await revision(database) == 0
    async with database.connect() as connection:
        assert (await connection.execute(select(OPERATION.c.id))).all() == []
