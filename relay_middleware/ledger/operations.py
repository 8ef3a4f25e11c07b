"""
Operations: what an operator changes, each in one transaction, applied once.

Every change raises the revision, which is how running servers learn of it.
"""

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Executable, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from relay_middleware.core.identifiers import ApiKeyId, CustomerId
from relay_middleware.core.instants import to_us
from relay_middleware.core.keys import KEY_PREFIX, ApiKey, KeyRight, hash_key
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period
from relay_middleware.core.tiers import CustomerStatus
from relay_middleware.errors import RelayError
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.tables import API_KEY, CUSTOMER, CUSTOMER_OVERRIDE, OPERATION, REVISION


class UnknownKeyError(RelayError):
    """There is no key of that id."""


class RepeatedOperationError(RelayError):
    """An operation of that id was applied before, and what it gave cannot be given again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """
    One change, as its maker names it.

    Attributes:
        operation_id: Makes it idempotent: the second of the same id changes nothing.
        at: When; aware, UTC.
    """

    operation_id: str
    at: datetime


async def create_key(
    database: Database,
    operation: Operation,
    *,
    right: KeyRight,
    customer_id: CustomerId | None = None,
) -> tuple[ApiKey, str]:
    """
    Create a key and return it with its secret, which is stored nowhere and never shown again.

    Args:
        customer_id: The customer it is bound to, exactly where *right* is `CUSTOMER`.

    Raises:
        RepeatedOperationError: The operation was applied before. Its key stands, no other was made.
        StoreUnavailableError: The database did not answer.
    """
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    key_hash = hash_key(secret)
    key = ApiKey(api_key_id=ApiKeyId(f"key_{key_hash[:12]}"), right=right, customer_id=customer_id)
    row = {
        "id": key.api_key_id,
        "hash": key_hash,
        "hint": secret[-4:],
        "key_right": right.value,
        "customer_id": customer_id,
        "created_at_us": to_us(operation.at),
    }
    entry = OperationEntry(
        kind="create_key",
        subject=key.api_key_id,
        details={"right": right.value, "customer_id": customer_id},
    )
    if not await apply_once(database, operation, entry, _executing(API_KEY.insert().values(row))):
        raise RepeatedOperationError(
            f"operation {operation.operation_id} was applied before; if it made a key, its secret"
            " was shown then: revoke that key and create another one with a new operation"
        )
    return key, secret


async def revoke_key(database: Database, operation: Operation, api_key_id: ApiKeyId) -> None:
    """
    End a key. One that was revoked before stays revoked since then.

    Raises:
        UnknownKeyError: There is no such key.
        StoreUnavailableError: The database did not answer.
    """
    statement = (
        update(API_KEY)
        .where(API_KEY.c.id == api_key_id, API_KEY.c.revoked_at_us.is_(None))
        .values(revoked_at_us=to_us(operation.at))
    )
    async with database.connect() as connection:
        found = await connection.execute(API_KEY.select().where(API_KEY.c.id == api_key_id))
        if found.one_or_none() is None:
            raise UnknownKeyError(
                f"there is no key {api_key_id}: 'relay keys list' shows those there are"
            )
    entry = OperationEntry(kind="revoke_key", subject=api_key_id, details={})
    await apply_once(database, operation, entry, _executing(statement))


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerChange:
    """
    Whom a change is about.

    Attributes:
        tier: Of the row that is made if the customer is not known yet.
    """

    customer_id: CustomerId
    tier: str


async def set_tier(database: Database, operation: Operation, change: CustomerChange) -> None:
    """Put the customer on `change.tier`, from the next request on; create it if need be."""
    statement = update(CUSTOMER).where(CUSTOMER.c.id == change.customer_id).values(tier=change.tier)
    entry = OperationEntry(
        kind="set_tier", subject=change.customer_id, details={"tier": change.tier}
    )
    await change_customer(database, operation, change, entry, _executing(statement))


async def set_status(
    database: Database, operation: Operation, change: CustomerChange, status: CustomerStatus
) -> None:
    """Block the customer, or serve it again."""
    statement = (
        update(CUSTOMER).where(CUSTOMER.c.id == change.customer_id).values(status=status.value)
    )
    entry = OperationEntry(
        kind="set_status", subject=change.customer_id, details={"status": status.value}
    )
    await change_customer(database, operation, change, entry, _executing(statement))


async def set_spend_limit(
    database: Database,
    operation: Operation,
    change: CustomerChange,
    *,
    period: Period,
    limit_nano_usd: NanoUsd | None,
) -> None:
    """Give the customer a limit of its own for *period*; None lifts the tier's."""
    values = {"limit_nano_usd": limit_nano_usd}
    key = {"customer_id": change.customer_id, "period": period.value}
    insert = database.insert_into(CUSTOMER_OVERRIDE).values({**key, **values})
    upsert = insert.on_conflict_do_update(index_elements=["customer_id", "period"], set_=values)
    entry = OperationEntry(
        kind="set_spend_limit",
        subject=change.customer_id,
        details={"period": period.value, **values},
    )
    await change_customer(database, operation, change, entry, _executing(upsert))


