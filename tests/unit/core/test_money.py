"""
Money: rounding happens here and nowhere else.
"""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.money import (
    MAX_NANO_USD,
    NanoUsd,
    ceil_nano_usd,
    cents_to_nano_usd,
    format_cents,
    format_usd,
    to_nano_usd,
)

AMOUNTS = st.decimals(
    min_value=Decimal(-(10**9)), max_value=Decimal(10**9), allow_nan=False, places=18
)


@pytest.mark.parametrize(
    ("amount_usd", "nano_usd"),
    [
        ("0.0000115500", 11_550),
        ("0.0000000005", 0),
        ("0.0000000015", 2),
        ("0.0000000025", 2),
        ("-0.0000000015", -2),
        ("12345678901234.0000000005", 12_345_678_901_234_000_000_000),
    ],
)
def test_rounds_half_to_even(amount_usd: str, nano_usd: int) -> None:
    """
    An amount is rounded to the nearest nano-dollar, a half to the even one, whatever its size.
    """
    assert to_nano_usd(Decimal(amount_usd)) == nano_usd


@given(amount_usd=AMOUNTS)
def test_rounding_is_off_by_half_a_nano_at_most(amount_usd: Decimal) -> None:
    """
    The rounded amount differs from the exact one by at most half a nano-dollar.
    """
    exact = Fraction(amount_usd) * 10**9

    assert abs(to_nano_usd(amount_usd) - exact) <= Fraction(1, 2)


@given(amount_usd=AMOUNTS)
def test_ceiling_is_the_next_nano(amount_usd: Decimal) -> None:
    """
    A hold is never below the exact amount, and less than one nano-dollar above it.
    """
    exact = Fraction(amount_usd) * 10**9

    assert 0 <= ceil_nano_usd(amount_usd) - exact < 1


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_amount(amount: str) -> None:
    """
    NaN and infinity are refused by every conversion.
    """
    for convert in (to_nano_usd, ceil_nano_usd, cents_to_nano_usd):
        with pytest.raises(ValueError, match="not an amount of money"):
            convert(Decimal(amount))


def test_cents_are_converted_exactly() -> None:
    """
    A cent is ten million nano-dollars, and seven decimals of a cent are whole ones.
    """
    assert cents_to_nano_usd(Decimal(50)) == 500_000_000
    assert cents_to_nano_usd(Decimal("0.0000001")) == 1


def test_cents_finer_than_a_nano_are_refused() -> None:
    """
    Eight decimals of a cent would have to be rounded, so they are refused.
    """
    with pytest.raises(ValueError, match="finer than a nano-dollar"):
        cents_to_nano_usd(Decimal("0.00000001"))


@pytest.mark.parametrize(
    ("amount", "cents", "usd"),
    [
        (0, "0", "0.00"),
        (11_550, "0.001155", "0.00001155"),
        (-11_550, "-0.001155", "-0.00001155"),
        (5_000_000_000, "500", "5.00"),
        (10_000_001, "1.0000001", "0.010000001"),
        (MAX_NANO_USD, "900719925.4740991", "9007199.254740991"),
    ],
)
def test_prints_exactly(amount: int, cents: str, usd: str) -> None:
    """
    Amounts are printed with all their digits and no more.
    """
    assert format_cents(NanoUsd(amount)) == cents
    assert format_usd(NanoUsd(amount)) == usd


@given(amount=st.integers(min_value=-MAX_NANO_USD, max_value=MAX_NANO_USD))
def test_printed_cents_are_the_amount(amount: int) -> None:
    """
    What is printed in cents reads back as the same amount.
    """
    assert cents_to_nano_usd(Decimal(format_cents(NanoUsd(amount)))) == amount
