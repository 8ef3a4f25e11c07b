"""
Names of the keys in Redis.

A customer's keys share one of 64 hash tags, so that a script that moves its money touches one slot
of a cluster. A customer id has no braces or spaces, and a window's key a fixed form, so no two
accounts share a name.
"""

from zlib import crc32

from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.periods import PeriodWindow

BUCKETS = 64


def bucket_of(customer_id: CustomerId) -> int:
    """Return the customer's bucket, 0 to 63: the same for ever, in every process."""
    return crc32(customer_id.encode()) % BUCKETS


def account_key(customer_id: CustomerId, window: PeriodWindow) -> str:
    """Return the key of one customer's account in one period."""
    return f"{_prefix(customer_id)}:a:{customer_id}:{window.key}"


def hold_key(customer_id: CustomerId, hold_id: HoldId) -> str:
    """Return the key of a hold."""
    return f"{_prefix(customer_id)}:h:{hold_id}"


def open_holds_key(customer_id: CustomerId) -> str:
    """Return the key of the bucket's open holds, sorted by expiry."""
    return f"{_prefix(customer_id)}:open"


def _prefix(customer_id: CustomerId) -> str:
    return f"relay:{{{bucket_of(customer_id):02d}}}"
