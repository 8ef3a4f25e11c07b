"""
Corrections: money that an operator gives a customer, or takes back from the books.

Each is an operation, applied once. What is charged is never changed: a refund stands beside it.
"""

from typing import Any

from sqlalchemy import ColumnElement, Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from relay_middleware.core.holds import Adjustment, HoldState
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.instants import from_us
from relay_middleware.core.money import MAX_NANO_USD, NO_MONEY, NanoUsd, format_cents
from relay_middleware.core.periods import Period, PeriodWindow, window_of, windows_of
from relay_middleware.errors import RelayError
from relay_middleware.ledger.adjustments import adjustment_row, contains
from relay_middleware.ledger.calendars import calendar_of
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.operations import (
    CustomerChange,
    Operation,
    OperationEntry,
    apply_once,
    change_customer,
    lock_customer,
)
from relay_middleware.ledger.tables import ADJUSTMENT, REQUEST
from relay_middleware.ports.books import LedgerAdjustment


class CorrectionRefusedError(RelayError):
    """The books do not allow it. Nothing was changed."""


async def credit(
    database: Database,
    operation: Operation,
    change: CustomerChange,
    *,
    period: Period,
    amount_nano_usd: NanoUsd,
    note: str | None = None,
) -> PeriodWindow:
    """
    Let the customer spend *amount_nano_usd* on top of its limit, in the running *period* alone; a
    negative amount takes back what was given so.

    Returns:
        The period it is for.

    Raises:
        CorrectionRefusedError: More is taken back than was given, or given than can be counted.
        UnknownZoneError: Nobody can say which period is running.
    """
    async with database.connect() as connection:
        # A calendar that changes meanwhile leaves the running period as it is.
        calendar = await calendar_of(connection, change.customer_id)
    window = window_of(period, operation.at, calendar)
    made = LedgerAdjustment(
        customer_id=change.customer_id,
        window=window,
        adjustment=Adjustment(
            operation_id=operation.operation_id,
            posted_nano_usd=NO_MONEY,
            credit_nano_usd=amount_nano_usd,
        ),
    )

    async def work(connection: AsyncConnection) -> None:
        await _check_credit(connection, made, operation)
        row = adjustment_row(made, operation.at, request_id=None, note=note)
        await connection.execute(ADJUSTMENT.insert().values(row))

    details = {"period": period.value, "credit_nano_usd": amount_nano_usd, "note": note}
    entry = OperationEntry(kind="credit", subject=change.customer_id, details=details)
    await change_customer(database, operation, change, entry, work)
    return window


async def _check_credit(
    connection: AsyncConnection, made: LedgerAdjustment, operation: Operation
) -> None:
    period, amount = made.window.period.value, made.adjustment.credit_nano_usd
    given = await _sum(
        connection,
        ADJUSTMENT.c.credit_nano_usd,
        ADJUSTMENT.c.customer_id == made.customer_id,
        ADJUSTMENT.c.period == period,
        contains(operation.at),
    )
    if not 0 <= given + amount <= MAX_NANO_USD:
        raise CorrectionRefusedError(
            f"customer {made.customer_id} has a credit of {format_cents(given)} cents per {period};"
            f" with {format_cents(amount)} more it would not be from 0 to"
            f" {format_cents(MAX_NANO_USD)}"
        )


async def refund(
    database: Database,
    operation: Operation,
    *,
    customer_id: CustomerId,
    request_id: HoldId,
    amount_nano_usd: NanoUsd,
    note: str | None = None,
) -> NanoUsd:
    """
    Take back *amount_nano_usd* of what a request was charged, in all periods that it counted for.

    Returns:
        What stays charged.

    Raises:
        CorrectionRefusedError: The customer has no such request, or it was charged less, earlier
            refunds taken off.
        UnknownZoneError: Nobody can say which periods it counted for.
    """

    async def work(connection: AsyncConnection) -> None:
        await lock_customer(connection, customer_id)
        request = await _request(connection, request_id)
        if request.customer_id != customer_id:
            raise CorrectionRefusedError(
                f"request {request_id} is of customer {request.customer_id}, not of {customer_id}"
            )
        refunded = await _refunded(connection, request_id)
        if amount_nano_usd > request.charge_nano_usd - refunded:
            raise CorrectionRefusedError(_too_much(request, refunded, amount_nano_usd))
        await _take_back(connection, request, operation, amount_nano_usd, note)

    details = {"request_id": request_id, "amount_nano_usd": amount_nano_usd, "note": note}
    entry = OperationEntry(kind="refund", subject=customer_id, details=details)
    await apply_once(database, operation, entry, work)
    async with database.connect() as connection:
        request = await _request(connection, request_id)
        return NanoUsd(request.charge_nano_usd - await _refunded(connection, request_id))


