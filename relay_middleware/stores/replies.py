"""
What the scripts in `lua/` answer, as values.
"""

from collections.abc import Sequence
from typing import cast

from relay_middleware.core.holds import (
    Balance,
    Ended,
    Hold,
    HoldState,
    HoldStateError,
    NotReserved,
    Refused,
    Reserved,
    Shortage,
    TooManyAtOnce,
    TooManyTokens,
)
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.rates import TokenWindow
from relay_middleware.stores.connection import Reply

_SHORTAGES = {b"EXHAUSTED": Shortage.EXHAUSTED, b"IN_FLIGHT": Shortage.IN_FLIGHT}

_NUMBERS_OF_BALANCE = 4
_NUMBERS_OF_WINDOW = 3


def to_list(reply: Reply) -> Sequence[bytes]:
    """Return *reply*, which is a list."""
    if not isinstance(reply, list):
        raise TypeError(f"a script answered {reply!r}")
    return reply


def to_reserved(hold: Hold, reply: Sequence[bytes]) -> Reserved | Refused:
    """Read the answer of `reserve.lua`."""
    word, detail, *numbers = reply
    first_window = _NUMBERS_OF_BALANCE * len(hold.accounts)
    balances = to_balances(numbers[:first_window])
    windows = _to_windows(numbers[first_window:])
    tokens = tuple(
        window.status(limit) for limit, window in zip(hold.token_limits, windows, strict=True)
    )
    if word in _SHORTAGES:
        return NotReserved(
            account=hold.accounts[int(detail)],
            balances=balances,
            shortage=_SHORTAGES[word],
            tokens=tokens,
        )
    if word == b"TOKENS":
        limit, window = hold.token_limits[int(detail)], windows[int(detail)]
        status = window.status(limit, wanted_tokens=hold.tokens)
        return TooManyTokens(status=status, balances=balances, tokens=tokens)
    if word == b"PLACES":
        return TooManyAtOnce(running=int(detail))
    if word == b"DUP":
        return Reserved(
            balances=balances, tokens=tokens, is_duplicate=True, state=HoldState(detail.decode())
        )
    return Reserved(balances=balances, tokens=tokens)


def to_ended(hold: Hold, reply: Sequence[bytes]) -> Ended:
    """
    Read the answer of `settle.lua`, `release.lua` or `expire.lua`.

    Raises:
        HoldStateError: The hold had ended another way.
    """
    word, detail, *numbers = reply
    if word == b"ILLEGAL":
        raise HoldStateError(f"{hold.hold_id}: {detail.decode()}")
    return Ended(
        previous=HoldState(detail.decode()) if detail else None,
        balances=to_balances(numbers),
        is_duplicate=word == b"DUP",
    )


def to_balances(numbers: Sequence[bytes]) -> tuple[Balance, ...]:
    """Read balances, four numbers each."""
    # Calling `NanoUsd` for each would take as long as reading it.
    amounts = iter(cast("list[NanoUsd]", [int(number) for number in numbers]))
    return tuple(
        Balance(
            posted_nano_usd=posted,
            held_nano_usd=held,
            credit_nano_usd=credit,
            expired_nano_usd=expired,
        )
        for posted, held, credit, expired in zip(*[amounts] * _NUMBERS_OF_BALANCE, strict=True)
    )


def _to_windows(numbers: Sequence[bytes]) -> list[TokenWindow]:
    counts = [int(number) for number in numbers]
    return [
        TokenWindow(previous_tokens=previous, current_tokens=current, elapsed_ms=elapsed_ms)
        for previous, current, elapsed_ms in zip(
            *(counts[i::_NUMBERS_OF_WINDOW] for i in range(_NUMBERS_OF_WINDOW)), strict=True
        )
    ]
