"""
Pricing: what tokens cost, to the last digit.
"""

from dataclasses import fields, replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.pricing import (
    INPUT_RATES,
    OUTPUT_RATES,
    PARTS,
    ModelPrice,
    RateCard,
    Rates,
    cost_usd,
    rate_of,
    rates_at,
)
from relay_middleware.core.usage import Usage

# As a provider might bill them, in US dollars per token; no two alike.
EVERY_PART = Rates(
    input_usd=Decimal("0.000001"),
    cached_input_usd=Decimal("0.0000001"),
    cache_write_input_usd=Decimal("0.00000125"),
    cache_write_1h_input_usd=Decimal("0.000002"),
    audio_input_usd=Decimal("0.00001"),
    output_usd=Decimal("0.000004"),
    reasoning_usd=Decimal("0.000003"),
    audio_output_usd=Decimal("0.00002"),
)
ONLY_WHOLES = Rates(input_usd=Decimal("0.000001"), output_usd=Decimal("0.000004"))

RATE = st.decimals(min_value=0, max_value=1, places=15)


def priced(rates: Rates) -> ModelPrice:
    """A price with one card and no thresholds."""
    return ModelPrice(standard=RateCard(base=rates))


def test_gpt_4o_mini_by_hand() -> None:
    """
    25 tokens in at 0.15 and 13 out at 0.60 USD per million cost 0.00001155 USD.
    """
    price = priced(Rates(input_usd=Decimal("1.5e-7"), output_usd=Decimal("6e-7")))

    assert cost_usd(price, Usage(input_tokens=25, output_tokens=13)) == Decimal("0.00001155")


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(input_tokens=1, output_tokens=0), "0.000001"),
        (Usage(input_tokens=1, output_tokens=0, cached_input_tokens=1), "0.0000001"),
        (Usage(input_tokens=1, output_tokens=0, cache_write_input_tokens=1), "0.00000125"),
        (Usage(input_tokens=1, output_tokens=0, cache_write_1h_input_tokens=1), "0.000002"),
        (Usage(input_tokens=1, output_tokens=0, audio_input_tokens=1), "0.00001"),
        (Usage(input_tokens=0, output_tokens=1), "0.000004"),
        (Usage(input_tokens=0, output_tokens=1, reasoning_tokens=1), "0.000003"),
        (Usage(input_tokens=0, output_tokens=1, audio_output_tokens=1), "0.00002"),
    ],
    ids=[part.rate for part in (PARTS[0], *PARTS[2:6], PARTS[1], *PARTS[6:])],
)
def test_each_part_has_its_own_rate(usage: Usage, cost: str) -> None:
    """
    A token is billed once, at the rate of the part that it is.
    """
    assert cost_usd(priced(EVERY_PART), usage) == Decimal(cost)


def test_a_part_without_a_rate_costs_what_its_parent_does() -> None:
    """
    Ten tokens of each part cost as 50 plain ones in and 30 out: no part is free by omission.
    """
    usage = Usage(
        input_tokens=50,
        output_tokens=30,
        cached_input_tokens=10,
        cache_write_input_tokens=10,
        cache_write_1h_input_tokens=10,
        audio_input_tokens=10,
        reasoning_tokens=10,
        audio_output_tokens=10,
    )

    assert cost_usd(priced(ONLY_WHOLES), usage) == Decimal("0.000170")


def test_an_hours_write_costs_at_least_a_short_one() -> None:
    """
    Where only writes for the short time are priced, those for an hour cost the same.
    """
    rates = replace(ONLY_WHOLES, cache_write_input_usd=Decimal("0.00000125"))

    assert rate_of(rates, "cache_write_1h_input_usd") == Decimal("0.00000125")


@pytest.mark.parametrize(
    ("input_tokens", "cost"), [(200, "0.0002"), (201, "0.000402"), (301, "0.000903")]
)
def test_a_threshold_is_a_cliff(input_tokens: int, cost: str) -> None:
    """
    Above 200 tokens all of them cost double, above 300 threefold; at the threshold none does.
    """
    above = tuple(
        (tokens, replace(ONLY_WHOLES, input_usd=Decimal(rate)))
        for tokens, rate in ((200, "0.000002"), (300, "0.000003"))
    )
    price = ModelPrice(standard=RateCard(base=ONLY_WHOLES, above=above))

    assert cost_usd(price, Usage(input_tokens=input_tokens, output_tokens=0)) == Decimal(cost)