async def resolve(
    database: Database, operation: Operation, request_id: HoldId, *, is_charged: bool
) -> NanoUsd:
    """
    Decide what an expired request came to: all that was set aside for it, or nothing.

    It is settled for its hold, which is what counts against the limits already, and in the second
    case refunded at once, so that all counters follow.

    Returns:
        What had been set aside.

    Raises:
        CorrectionRefusedError: There is no such request, or it is not expired (any more).
        UnknownZoneError: Nobody can say which periods it counts for.
    """
    statement = (
        update(REQUEST)
        .where(REQUEST.c.id == request_id, REQUEST.c.state == HoldState.EXPIRED.value)
        .values(state=HoldState.SETTLED.value, charge_nano_usd=REQUEST.c.hold_nano_usd)
    )

    async def work(connection: AsyncConnection) -> None:
        settled = await connection.execute(statement)
        request = await _request(connection, request_id)
        if settled.rowcount == 0:
            raise CorrectionRefusedError(
                f"request {request_id} is {request.state}: there is nothing to decide"
            )
        if not is_charged:
            await _take_back(connection, request, operation, request.hold_nano_usd, "released")

    details = {"is_charged": is_charged}
    entry = OperationEntry(kind="resolve", subject=request_id, details=details)
    await apply_once(database, operation, entry, work)
    async with database.connect() as connection:
        request = await _request(connection, request_id)
    return NanoUsd(request.hold_nano_usd)


async def _take_back(
    connection: AsyncConnection,
    request: Row[Any],
    operation: Operation,
    amount_nano_usd: int,
    note: str | None,
) -> None:
    """Write a refund's rows: one for each account that *request* counted for."""
    customer_id = CustomerId(request.customer_id)
    calendar = await calendar_of(connection, customer_id)
    for window in windows_of(from_us(request.reserved_at_us), calendar):
        made = LedgerAdjustment(
            customer_id=customer_id,
            window=window,
            adjustment=Adjustment(
                operation_id=f"{operation.operation_id}:{window.period.value}",
                posted_nano_usd=NanoUsd(-amount_nano_usd),
                credit_nano_usd=NO_MONEY,
            ),
        )
        row = adjustment_row(made, operation.at, request_id=HoldId(request.id), note=note)
        await connection.execute(ADJUSTMENT.insert().values(row))


async def _request(connection: AsyncConnection, request_id: HoldId) -> Row[Any]:
    query = select(REQUEST).where(REQUEST.c.id == request_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise CorrectionRefusedError(f"the ledger has no request {request_id}")
    return row


async def _refunded(connection: AsyncConnection, request_id: HoldId) -> NanoUsd:
    """Return what was taken back of a request's charge."""
    # A lifetime has all of them.
    is_refund = ADJUSTMENT.c.request_id == request_id
    is_lifetime = ADJUSTMENT.c.period == Period.LIFETIME.value
    return NanoUsd(-await _sum(connection, ADJUSTMENT.c.posted_nano_usd, is_refund, is_lifetime))


async def _sum(
    connection: AsyncConnection, column: ColumnElement[int], *conditions: ColumnElement[bool]
) -> NanoUsd:
    query = select(func.coalesce(func.sum(column), 0)).where(*conditions)
    return NanoUsd(int((await connection.execute(query)).scalar_one()))


def _too_much(request: Row[Any], refunded: NanoUsd, wanted: NanoUsd) -> str:
    if request.state == HoldState.EXPIRED.value:
        return (
            f"request {request.id} expired, so nothing is charged for it yet: 'relay customers"
            " resolve' decides whether it is"
        )
    earlier = f", of which {format_cents(refunded)} are refunded" if refunded else ""
    return (
        f"request {request.id} was charged {format_cents(request.charge_nano_usd)} cents{earlier}:"
        f" {format_cents(wanted)} cannot be taken back"
    )
