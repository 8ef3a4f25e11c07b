"""
The spend store in Redis: one atomic script for each decision.
"""

from collections import defaultdict
from collections.abc import Sequence

from relay_middleware.core.holds import (
    Balance,
    Ended,
    Hold,
    HoldState,
    HoldStateError,
    NotReserved,
    Reserved,
    Shortage,
)
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.stores.connection import Scripts
from relay_middleware.stores.keys import account_key, bucket_of, hold_key, open_holds_key

KEPT_AFTER_END_S = 600
"""How long a hold that nobody needs any more is remembered, for a command that is repeated late."""

KEPT_AFTER_WINDOW_S = 40 * 86_400
"""How long a period's account is kept after its end: for settles and corrections that come late."""

_SHORTAGES = {b"EXHAUSTED": Shortage.EXHAUSTED, b"IN_FLIGHT": Shortage.IN_FLIGHT}


class RedisSpendStore:
    """`SpendStore` in one Redis, shared by any number of processes."""

    def __init__(self, scripts: Scripts) -> None:
        """
        Args:
            scripts: Closed with this.
        """  # fmt: skip
        self._scripts = scripts

    async def start(self) -> None:
        """
        Ask Redis whether it is there.

        Raises:
            StoreUnavailableError: It is not.
        """
        await self._scripts.ping()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._scripts.aclose()

    async def reserve(self, hold: Hold) -> Reserved | NotReserved:
        """Set the hold's amount aside in all its accounts if it fits every one."""
        args = [hold.hold_id, str(hold.amount_nano_usd), str(int(hold.ttl_s * 1000))]
        for account in hold.accounts:
            limit = account.limit_nano_usd
            args += ["" if limit is None else str(limit), _forgotten_at(account.window)]
        word, detail, *numbers = await self._run("reserve", hold, args)
        if word in _SHORTAGES:
            return NotReserved(
                account=hold.accounts[int(detail)],
                balances=_balances(numbers),
                shortage=_SHORTAGES[word],
            )
        if word == b"DUP":
            state = HoldState(detail.decode())
            return Reserved(balances=_balances(numbers), is_duplicate=True, state=state)
        return Reserved(balances=_balances(numbers))

    async def settle(self, hold: Hold, actual_nano_usd: NanoUsd) -> Ended:
        """
        End *hold* and post *actual_nano_usd*.

        Raises:
            HoldStateError: It was released, or settled for another amount.
        """
        expiries = [_forgotten_at(account.window) for account in hold.accounts]
        args = [hold.hold_id, str(actual_nano_usd), *expiries]
        return _ended(hold, await self._run("settle", hold, args))

    async def release(self, hold: Hold, *, is_dispatched: bool) -> Ended:
        """
        End *hold* and post nothing.

        Raises:
            HoldStateError: It was settled.
        """
        kept_s = "" if is_dispatched else str(KEPT_AFTER_END_S)
        return _ended(hold, await self._run("release", hold, [hold.hold_id, kept_s]))

    async def acknowledge(self, holds: Sequence[tuple[CustomerId, HoldId]]) -> None:
        """Note that the ledger has these ended holds: one command for each bucket."""
        keys_by_bucket: defaultdict[int, list[str]] = defaultdict(list)
        for customer_id, hold_id in holds:
            keys_by_bucket[bucket_of(customer_id)].append(hold_key(customer_id, hold_id))
        for keys in keys_by_bucket.values():
            await self._scripts.call("acknowledge", keys, [str(KEPT_AFTER_END_S)])

    async def raise_to(
        self, customer_id: CustomerId, window: PeriodWindow, posted_nano_usd: NanoUsd
    ) -> None:
        """Raise settled spend to *posted_nano_usd* where it is lower."""
        await self._scripts.call(
            "raise_to",
            [account_key(customer_id, window)],
            [str(posted_nano_usd), _forgotten_at(window)],
        )

    async def _run(self, name: str, hold: Hold, args: Sequence[str]) -> Sequence[bytes]:
        keys = [
            hold_key(hold.customer_id, hold.hold_id),
            open_holds_key(hold.customer_id),
            *(account_key(hold.customer_id, account.window) for account in hold.accounts),
        ]
        reply = await self._scripts.call(name, keys, args)
        if not isinstance(reply, list):
            raise TypeError(f"{name}.lua answered {reply!r}")
        return reply


def _forgotten_at(window: PeriodWindow) -> str:
    if window.ends_at is None:
        return ""
    return str(int(window.ends_at.timestamp()) + KEPT_AFTER_WINDOW_S)


def _balances(numbers: Sequence[bytes]) -> tuple[Balance, ...]:
    amounts = [NanoUsd(int(number)) for number in numbers]
    return tuple(
        Balance(posted_nano_usd=posted, held_nano_usd=held, credit_nano_usd=credit)
        for posted, held, credit in zip(amounts[::3], amounts[1::3], amounts[2::3], strict=True)
    )


def _ended(hold: Hold, reply: Sequence[bytes]) -> Ended:
    word, detail, *numbers = reply
    if word == b"ILLEGAL":
        raise HoldStateError(f"{hold.hold_id}: {detail.decode()}")
    return Ended(
        previous=HoldState(detail.decode()) if detail else None,
        balances=_balances(numbers),
        is_duplicate=word == b"DUP",
    )
