"""
What the scripts in `lua/` answer, as values.
"""

from collections.abc import Iterable, Sequence

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
    TooManyRequests,
    TooManyTokens,
)
from relay_middleware.core.rates import RequestLimit, RequestWindow, TokenWindow
from relay_middleware.stores.connection import Reply

_SHORTAGES = {b"EXHAUSTED": Shortage.EXHAUSTED, b"IN_FLIGHT": Shortage.IN_FLIGHT}

_NUMBERS_OF_BALANCE = 4
_NUMBERS_OF_WINDOW = 3


def to_list(reply: Reply) -> Sequence[bytes]:
    """Return *reply*, which is a list."""
    if not isinstance(reply, list):
        raise TypeError(f"a script answered {reply!r}")
    return reply


def to_reserved(
    hold: Hold, rate_limits: Sequence[RequestLimit], reply: Sequence[bytes]
) -> Reserved | Refused:
    """Read the answer of `reserve.lua`."""
    word, detail, *numbers = reply
    first_window = _NUMBERS_OF_BALANCE * len(hold.accounts)
    first_rate = first_window + _NUMBERS_OF_WINDOW * len(hold.token_limits)
    balances = to_balances(numbers[:first_window])
    windows = _to_windows(numbers[first_window:first_rate])
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
    counts = to_request_windows(numbers[first_rate:])
    if word == b"RATE":
        number = int(detail)
        return TooManyRequests(counts[number].status(rate_limits[number]))
    is_duplicate = word == b"DUP"
    return Reserved(
        balances=balances,
        tokens=tokens,
        rates=tuple(count.status(limit) for limit, count in zip(rate_limits, counts, strict=True)),
        is_duplicate=is_duplicate,
        state=HoldState(detail.decode()) if is_duplicate else HoldState.OPEN,
    )


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
    amounts = map(int, numbers)
    # In the order of the fields.
    return tuple(map(Balance._make, zip(amounts, amounts, amounts, amounts, strict=True)))


def to_request_windows(numbers: Sequence[bytes]) -> list[RequestWindow]:
    """Read windows of requests, three numbers each."""
    return [
        RequestWindow(previous_requests=previous, current_requests=current, left_ms=left_ms)
        for previous, current, left_ms in _in_threes(numbers)
    ]


def _to_windows(numbers: Sequence[bytes]) -> list[TokenWindow]:
    return [
        TokenWindow(previous_tokens=previous, current_tokens=current, elapsed_ms=elapsed_ms)
        for previous, current, elapsed_ms in _in_threes(numbers)
    ]


def _in_threes(numbers: Sequence[bytes]) -> Iterable[tuple[int, int, int]]:
    counts = iter([int(number) for number in numbers])
    return zip(counts, counts, counts, strict=True)