async def reset_spend_limit(
    database: Database, operation: Operation, change: CustomerChange, *, period: Period
) -> None:
    """Let the tier's limit for *period* apply to the customer again."""
    statement = delete(CUSTOMER_OVERRIDE).where(
        CUSTOMER_OVERRIDE.c.customer_id == change.customer_id,
        CUSTOMER_OVERRIDE.c.period == period.value,
    )
    entry = OperationEntry(
        kind="reset_spend_limit", subject=change.customer_id, details={"period": period.value}
    )
    await change_customer(database, operation, change, entry, _executing(statement))


# What every operation goes through.

Work = Callable[[AsyncConnection], Awaitable[None]]
"""What an operation does inside its transaction; what it raises undoes all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEntry:
    """
    What is remembered of an operation.

    Attributes:
        subject: The key or customer that it is about.
    """

    kind: str
    subject: str
    details: Mapping[str, object]


async def change_customer(
    database: Database,
    operation: Operation,
    change: CustomerChange,
    entry: OperationEntry,
    work: Work,
) -> bool:
    """
    Do as `apply_once`, with the customer's row there, and locked: of two operations on one customer
    the second sees what the first did.
    """
    row = {
        "id": change.customer_id,
        "tier": change.tier,
        "status": CustomerStatus.ACTIVE.value,
        "created_at_us": to_us(operation.at),
    }

    async def on_customer(connection: AsyncConnection) -> None:
        new = database.insert_into(CUSTOMER).values(row).on_conflict_do_nothing()
        await connection.execute(new)
        await lock_customer(connection, change.customer_id)
        await work(connection)

    return await apply_once(database, operation, entry, on_customer)


async def lock_customer(connection: AsyncConnection, customer_id: CustomerId) -> None:
    """Wait for other operations on the customer, whose row is there, and keep them out."""
    # Not from what the ledger appends, which refers to the row and changes nothing of it. SQLite
    # ignores it: its one writer keeps all others out.
    query = select(CUSTOMER.c.id).where(CUSTOMER.c.id == customer_id)
    await connection.execute(query.with_for_update(key_share=True))


async def apply_once(
    database: Database, operation: Operation, entry: OperationEntry, work: Work
) -> bool:
    """
    Do *work* in one transaction with the entry of it, and raise the revision.

    Returns:
        Whether it was done: not where an operation of the same id was before.
    """
    row = {
        "id": operation.operation_id,
        "kind": entry.kind,
        "subject": entry.subject,
        "details": json.dumps(entry.details),
        "created_at_us": to_us(operation.at),
    }
    async with database.begin() as connection:
        new = database.insert_into(OPERATION).values(row).on_conflict_do_nothing()
        noted = await connection.execute(new)
        if noted.rowcount == 0:
            return False
        await work(connection)
        await connection.execute(update(REVISION).values(number=REVISION.c.number + 1))
    return True


def _executing(statement: Executable) -> Work:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(statement)

    return work
