"""
Bugs: what the log says of an exception that nobody expected, and of a record that nobody can book.
"""

import traceback

import structlog

from relay_middleware.core.records import LedgerRecord, RequestEnded
from relay_middleware.errors import RecordRefusedError

log = structlog.get_logger("relay")


def log_bug(event: str, error: Exception, **facts: object) -> None:
    """Log kind and place of *error*, not its text: that may hold what somebody sent."""
    stack = "".join(traceback.format_tb(error.__traceback__))
    log.error(event, error=type(error).__name__, stack=stack, **facts)


def log_refused_record(record: LedgerRecord, error: RecordRefusedError) -> None:
    """Log whom *record*, which is kept as a dead letter, would have charged, and how much."""
    facts: dict[str, object] = {"customer_id": record.customer_id, "reason": str(error)}
    if isinstance(record, RequestEnded):
        facts |= {"hold_id": record.hold_id, "charge_nano_usd": record.charge_nano_usd}
    # Without the exception: its cause quotes the statement with all its values.
    log.error("ledger_record_refused", **facts)