def test_parts_beyond_the_whole_cross_the_threshold() -> None:
    """
    A provider that counts 150 cached tokens beside 100 others has more than 200 of input.
    """
    above = replace(ONLY_WHOLES, input_usd=Decimal("0.000002"))
    price = ModelPrice(standard=RateCard(base=ONLY_WHOLES, above=((200, above),)))
    usage = Usage(
        input_tokens=100, output_tokens=0, cached_input_tokens=150, audio_input_tokens=100
    )

    assert cost_usd(price, usage) == Decimal("0.000500")


@pytest.mark.parametrize(
    ("served", "cost"),
    [
        (None, "0.000001"),
        ("default", "0.000001"),
        ("scale", "0.000001"),
        ("priority", "0.000002"),
        ("Priority", "0.000002"),
        ("fast", "0.000002"),
    ],
)
def test_the_service_tier_that_was_served_counts(served: str | None, cost: str) -> None:
    """
    Rates of the served tier apply where it has some, else the standard ones; `fast` is `priority`.
    """
    priority = RateCard(base=replace(ONLY_WHOLES, input_usd=Decimal("0.000002")))
    price = replace(priced(ONLY_WHOLES), by_service_tier={"priority": priority})

    usage = Usage(input_tokens=1, output_tokens=0, service_tier=served)

    assert cost_usd(price, usage) == Decimal(cost)


@pytest.mark.parametrize(
    ("region", "cost"),
    [(None, "0.000001"), ("global", "0.000001"), ("us", "0.0000011"), ("US", "0.0000011")],
)
def test_the_region_that_was_served_counts(region: str | None, cost: str) -> None:
    """
    A region with a price of its own costs that, and any other the usual one.
    """
    there = priced(replace(ONLY_WHOLES, input_usd=Decimal("0.0000011")))
    price = replace(priced(ONLY_WHOLES), by_region={"us": there})

    assert cost_usd(price, Usage(input_tokens=1, output_tokens=0, region=region)) == Decimal(cost)


@given(
    rates=st.builds(Rates, **dict.fromkeys((part.rate for part in PARTS), RATE)),
    counts=st.lists(st.integers(min_value=0, max_value=2**60), min_size=8, max_size=8),
)
def test_cost_is_exact(rates: Rates, counts: list[int]) -> None:
    """
    The cost is what fractions compute, for counts and rates far beyond any real ones.
    """
    text, cached, write, write_1h, audio, output, reasoning, audio_output = counts
    usage = Usage(
        input_tokens=text + cached + write + write_1h + audio,
        cached_input_tokens=cached,
        cache_write_input_tokens=write,
        cache_write_1h_input_tokens=write_1h,
        audio_input_tokens=audio,
        output_tokens=output + reasoning + audio_output,
        reasoning_tokens=reasoning,
        audio_output_tokens=audio_output,
    )
    named = (*INPUT_RATES, *OUTPUT_RATES)
    expected = sum(
        Fraction(getattr(rates, name)) * count for name, count in zip(named, counts, strict=True)
    )

    assert Fraction(cost_usd(priced(rates), usage)) == expected


def test_every_rate_is_a_part() -> None:
    """
    The table of parts names each field of the rates once, parents before their parts.
    """
    names = [part.rate for part in PARTS]

    assert sorted(names) == sorted(entry.name for entry in fields(Rates))
    assert sorted(names) == sorted(INPUT_RATES + OUTPUT_RATES)
    for part in PARTS:
        assert part.parent is None or names.index(part.parent) < names.index(part.rate)


def test_rates_below_all_thresholds() -> None:
    """
    A request of no input at all gets the base rates.
    """
    card = RateCard(base=ONLY_WHOLES, above=((0, EVERY_PART),))

    assert rates_at(card, 0) is ONLY_WHOLES
