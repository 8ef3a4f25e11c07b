"""
Bounds: a hold is never below what its request can cost.
"""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.bounds import InputBound, input_bound, upper_bound_usd
from relay_middleware.core.pricing import ModelPrice, RateCard, Rates, cost_usd
from relay_middleware.core.usage import Usage

PLAIN = Rates(input_usd=Decimal("0.000001"), output_usd=Decimal("0.000002"))

RATE = st.decimals(min_value=0, max_value=1, places=12)
RATES = st.builds(
    Rates,
    input_usd=RATE,
    output_usd=RATE,
    **dict.fromkeys(
        (
            "cached_input_usd",
            "cache_write_input_usd",
            "cache_write_1h_input_usd",
            "audio_input_usd",
            "reasoning_usd",
            "audio_output_usd",
        ),
        st.none() | RATE,
    ),
)
STEPS = st.dictionaries(st.integers(min_value=0, max_value=300), RATES, max_size=3)
CARDS = st.builds(RateCard, base=RATES, above=STEPS.map(lambda steps: tuple(sorted(steps.items()))))
PRICES = st.builds(
    ModelPrice,
    standard=CARDS,
    by_service_tier=st.dictionaries(st.sampled_from(["flex", "priority", "scale"]), CARDS),
)
COUNT = st.integers(min_value=0, max_value=100)
INPUT_PARTS = st.tuples(COUNT, COUNT, COUNT, COUNT, COUNT)
OUTPUT_PARTS = st.tuples(COUNT, COUNT, COUNT)
ASKED = st.sampled_from([None, "auto", "default", "flex", "priority", "scale", "Priority", "other"])


def usage_of(inputs: tuple[int, ...], outputs: tuple[int, ...], service_tier: str | None) -> Usage:
    """Usage whose parts are these; the first of each is what no part tells."""
    return Usage(
        input_tokens=sum(inputs),
        cached_input_tokens=inputs[1],
        cache_write_input_tokens=inputs[2],
        cache_write_1h_input_tokens=inputs[3],
        audio_input_tokens=inputs[4],
        output_tokens=sum(outputs),
        reasoning_tokens=outputs[1],
        audio_output_tokens=outputs[2],
        service_tier=service_tier,
    )


@given(
    price=PRICES,
    inputs=INPUT_PARTS,
    outputs=OUTPUT_PARTS,
    spare=st.tuples(COUNT, COUNT),
    asked=ASKED,
    is_served_as_asked=st.booleans(),
)
def test_no_usage_costs_more_than_its_bound(
    *,
    price: ModelPrice,
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    spare: tuple[int, int],
    asked: str | None,
    is_served_as_asked: bool,
) -> None:
    """
    Whatever the rates, and whatever parts the tokens turn out to be, the cost is within the bound.
    """
    usage = usage_of(inputs, outputs, asked if is_served_as_asked else "default")

    bound_usd = upper_bound_usd(
        price,
        input_tokens=usage.input_tokens + spare[0],
        output_tokens=usage.output_tokens + spare[1],
        service_tier=asked,
    )

    assert cost_usd(price, usage) <= bound_usd


def test_bound_of_a_plain_price() -> None:
    """
    1,000 tokens in at 1 USD and 500 out at 2 USD per million cost at most 0.002 USD.
    """
    price = ModelPrice(standard=RateCard(base=PLAIN))

    assert upper_bound_usd(
        price, input_tokens=1000, output_tokens=500, service_tier=None
    ) == Decimal("0.002")


@pytest.mark.parametrize(
    "part",
    ["cached_input_usd", "cache_write_input_usd", "cache_write_1h_input_usd", "audio_input_usd"],
)
def test_the_dearest_part_of_the_input_counts(part: str) -> None:
    """
    Where a part of the input is dearer than plain input, all of it might be that part.
    """
    rates = replace(PLAIN, **{part: Decimal("0.000005")})
    price = ModelPrice(standard=RateCard(base=rates))

    assert upper_bound_usd(price, input_tokens=1000, output_tokens=0, service_tier=None) == Decimal(
        "0.005"
    )


@pytest.mark.parametrize("part", ["reasoning_usd", "audio_output_usd"])
def test_the_dearest_part_of_the_output_counts(part: str) -> None:
    """
    Where a part of the output is dearer than plain output, all of it might be that part.
    """
    rates = replace(PLAIN, **{part: Decimal("0.000005")})
    price = ModelPrice(standard=RateCard(base=rates))

    assert upper_bound_usd(price, input_tokens=0, output_tokens=1000, service_tier=None) == Decimal(
        "0.005"
    )


@pytest.mark.parametrize(
    ("input_tokens", "bound_usd"), [(200, "0.0002"), (201, "0.000402")], ids=["at", "above"]
)
def test_a_threshold_counts_once_it_may_be_crossed(input_tokens: int, bound_usd: str) -> None:
    """
    The higher rates count from the first token above the threshold, for all tokens.
    """
    above = replace(PLAIN, input_usd=Decimal("0.000002"))
    price = ModelPrice(standard=RateCard(base=PLAIN, above=((200, above),)))

    assert upper_bound_usd(
        price, input_tokens=input_tokens, output_tokens=0, service_tier=None
    ) == Decimal(bound_usd)


@pytest.mark.parametrize(
    ("asked", "bound_usd"),
    [(None, "0.001"), ("auto", "0.001"), ("flex", "0.001"), ("priority", "0.003"), ("x", "0.003")],
)
def test_a_dearer_service_tier_counts_when_asked_for(asked: str | None, bound_usd: str) -> None:
    """
    The standard rates bound what asks for nothing or less; anything else may be the dearest.
    """
    cards = {
        "flex": RateCard(base=replace(PLAIN, input_usd=Decimal("0.0000005"))),
        "priority": RateCard(base=replace(PLAIN, input_usd=Decimal("0.000003"))),
    }
    price = ModelPrice(standard=RateCard(base=PLAIN), by_service_tier=cards)

    assert upper_bound_usd(
        price, input_tokens=1000, output_tokens=0, service_tier=asked
    ) == Decimal(bound_usd)


def test_text_is_bounded_by_its_bytes() -> None:
    """
    100 bytes in 2 messages are at most 100 + 2 x 16 + 64 tokens, and that is proven.
    """
    assert input_bound(100, 2, has_tools=False, opaque_tokens=None) == InputBound(
        tokens=196, is_exact=True
    )


def test_opaque_input_is_bounded_by_the_model() -> None:
    """
    Images, audio and files count as the most that the model takes, which is not proven.
    """
    assert input_bound(100, 2, has_tools=False, opaque_tokens=128_000) == InputBound(
        tokens=128_000, is_exact=False
    )


@given(text=st.text(), is_ascii=st.booleans())
def test_json_is_never_shorter_than_its_text(*, text: str, is_ascii: bool) -> None:
    """
    However a text is escaped, its JSON has at least as many bytes as the text has in UTF-8.
    """
    body = json.dumps({"content": text}, ensure_ascii=is_ascii).encode()

    assert input_bound(len(body), 0, has_tools=False, opaque_tokens=None).tokens >= len(
        text.encode()
    )
