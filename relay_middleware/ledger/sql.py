"""
The ledger in SQL: appended to, in batches, each record once.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, Self

from sqlalchemy import Insert, Table, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

from relay_middleware.core.holds import Hold, HoldState
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.records import LedgerRecord, RequestEnded
from relay_middleware.errors import RecordRefusedError
from relay_middleware.ledger.adjustments import list_adjustments
from relay_middleware.ledger.database import Database, among
from relay_middleware.ledger.dead_letters import keep_dead_letter, letter_of
from relay_middleware.ledger.expired import list_expired
from relay_middleware.ledger.rows import Row, attempt_rows, customer_row, request_row
from relay_middleware.ledger.sums import open_spends, spends
from relay_middleware.ledger.tables import ATTEMPT, CUSTOMER, REQUEST
from relay_middleware.ports.books import LedgerAdjustment
from relay_middleware.ports.stores import Spend

_ASKED_AT_ONCE = 1000
"""Requests in one answer: after hours without a database there may be very many."""

MAX_CUSTOMERS = 100_000
"""Of whom it is remembered that they have their row; some 10 MB."""


class LedgerConflictError(RecordRefusedError):
    """The ledger has the same request with another charge: a bug of ours, never overwritten."""


@dataclass(frozen=True, slots=True)
class _Statement:
    """
    An insert as the driver takes it. Rows go to it past SQLAlchemy, which takes as long to look at
    each of them as SQLite to write it.

    In PostgreSQL all rows are one statement, an array for each column: the rows are locked before
    the hours whose sums change with them, so that of two batches none waits for the other for ever.

    Attributes:
        names: Of its values, in their order.
        constants: Those that are no row's.
        takes_arrays: Whether it takes all rows at once.
    """

    text: str
    names: Sequence[str]
    constants: Mapping[str, object]
    takes_arrays: bool

    @classmethod
    def of(cls, insert: SQLCompiler) -> Self:
        """Take the statement that SQLAlchemy has made."""
        names = insert.positiontup or ()
        takes_arrays = insert.dialect.name == "postgresql"
        return cls(
            _of_arrays(str(insert)) if takes_arrays else str(insert),
            names,
            {name: insert.params[name] for name in names},
            takes_arrays,
        )

    def values(self, rows: Sequence[Row]) -> Sequence[Any]:
        """Return the values of *rows*, which have the same names."""
        if self.takes_arrays:
            return tuple(
                [row[name] for row in rows] if name in rows[0] else self.constants[name]
                for name in self.names
            )
        in_order = itemgetter(*self.names)
        return [in_order({**self.constants, **row}) for row in rows]


def _of_arrays(insert: str) -> str:
    """Return *insert*, of one row, for arrays of the values of each column."""
    head, _, rest = insert.partition(" VALUES (")
    values, _, conflict = rest.partition(") ON CONFLICT ")
    arrays = ", ".join(f"{value}[]" for value in values.split(", "))
    return f"{head} SELECT * FROM unnest({arrays}) ON CONFLICT {conflict}"  # noqa: S608 - of ours


class SqlLedger:
    """`Ledger` in a SQL database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Have their row, as far as anybody has said: none is ever taken out again.
        self._customers: set[CustomerId] = set()
        self._statements: dict[str, _Statement] = {}

    async def append(self, records: Sequence[LedgerRecord]) -> None:
        """
        Add *records* in one transaction; a record that is there already is left as it is, but for
        one of an expired request, which a settled or released one replaces, in whichever order they
        come.

        Raises:
            StoreUnavailableError: Nothing was written; the same batch may be appended again.
            LedgerConflictError: One is there already with another charge. Nothing was written.
            ValueRefusedError: The database never takes one of them. Nothing was written.
        """
        if not records:
            return
        try:
            await self._append(records)
        except RecordRefusedError:
            if not self._customers:
                raise
            # The database may have been put back to a copy that lacks some of their rows.
            self._customers.clear()
            await self._append(records)

    async def _append(self, records: Sequence[LedgerRecord]) -> None:
        ended = [record for record in records if isinstance(record, RequestEnded)]
        final = [record for record in ended if record.state is not HoldState.EXPIRED]
        by_id: dict[HoldId, RequestEnded] = {}
        # Of several of one request the first that tells its end, or else the first.
        for record in (*final, *ended):
            by_id.setdefault(record.hold_id, record)
        # In one order in every process, so that two batches never wait for each other.
        requests = [by_id[hold_id] for hold_id in sorted(by_id)]
        # Of an expired request nobody knows the attempts; they come with the record that does.
        attempts = [
            row
            for record in requests
            if record.state is not HoldState.EXPIRED
            for row in attempt_rows(record)
        ]
        customers = {
            record.customer_id: customer_row(record)
            for record in reversed(records)
            if record.customer_id not in self._customers
        }
        async with self._database.begin() as connection:
            await self._insert(connection, CUSTOMER, [customers[key] for key in sorted(customers)])
            await self._insert(connection, REQUEST, [request_row(record) for record in requests])
            await self._insert(connection, ATTEMPT, attempts)
            await _compare(connection, final)
        if len(self._customers) > MAX_CUSTOMERS:
            self._customers.clear()
        self._customers.update(customers)

    async def bury(self, record: RequestEnded, reason: str) -> None:
        """Keep *record*, which it never takes, as a dead letter."""
        await keep_dead_letter(self._database, letter_of(record, reason))

    async def _insert(self, connection: AsyncConnection, table: Table, rows: list[Row]) -> None:
        if rows:
            statement = self._statements.get(table.name)
            if statement is None:
                made = self._inserting(table).compile(
                    dialect=self._database.engine.dialect, column_keys=list(rows[0])
                )
                statement = self._statements[table.name] = _Statement.of(made)
            await connection.exec_driver_sql(statement.text, statement.values(rows))

    def _inserting(self, table: Table) -> Insert:
        """Insert what is not there; but an expired request makes way for how it ended."""
        insert = self._database.insert_into(table)
        if table is not REQUEST:
            return insert.on_conflict_do_nothing()
        return insert.on_conflict_do_update(
            index_elements=["id"],
            set_={column.name: column for column in insert.excluded if column.name != "id"},
            where=and_(
                REQUEST.c.state == HoldState.EXPIRED.value,
                insert.excluded.state != HoldState.EXPIRED.value,
            ),
        )

    async def states(self, hold_ids: Sequence[HoldId]) -> Mapping[HoldId, HoldState]:
        """Return how those of *hold_ids* ended whose request it has."""
        found: dict[HoldId, HoldState] = {}
        async with self._database.connect() as connection:
            for start in range(0, len(hold_ids), _ASKED_AT_ONCE):
                some = hold_ids[start : start + _ASKED_AT_ONCE]
                query = select(REQUEST.c.id, REQUEST.c.state).where(
                    among(connection, REQUEST.c.id, some)
                )
                for row in await connection.execute(query):
                    found[HoldId(row.id)] = HoldState(row.state)
        return found

    def spends(self, at: datetime) -> AsyncIterator[Sequence[Spend]]:
        """
        Yield what each customer has spent in its periods that contain *at*, in batches; what is
        zero is left out.
        """
        return spends(self._database, at)

    def open_spends(self, at: datetime) -> AsyncIterator[Sequence[Spend]]:
        """Yield the same without lifetimes, and without reading what is older than a month."""
        return open_spends(self._database, at)

    async def expired(self, since: datetime | None = None) -> Sequence[Hold]:
        """Return the holds of requests of which it does not know what they came to."""
        return await list_expired(self._database, since)

    async def adjustments(self, at: datetime) -> Sequence[LedgerAdjustment]:
        """Return the adjustments of all accounts whose period contains *at*."""
        return await list_adjustments(self._database, at)


async def _compare(connection: AsyncConnection, final: Sequence[RequestEnded]) -> None:
    """What was there already must be what is there now: same id with other values is no silence."""
    charge_by_id = {str(record.hold_id): record.charge_nano_usd for record in final}
    query = select(REQUEST.c.id, REQUEST.c.charge_nano_usd).where(
        among(connection, REQUEST.c.id, charge_by_id)
    )
    for request_id, charge in await connection.execute(query):
        if charge != charge_by_id[request_id]:
            raise LedgerConflictError(
                f"the ledger has request {request_id} with a charge of {charge} nano-dollars, not"
                f" {charge_by_id[request_id]}"
            )
