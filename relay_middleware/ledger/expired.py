"""
Expired requests: those of which the ledger does not know what they came to, as the holds that they
were.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Row, select

from relay_middleware.core.holds import Account, Hold, HoldFacts, HoldState
from relay_middleware.core.identifiers import ApiKeyId, CustomerId, HoldId
from relay_middleware.core.instants import from_us, to_us
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import UTC_CALENDAR, windows_of
from relay_middleware.ledger.calendars import UnknownZoneError, calendar_from, own_calendars
from relay_middleware.ledger.database import SUMS_TIMEOUT_S, Database
from relay_middleware.ledger.tables import REQUEST

log = structlog.get_logger("relay")

_AT_ONCE = 100
"""Requests whose periods are computed in one go: some milliseconds, in which nobody is served."""


async def list_expired(database: Database, since: datetime | None = None) -> Sequence[Hold]:
    """
    Return the holds of all requests that are expired, without limits and without tokens.

    A customer's in a zone that this machine does not know is left out, and logged.

    Args:
        since: Those only that expired then or later.
    """
    query = select(REQUEST).where(REQUEST.c.state == HoldState.EXPIRED.value)
    if since is not None:
        query = query.where(REQUEST.c.ended_at_us >= to_us(since))
    found: list[Hold] = []
    async with database.connect(timeout_s=SUMS_TIMEOUT_S) as connection:
        own = await own_calendars(connection)
        async for rows in (await connection.stream(query)).partitions(_AT_ONCE):
            for row in rows:
                try:
                    found.append(_hold(row, own))
                except UnknownZoneError as error:
                    # Without a traceback: the zone is wrong, not the code.
                    log.error(  # noqa: TRY400
                        "hold_left_out", hold_id=row.id, reason=str(error)
                    )
    return found


def _hold(row: Row[Any], own_calendars_: Mapping[CustomerId, Row[Any]]) -> Hold:
    customer_id, reserved_at = CustomerId(row.customer_id), from_us(row.reserved_at_us)
    own = own_calendars_.get(customer_id)
    calendar = UTC_CALENDAR if own is None else calendar_from(own)
    return Hold(
        hold_id=HoldId(row.id),
        customer_id=customer_id,
        amount_nano_usd=NanoUsd(row.hold_nano_usd),
        accounts=tuple(
            Account(window=window, limit_nano_usd=None)
            for window in windows_of(reserved_at, calendar)
        ),
        ttl_s=0,
        facts=HoldFacts(
            api_key_id=ApiKeyId(row.api_key_id),
            tier=row.tier,
            endpoint=row.endpoint,
            model=row.model,
            is_stream=row.is_stream,
            is_bound_exact=row.is_bound_exact,
            reserved_at=reserved_at,
        ),
    )
