"""
Operations: what an operator changes, each in one transaction, applied once.

Every change raises the revision, which is how running servers learn of it.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Executable, Insert, Table, delete, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from relay_middleware.core.identifiers import ApiKeyId, CustomerId
from relay_middleware.core.keys import KEY_PREFIX, ApiKey, KeyRight, hash_key
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period
from relay_middleware.core.tiers import CustomerStatus
from relay_middleware.errors import RelayError
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.tables import (
    API_KEY,
    CUSTOMER,
    CUSTOMER_OVERRIDE,
    OPERATION,
    REVISION,
    to_us,
)


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
    details = {"right": right.value, "customer_id": customer_id}
    is_new = await _apply(
        database, operation, "create_key", key.api_key_id, details, API_KEY.insert().values(row)
    )
    if not is_new:
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
    await _apply(database, operation, "revoke_key", api_key_id, {}, statement)


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
    await _change(database, operation, "set_tier", change, {"tier": change.tier}, statement)


async def set_status(
    database: Database, operation: Operation, change: CustomerChange, status: CustomerStatus
) -> None:
    """Block the customer, or serve it again."""
    statement = (
        update(CUSTOMER).where(CUSTOMER.c.id == change.customer_id).values(status=status.value)
    )
    await _change(database, operation, "set_status", change, {"status": status.value}, statement)


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
    if database.is_sqlite:
        lite = sqlite_insert(CUSTOMER_OVERRIDE).values({**key, **values})
        statement: Executable = lite.on_conflict_do_update(
            index_elements=["customer_id", "period"], set_=values
        )
    else:
        postgresql = postgresql_insert(CUSTOMER_OVERRIDE).values({**key, **values})
        statement = postgresql.on_conflict_do_update(
            index_elements=["customer_id", "period"], set_=values
        )
    details = {"period": period.value, **values}
    await _change(database, operation, "set_spend_limit", change, details, statement)


async def reset_spend_limit(
    database: Database, operation: Operation, change: CustomerChange, *, period: Period
) -> None:
    """Let the tier's limit for *period* apply to the customer again."""
    statement = delete(CUSTOMER_OVERRIDE).where(
        CUSTOMER_OVERRIDE.c.customer_id == change.customer_id,
        CUSTOMER_OVERRIDE.c.period == period.value,
    )
    details = {"period": period.value}
    await _change(database, operation, "reset_spend_limit", change, details, statement)


async def _change(  # noqa: PLR0917 - one private place that every change goes through
    database: Database,
    operation: Operation,
    kind: str,
    change: CustomerChange,
    details: Mapping[str, object],
    statement: Executable,
) -> None:
    row = {
        "id": change.customer_id,
        "tier": change.tier,
        "status": CustomerStatus.ACTIVE.value,
        "created_at_us": to_us(operation.at),
    }
    create = _insert_new(database, CUSTOMER, row)
    await _apply(database, operation, kind, change.customer_id, details, create, statement)


async def _apply(
    database: Database,
    operation: Operation,
    kind: str,
    subject: str,
    details: Mapping[str, object],
    *statements: Executable,
) -> bool:
    """Return whether it was applied: not where an operation of its id was before."""
    row = {
        "id": operation.operation_id,
        "kind": kind,
        "subject": subject,
        "details": json.dumps(details),
        "created_at_us": to_us(operation.at),
    }
    async with database.begin() as connection:
        noted = await connection.execute(_insert_new(database, OPERATION, row))
        if noted.rowcount == 0:
            return False
        for statement in statements:
            await connection.execute(statement)
        await connection.execute(update(REVISION).values(number=REVISION.c.number + 1))
    return True


def _insert_new(database: Database, table: Table, row: Mapping[str, object]) -> Insert:
    insert = sqlite_insert if database.is_sqlite else postgresql_insert
    return insert(table).values(row).on_conflict_do_nothing()
