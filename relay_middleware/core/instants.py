"""
Instants as they are written down: whole microseconds since 1970 UTC.
"""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(at: datetime) -> int:
    """Return the aware instant *at* in whole microseconds since 1970 UTC, exactly."""
    # By hand: half the time of dividing by a timedelta, and a request needs it ten times.
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_us(us: int) -> datetime:
    """
    Return the instant, aware and in UTC: the inverse of `to_us`.

    Raises:
        OverflowError: It is beyond the years 1 to 9999.
    """
    return _EPOCH + timedelta(microseconds=us)
