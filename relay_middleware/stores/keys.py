"""
Names of the keys in Redis.

A customer's keys share one of 64 hash tags, so that a script that moves its money touches one slot
of a cluster. A customer id has no braces or spaces, and a window's key a fixed form, so no two
accounts share a name. Two limits of the same length share their count.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

from relay_middleware.core.holds import Hold
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.core.rates import RequestLimit, TokenLimit

BUCKETS = 64


def bucket_of(customer_id: CustomerId) -> int:
    """Return the customer's bucket, 0 to 63: the same for ever, in every process."""
    return crc32(customer_id.encode()) % BUCKETS


@dataclass(frozen=True, slots=True)
class Keys:
    """
    The names of one Relay's keys.

    Attributes:
        prefix: What all of them begin with: two Relays may share a Redis.
    """

    prefix: str = "relay"

    def beside_hold(self, hold: Hold, rate_limits: Iterable[RequestLimit] = ()) -> list[str]:
        """
        Return the keys that a script touches beside that of *hold*, which it opens or ends: as
        `lua/shared.lua` has them, its bucket's, its accounts, its token windows, and the windows of
        *rate_limits*.
        """
        customer_id = hold.customer_id
        bucket = bucket_of(customer_id)
        return [
            self.open_holds(bucket),
            self.places(customer_id),
            self.epoch(bucket),
            self.journal(bucket),
            *(self.account(customer_id, account.window) for account in hold.accounts),
            *(self.tokens(customer_id, limit) for limit in hold.token_limits),
            *(self.requests(customer_id, limit) for limit in rate_limits),
        ]

    def account(self, customer_id: CustomerId, window: PeriodWindow) -> str:
        """Return the key of one customer's account in one period."""
        return f"{self._of(customer_id)}:a:{customer_id}:{window.key}"

    def hold(self, bucket: int, hold_id: HoldId) -> str:
        """Return the key of a hold of a customer in *bucket*."""
        return f"{self._in(bucket)}:h:{hold_id}"

    def open_holds(self, bucket: int) -> str:
        """Return the key of a bucket's open holds, sorted by expiry."""
        return f"{self._in(bucket)}:open"

    def places(self, customer_id: CustomerId) -> str:
        """Return the key of one customer's places: its requests under way, sorted by expiry."""
        return f"{self._of(customer_id)}:p:{customer_id}"

    def tokens(self, customer_id: CustomerId, limit: TokenLimit) -> str:
        """Return the key of the window in which one customer's tokens are counted."""
        return f"{self._of(customer_id)}:t:{customer_id}:{limit.window_s}"

    def requests(self, customer_id: CustomerId, limit: RequestLimit) -> str:
        """Return the key of the window in which one customer's requests are counted."""
        return f"{self._of(customer_id)}:r:{customer_id}:{limit.window_s}"

    def adjustment(self, customer_id: CustomerId, operation_id: str) -> str:
        """Return the key that says that an adjustment was applied."""
        return f"{self._of(customer_id)}:o:{operation_id}:{customer_id}"

    def epoch(self, bucket: int) -> str:
        """Return the key that is there as long as the bucket has its data."""
        return f"{self._in(bucket)}:epoch"

    def filling(self, bucket: int) -> str:
        """Return the key that is there while a bucket that has lost its data is filled."""
        return f"{self._in(bucket)}:filling"

    def journal(self, bucket: int) -> str:
        """Return the key of a bucket's journal: a stream."""
        return f"{self._in(bucket)}:j"

    def claim(self, work: str) -> str:
        """Return the key of the claim to *work* that one process does for all."""
        return f"{self._in(0)}:claim:{work}"

    @property
    def rates(self) -> str:
        """What the keys of rates that are no customer's begin with; `limits` names them itself."""
        return f"{self.prefix}:rates"

    def _of(self, customer_id: CustomerId) -> str:
        return self._in(bucket_of(customer_id))

    def _in(self, bucket: int) -> str:
        return f"{self.prefix}:{{{bucket:02d}}}"


RELAY_KEYS = Keys()
"""Those of a Relay that has a Redis for itself."""
