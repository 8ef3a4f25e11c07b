"""
Bounds: a hold is never below what its request can cost.
"""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.bounds import (
    CacheWrites,
    InputBound,
    counted_bound,
    input_bound,
    upper_bound_usd,
)
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
TIERS = st.dictionaries(st.sampled_from(["flex", "priority", "ultrafast"]), CARDS)
PLAIN_PRICES = st.builds(ModelPrice, standard=CARDS, by_service_tier=TIERS)
PRICES = st.builds(
    ModelPrice,
    standard=CARDS,
    by_service_tier=TIERS,
    by_region=st.dictionaries(st.sampled_from(["us", "eu"]), PLAIN_PRICES),
)
COUNT = st.integers(min_value=0, max_value=100)
INPUT_PARTS = st.tuples(COUNT, COUNT, COUNT, COUNT, COUNT)
OUTPUT_PARTS = st.tuples(COUNT, COUNT, COUNT)

STANDARD_ANSWERS = (None, "default", "standard", "something new")
ANSWERS_BY_ASKED = {
    None: (*STANDARD_ANSWERS, "priority", "fast"),
    "auto": (*STANDARD_ANSWERS, "priority", "fast"),
    "default": STANDARD_ANSWERS,
    "Default": STANDARD_ANSWERS,
    "on_demand": STANDARD_ANSWERS,
    "flex": (*STANDARD_ANSWERS, "flex", "FLEX"),
    "priority": (*STANDARD_ANSWERS, "priority"),
    "fast": (*STANDARD_ANSWERS, "Priority"),
    "ultrafast": (*STANDARD_ANSWERS, "ultrafast", "priority", "flex"),
    "other": (*STANDARD_ANSWERS, "ultrafast", "priority", "flex"),
}
"""By the service tier that is asked for, those that a provider may say it served."""

TIERS_OF_A_REQUEST = st.sampled_from(
    [(asked, answer) for asked, answers in ANSWERS_BY_ASKED.items() for answer in answers]
)


def usage_of(
    inputs: tuple[int, ...], outputs: tuple[int, ...], service_tier: str | None, region: str | None
) -> Usage:
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
        region=region,
    )


def written_at_most(inputs: tuple[int, ...], writes: CacheWrites) -> tuple[int, ...]:
    """The same input without what is not written."""
    short = 0 if writes is CacheWrites.NONE else inputs[2]
    long = inputs[3] if writes is CacheWrites.ANY else 0
    return (inputs[0], inputs[1], short, long, inputs[4])


@given(
    price=PRICES,
    inputs=INPUT_PARTS,
    outputs=OUTPUT_PARTS,
    spare=st.tuples(COUNT, COUNT),
    tiers=TIERS_OF_A_REQUEST,
    region=st.sampled_from([None, "us", "EU", "elsewhere"]),
    writes=st.sampled_from(CacheWrites),
)
def test_no_usage_costs_more_than_its_bound(
    *,
    price: ModelPrice,
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    spare: tuple[int, int],
    tiers: tuple[str | None, str | None],
    region: str | None,
    writes: CacheWrites,
) -> None:
    """
    Whatever the rates, whatever parts the tokens turn out to be, wherever and by which tier they
    are served, the cost is within the bound.
    """
    asked, answered = tiers
    usage = usage_of(written_at_most(inputs, writes), outputs, answered, region)

    bound_usd = upper_bound_usd(
        price,
        input_tokens=usage.input_tokens + spare[0],
        output_tokens=usage.output_tokens + spare[1],
        service_tier=asked,
        cache_writes=writes,
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


TIERED = ModelPrice(
    standard=RateCard(base=PLAIN),
    by_service_tier={
        "flex": RateCard(base=replace(PLAIN, input_usd=Decimal("0.0000005"))),
        "priority": RateCard(base=replace(PLAIN, input_usd=Decimal("0.000003"))),
        "ultrafast": RateCard(base=replace(PLAIN, input_usd=Decimal("0.000009"))),
    },
)


@pytest.mark.parametrize(
    ("asked", "bound_usd"),
    [
        ("default", "0.001"),
        ("flex", "0.001"),
        (None, "0.003"),
        ("auto", "0.003"),
        ("priority", "0.003"),
        ("ultrafast", "0.009"),
        ("x", "0.009"),
    ],
)
def test_which_service_tiers_count(asked: str | None, bound_usd: str) -> None:
    """
    Who leaves the tier to the provider may get priority; who asks for a tier may get that or the
    standard one; what is not known may be the dearest.
    """
    assert upper_bound_usd(
        TIERED, input_tokens=1000, output_tokens=0, service_tier=asked
    ) == Decimal(bound_usd)


@pytest.mark.parametrize(("asked", "bound_usd"), [(None, "0.001"), ("auto", "0.003")])
def test_where_nobody_is_upgraded(asked: str | None, bound_usd: str) -> None:
    """
    Where the provider serves the standard tier to who names none, `auto` is still its choice.
    """
    assert upper_bound_usd(
        TIERED, input_tokens=1000, output_tokens=0, service_tier=asked, is_upgradable=False
    ) == Decimal(bound_usd)


@pytest.mark.parametrize(
    ("writes", "bound_usd"),
    [(CacheWrites.NONE, "0.001"), (CacheWrites.SHORT, "0.00125"), (CacheWrites.ANY, "0.002")],
)
def test_what_is_written_to_the_cache(writes: CacheWrites, bound_usd: str) -> None:
    """
    Of 1,000 tokens at 1 USD a million, written ones cost 1.25 times that, for an hour twice.
    """
    rates = replace(
        PLAIN,
        cache_write_input_usd=Decimal("0.00000125"),
        cache_write_1h_input_usd=Decimal("0.000002"),
    )

    assert upper_bound_usd(
        ModelPrice(standard=RateCard(base=rates)),
        input_tokens=1000,
        output_tokens=0,
        service_tier="default",
        cache_writes=writes,
    ) == Decimal(bound_usd)


def test_a_region_may_be_dearer() -> None:
    """
    Where the model runs is the provider's choice: of 0.001 USD here and 0.0011 there the latter.
    """
    there = ModelPrice(
        standard=RateCard(base=replace(PLAIN, input_usd=Decimal("0.0000011"))),
    )
    price = ModelPrice(standard=RateCard(base=PLAIN), by_region={"us": there})

    assert upper_bound_usd(
        price, input_tokens=1000, output_tokens=0, service_tier="default"
    ) == Decimal("0.0011")


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        # 100 x 1.03 + 80.
        (100, InputBound(tokens=183, is_exact=False)),
        # 1.03 is begun as 2.
        (1, InputBound(tokens=82, is_exact=False)),
        (0, InputBound(tokens=80, is_exact=False)),
        # 894 x 1.03 is 920.82, rounded up; with 80 more than what the bytes allow.
        (894, InputBound(tokens=1000, is_exact=True)),
    ],
)
def test_counted_tokens_lower_a_bound(counted: int, expected: InputBound) -> None:
    """
    What was counted, 3 percent more and what the provider adds, if that is less than 1,000.
    """
    assert counted_bound(InputBound(tokens=1000, is_exact=True), counted, 80) == expected


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
