"""
Money: whole nano-dollars in counters and ledger, exact decimals before that.

One nano-dollar is 1e-9 US dollar. At 0.15 USD per million tokens a token costs 150 of them; in
micro-dollars it would be 0.15 and every request would be rounded. The functions here are the only
places where an amount is rounded.
"""

from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import NewType

NanoUsd = NewType("NanoUsd", int)

MAX_NANO_USD = NanoUsd(2**53 - 1)
"""Largest amount a limit may name, about 9 million USD: Redis scripts compute in doubles, which are
exact up to here."""

MAX_REQUEST_NANO_USD = NanoUsd(10**15)
"""Most that one request may hold or be charged, a million USD: it takes more than 9,000 of them to
fill the 64-bit integers in which Redis and SQL add them up. A dearer one has a wrong price, or asks
for more output than any model gives."""

NO_MONEY = NanoUsd(0)

NANO_USD_PER_USD = 1_000_000_000
NANO_USD_PER_CENT = 10_000_000

EXACT = Context(prec=60)
"""For products of prices and counts: a price has at most 20 digits and a count at most 19."""


def to_nano_usd(amount_usd: Decimal) -> NanoUsd:
    """
    Round an exact dollar amount to whole nano-dollars, half to even.

    Raises:
        ValueError: *amount_usd* is NaN or infinite.
    """
    return _rounded(amount_usd, ROUND_HALF_EVEN)


def ceil_nano_usd(amount_usd: Decimal) -> NanoUsd:
    """
    Round an exact dollar amount up to whole nano-dollars: for holds, which are upper bounds.

    Raises:
        ValueError: *amount_usd* is NaN or infinite.
    """
    return _rounded(amount_usd, ROUND_CEILING)


def cents_to_nano_usd(amount_cents: Decimal) -> NanoUsd:
    """
    Convert an amount in cents exactly.

    Raises:
        ValueError: *amount_cents* is not finite, or finer than a nano-dollar (7 decimals).
    """
    if not amount_cents.is_finite():
        raise ValueError(f"not an amount of money: {amount_cents}")
    nano_usd = EXACT.multiply(amount_cents, Decimal(NANO_USD_PER_CENT))
    if nano_usd != nano_usd.to_integral_value():
        raise ValueError(f"{amount_cents} cents is finer than a nano-dollar: at most 7 decimals")
    return NanoUsd(int(nano_usd))


@lru_cache(maxsize=64)
def format_cents(amount: NanoUsd) -> str:
    """
    Print *amount* in cents: exact, shortest, and a valid JSON number (`11550` → `0.001155`).

    The last ones are remembered: an answer tells each twice, in its body and in its headers.
    """
    sign = "-" if amount < 0 else ""
    whole, fraction = divmod(abs(amount), NANO_USD_PER_CENT)
    if not fraction:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{fraction:07d}".rstrip("0")


def format_usd(amount: NanoUsd) -> str:
    """
    Print *amount* in dollars for a person: exact, with at least two decimals (`5 USD` → `5.00`).
    """
    sign = "-" if amount < 0 else ""
    whole, fraction = divmod(abs(amount), NANO_USD_PER_USD)
    digits = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{digits}"


def _rounded(amount_usd: Decimal, rounding: str) -> NanoUsd:
    if not amount_usd.is_finite():
        raise ValueError(f"not an amount of money: {amount_usd}")
    nano_usd = EXACT.multiply(amount_usd, Decimal(NANO_USD_PER_USD))
    return NanoUsd(int(nano_usd.to_integral_value(rounding)))
