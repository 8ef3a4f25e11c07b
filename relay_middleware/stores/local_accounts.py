"""
The accounts of the embedded store: what each customer has spent in each of its periods.
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from relay_middleware.core.holds import Balance
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.stores.retention import KEPT_AFTER_WINDOW_S


@dataclass(slots=True)
class Account:
    """One account; nano-dollars, as in `Balance`, but for corrections, which are counted apart."""

    posted: int = 0
    adjusted: int = 0
    held: int = 0
    credit: int = 0
    expired: int = 0

    def balance(self) -> Balance:
        """Return what it holds."""
        return Balance(
            posted_nano_usd=NanoUsd(self.posted + self.adjusted),
            held_nano_usd=NanoUsd(self.held),
            credit_nano_usd=NanoUsd(self.credit),
            expired_nano_usd=NanoUsd(self.expired),
        )


class Accounts:
    """All accounts, until long after their periods."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[CustomerId, str], Account] = {}
        self._ends: deque[tuple[datetime, tuple[CustomerId, str]]] = deque()

    def of(self, customer_id: CustomerId, window: PeriodWindow) -> Account:
        """Return the account, an empty one where there was none."""
        key = (customer_id, window.key)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account()
            if window.ends_at is not None:
                forgotten_at = window.ends_at + timedelta(seconds=KEPT_AFTER_WINDOW_S)
                self._ends.append((forgotten_at, key))
        return account

    def forget(self, now: datetime) -> None:
        """
        Drop what is due. Windows of different length end in no order; one that ends late delays the
        ones after it, by a month at most.
        """
        while self._ends and self._ends[0][0] <= now:
            self._accounts.pop(self._ends.popleft()[1], None)
