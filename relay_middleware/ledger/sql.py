"""
The ledger in SQL: appended to, in batches, each record once.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Table, func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from relay_middleware.core.holds import HoldState
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.core.records import LedgerRecord, RequestEnded
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.rows import Row, attempt_rows, customer_row, request_row
from relay_middleware.ledger.tables import ATTEMPT, CUSTOMER, REQUEST, to_us


class LedgerConflictError(Exception):
    """The ledger has the same request with another charge: a bug of ours, never overwritten."""


class SqlLedger:
    """`Ledger` in a SQL database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, records: Sequence[LedgerRecord]) -> None:
        """
        Add *records* in one transaction; a record that is there already is left as it is.

        Raises:
            StoreUnavailableError: Nothing was written; the same batch may be appended again.
            LedgerConflictError: One is there already with another charge. Nothing was written.
            ValueRefusedError: The database never takes one of them. Nothing was written.
        """
        if not records:
            return
        # In one order in every process, so that two batches never wait for each other.
        ended = sorted(
            (record for record in records if isinstance(record, RequestEnded)),
            key=lambda record: record.hold_id,
        )
        attempts = [row for record in ended for row in attempt_rows(record)]
        customers = {record.customer_id: customer_row(record) for record in reversed(records)}
        async with self._database.begin() as connection:
            await self._insert(connection, CUSTOMER, [customers[key] for key in sorted(customers)])
            await self._insert(connection, REQUEST, [request_row(record) for record in ended])
            await self._insert(connection, ATTEMPT, attempts)
            await _compare(connection, ended)

    async def _insert(self, connection: AsyncConnection, table: Table, rows: list[Row]) -> None:
        if rows:
            insert = sqlite_insert if self._database.is_sqlite else postgresql_insert
            await connection.execute(insert(table).on_conflict_do_nothing(), rows)

    async def posted(
        self, windows: Sequence[PeriodWindow]
    ) -> Sequence[tuple[CustomerId, PeriodWindow, NanoUsd]]:
        """Sum the settled charges by customer, for each of *windows*; sums of zero are left out."""
        sums = []
        async with self._database.connect() as connection:
            for window in windows:
                charged = func.sum(REQUEST.c.charge_nano_usd)
                query = (
                    select(REQUEST.c.customer_id, charged)
                    .where(REQUEST.c.state == HoldState.SETTLED.value, *in_window(window))
                    .group_by(REQUEST.c.customer_id)
                    .having(charged > 0)
                )
                for customer_id, amount in await connection.execute(query):
                    sums.append((CustomerId(customer_id), window, NanoUsd(int(amount))))
        return sums


def in_window(window: PeriodWindow) -> list[ColumnElement[bool]]:
    """Return the conditions that a request was reserved in *window*: start inclusive, end not."""
    conditions: list[ColumnElement[bool]] = []
    if window.starts_at is not None:
        conditions.append(REQUEST.c.reserved_at_us >= to_us(window.starts_at))
    if window.ends_at is not None:
        conditions.append(REQUEST.c.reserved_at_us < to_us(window.ends_at))
    return conditions


async def _compare(connection: AsyncConnection, ended: Sequence[RequestEnded]) -> None:
    """What was there already must be what is there now: same id with other values is no silence."""
    charge_by_id = {str(record.hold_id): record.charge_nano_usd for record in ended}
    query = select(REQUEST.c.id, REQUEST.c.charge_nano_usd).where(REQUEST.c.id.in_(charge_by_id))
    for request_id, charge in await connection.execute(query):
        if charge != charge_by_id[request_id]:
            raise LedgerConflictError(
                f"the ledger has request {request_id} with a charge of {charge} nano-dollars, not"
                f" {charge_by_id[request_id]}"
            )
