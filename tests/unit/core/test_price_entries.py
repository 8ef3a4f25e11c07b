"""
Price entries: what LiteLLM's table and an operator say, as exact rates or as no price.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

import pytest

from relay_middleware.core.price_entries import (
    from_litellm_entry,
    implausible_price,
    multiplied,
    override,
)
from relay_middleware.core.pricing import ModelPrice, RateCard, Rates

PLAIN = Rates(input_usd=Decimal("0.000002"), output_usd=Decimal("0.000008"))


def read(**entry: object) -> ModelPrice:
    """The price of an entry with input at 2 and output at 8 USD per million tokens, and *entry*."""
    wholes = {"input_cost_per_token": Decimal("2e-06"), "output_cost_per_token": Decimal("8e-06")}
    price = from_litellm_entry({**wholes, **entry})
    assert price is not None
    return price


def test_reads_every_part() -> None:
    """
    Each of the table's keys arrives as the rate of its part, with the model's limits.
    """
    price = read(
        cache_read_input_token_cost=Decimal("5e-07"),
        cache_creation_input_token_cost=Decimal("2.5e-06"),
        cache_creation_input_token_cost_above_1hr=Decimal("4e-06"),
        input_cost_per_audio_token=Decimal("4e-05"),
        output_cost_per_reasoning_token=Decimal("9e-06"),
        output_cost_per_audio_token=Decimal("8e-05"),
        max_input_tokens=128_000,
        max_output_tokens=16_384,
    )

    assert price == ModelPrice(
        standard=RateCard(
            base=Rates(
                input_usd=Decimal("0.000002"),
                output_usd=Decimal("0.000008"),
                cached_input_usd=Decimal("0.0000005"),
                cache_write_input_usd=Decimal("0.0000025"),
                cache_write_1h_input_usd=Decimal("0.000004"),
                audio_input_usd=Decimal("0.00004"),
                reasoning_usd=Decimal("0.000009"),
                audio_output_usd=Decimal("0.00008"),
            )
        ),
        max_input_tokens=128_000,
        max_output_tokens=16_384,
    )


@pytest.mark.parametrize(
    ("text", "rate"),
    [("1e-06", "0.000001"), ("0", "0"), ("3", "3"), ("1.0000000001e-7", "1.0000000001e-7")],
)
def test_numbers_are_taken_exactly(text: str, rate: str) -> None:
    """
    A number of the table's text is the same decimal, however it is written.
    """
    entry = json.loads(
        f'{{"input_cost_per_token": {text}, "output_cost_per_token": 0.1}}', parse_float=Decimal
    )
    price = from_litellm_entry(entry)

    assert price is not None
    assert price.standard.base.input_usd == Decimal(rate)


def test_a_float_is_what_it_prints() -> None:
    """
    A float, which only a configuration can bring, counts as the decimal that it prints as.
    """
    price = from_litellm_entry({"input_cost_per_token": 1e-07, "output_cost_per_token": 0.1})

    assert price is not None
    assert price.standard.base == Rates(input_usd=Decimal("1e-7"), output_usd=Decimal("0.1"))


def test_zero_is_a_price() -> None:
    """
    A model that costs nothing is priced.
    """
    price = from_litellm_entry({"input_cost_per_token": 0, "output_cost_per_token": Decimal("0.0")})

    assert price is not None
    assert price.standard.base == Rates(input_usd=Decimal(0), output_usd=Decimal(0))


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"input_cost_per_token": Decimal("1e-6")},
        {"output_cost_per_token": Decimal("1e-6")},
        {"input_cost_per_token": None, "output_cost_per_token": Decimal("1e-6")},
        {"input_cost_per_token": "0.1", "output_cost_per_token": Decimal("1e-6")},
        {"input_cost_per_token": True, "output_cost_per_token": Decimal("1e-6")},
        {"input_cost_per_token": Decimal(-1), "output_cost_per_token": Decimal("1e-6")},
        {"input_cost_per_token": Decimal("NaN"), "output_cost_per_token": Decimal("1e-6")},
        {"input_cost_per_character": Decimal("1e-6"), "output_cost_per_character": Decimal("1e-6")},
        {"output_cost_per_image": Decimal("0.04"), "mode": "image_generation"},
        {"output_cost_per_second": Decimal("0.1")},
    ],
)
def test_what_is_not_priced_by_the_token(entry: Mapping[str, object]) -> None:
    """
    Without a rate for input and one for output there is no price, never one of zero.
    """
    assert from_litellm_entry(entry) is None


@pytest.mark.parametrize(
    "further",
    [
        {"tiered_pricing": [{"range": [0, 1]}]},
        {"off_peak_pricing": {"input_cost_per_token": Decimal(0)}},
        {"input_cost_per_request": Decimal("0.005")},
        {"input_cost_per_query": Decimal("0.005")},
        {"input_cost_per_second": Decimal("0.005")},
        {"citation_cost_per_token": Decimal("2e-6")},
        {"input_cost_per_character": Decimal("3e-6")},
        {"output_cost_per_character": Decimal("1e-9")},
        {"output_cost_per_image": Decimal("0.04")},
        {"output_cost_per_image_1024": Decimal("0.04")},
        {"output_cost_per_image_token": Decimal("3e-5")},
        {"output_cost_per_image_token": Decimal("3e-5"), "supported_output_modalities": ["image"]},
        {"output_cost_per_video_token": Decimal("3e-5")},
        {"output_cost_per_image_token": "dear"},
        {"a_cost_that_nobody_knows": Decimal(1)},
        {"session_surcharge": {"usd": 1}},
    ],
    ids=str,
)
def test_what_tokens_do_not_tell(further: Mapping[str, object]) -> None:
    """
    Prices by time or range, fees, pictures in the answer, and whatever is not known: no price.
    """
    wholes = {"input_cost_per_token": Decimal("2e-06"), "output_cost_per_token": Decimal("8e-06")}

    assert from_litellm_entry(wholes) is not None
    assert from_litellm_entry({**wholes, **further}) is None


@pytest.mark.parametrize(
    "further",
    [
        {"input_cost_per_image_token": Decimal("2e-6")},
        {"input_cost_per_character": Decimal("2e-6")},
        {"explicit_cache_read_input_token_cost": Decimal("1e-6")},
        {"output_cost_per_image_token": Decimal("8e-6")},
        {"output_cost_per_image": Decimal("0.04"), "supported_output_modalities": ["text"]},
        {"output_cost_per_image": Decimal(0)},
        {"input_cost_per_request": None},
        {"search_context_cost_per_query": {"search_context_size_low": Decimal("0.01")}},
        {"regional_processing_uplift_multiplier_eu": Decimal("1.1")},
        {"input_cost_per_token_batches": Decimal(9)},
        {"max_tokens": 5, "supports_vision": True},
    ],
    ids=str,
)
def test_what_is_not_beyond_tokens(further: Mapping[str, object]) -> None:
    """
    Parts that are not dearer than what they count as, what is free, pictures of models that draw
    none, other products, and what must be asked for by name leave a model priced.
    """
    price = read(**further)

    assert price.standard.base == PLAIN
    assert price.is_media_priced


@pytest.mark.parametrize(
    "further",
    [
        {"input_cost_per_image": Decimal("0.0001")},
        {"input_cost_per_image_above_128k_tokens": Decimal("0.0001")},
        {"input_cost_per_video_per_second": Decimal("0.0001")},
        {"input_cost_per_image_token": Decimal("2.1e-6")},
        {"cache_read_input_audio_token_cost": Decimal("2.1e-6")},
    ],
    ids=str,
)
def test_media_with_a_price_of_their_own(further: Mapping[str, object]) -> None:
    """
    A picture for a fee, or of tokens dearer than text's, leaves text priced, and is told.
    """
    price = read(**further)

    assert price.standard.base == PLAIN
    assert not price.is_media_priced


def test_a_place_is_dearer_by_a_factor() -> None:
    """
    In the US each rate is 1.1 times the one elsewhere; a faster mode is not a place.
    """
    price = read(
        provider_specific_entry={"us": Decimal("1.1"), "fast": Decimal(2), "xx": "dear"},
        cache_read_input_token_cost=Decimal("5e-07"),
        input_cost_per_token_above_200k_tokens=Decimal("3e-06"),
    )

    assert list(price.by_region) == ["us"]
    assert price.by_region["us"].standard == RateCard(
        base=Rates(
            input_usd=Decimal("0.0000022"),
            output_usd=Decimal("0.0000088"),
            cached_input_usd=Decimal("0.00000055"),
        ),
        above=(
            (
                200_000,
                Rates(
                    input_usd=Decimal("0.0000033"),
                    output_usd=Decimal("0.0000088"),
                ),
            ),
        ),
    )


def test_a_price_is_multiplied_whole() -> None:
    """
    Twice the price is twice in every tier and region; what bounds it stays.
    """
    price = read(
        provider_specific_entry={"us": Decimal(3)},
        input_cost_per_token_flex=Decimal("1e-06"),
        max_output_tokens=100,
    )

    twice = multiplied(price, Decimal(2))

    assert twice.standard.base.input_usd == Decimal("0.000004")
    assert twice.by_service_tier["flex"].base.input_usd == Decimal("0.000002")
    assert twice.by_region["us"].standard.base.output_usd == Decimal("0.000048")
    assert twice.max_output_tokens == 100


def test_embeddings_have_no_output() -> None:
    """
    A model that gives no tokens needs no price for them.
    """
    price = from_litellm_entry({"input_cost_per_token": Decimal("2e-8"), "mode": "embedding"})

    assert price is not None
    assert price.standard.base == Rates(input_usd=Decimal("2e-8"), output_usd=Decimal(0))


def test_thresholds_ascend() -> None:
    """
    `above_128k` and `above_200k` become thresholds in tokens, in this order.
    """
    price = read(
        input_cost_per_token_above_200k_tokens=Decimal("6e-06"),
        output_cost_per_token_above_200k_tokens=Decimal("2e-05"),
        input_cost_per_token_above_128k_tokens=Decimal("4e-06"),
        output_cost_per_token_above_128k_tokens=Decimal("1e-05"),
    )

    assert price.standard.above == (
        (128_000, Rates(input_usd=Decimal("0.000004"), output_usd=Decimal("0.00001"))),
        (200_000, Rates(input_usd=Decimal("0.000006"), output_usd=Decimal("0.00002"))),
    )


def test_xais_thresholds_are_inclusive() -> None:
    """
    xAI bills the higher rate from 200,000 tokens on, so from the first above 199,999.
    """
    price = read(litellm_provider="xai", input_cost_per_token_above_200k_tokens=Decimal("6e-06"))

    assert [threshold for threshold, _ in price.standard.above] == [199_999]


def test_service_tiers_with_thresholds() -> None:
    """
    Suffixes combine: a tier has rates of its own, and others above a threshold.
    """
    price = read(
        input_cost_per_token_priority=Decimal("4e-06"),
        output_cost_per_token_priority=Decimal("1.6e-05"),
        input_cost_per_token_above_272k_tokens_priority=Decimal("8e-06"),
        output_cost_per_token_above_272k_tokens_priority=Decimal("2.4e-05"),
    )

    assert price.standard == RateCard(base=PLAIN)
    assert price.by_service_tier == {
        "priority": RateCard(
            base=Rates(input_usd=Decimal("0.000004"), output_usd=Decimal("0.000016")),
            above=(
                (272_000, Rates(input_usd=Decimal("0.000008"), output_usd=Decimal("0.000024"))),
            ),
        )
    }


def test_prices_of_batches_are_another_products() -> None:
    """
    Suffixes of other products make no service tier.
    """
    price = read(
        input_cost_per_token_batches=Decimal("1e-06"),
        input_cost_per_token_cache_hit=Decimal("1e-07"),
        output_cost_per_token_decisions=Decimal("1e-06"),
    )

    assert price == ModelPrice(standard=RateCard(base=PLAIN))


def test_a_tier_above_a_threshold_that_only_the_standard_has() -> None:
    """
    Nobody priced it: each part costs the dearer of the tier's rate and the standard one up there.
    """
    price = read(
        cache_read_input_token_cost=Decimal("2e-07"),
        input_cost_per_token_above_272k_tokens=Decimal("3e-06"),
        output_cost_per_token_above_272k_tokens=Decimal("1.2e-05"),
        cache_read_input_token_cost_above_272k_tokens=Decimal("5e-07"),
        input_cost_per_token_priority=Decimal("4e-06"),
        output_cost_per_token_priority=Decimal("1e-05"),
        cache_read_input_token_cost_priority=Decimal("4e-07"),
    )

    assert price.by_service_tier["priority"].above == (
        (
            272_000,
            Rates(
                input_usd=Decimal("0.000004"),
                output_usd=Decimal("0.000012"),
                cached_input_usd=Decimal("0.0000005"),
            ),
        ),
    )


def test_a_cheaper_part_falls_to_a_new_parent() -> None:
    """
    Flex prices input anew and says nothing of cached input: it costs what flex input does.
    """
    price = read(
        cache_read_input_token_cost=Decimal("2e-07"),
        input_cost_per_token_flex=Decimal("1e-06"),
        output_cost_per_token_flex=Decimal("4e-06"),
    )

    assert price.by_service_tier["flex"].base == Rates(
        input_usd=Decimal("0.000001"), output_usd=Decimal("0.000004")
    )


def test_a_dearer_part_keeps_its_rate_under_a_new_parent() -> None:
    """
    Flex prices input anew and says nothing of audio: audio does not become as cheap as text.
    """
    price = read(
        input_cost_per_audio_token=Decimal("4e-05"),
        input_cost_per_token_flex=Decimal("1e-06"),
        output_cost_per_token_flex=Decimal("4e-06"),
    )

    assert price.by_service_tier["flex"].base.audio_input_usd == Decimal("0.00004")


@pytest.mark.parametrize("limit", [None, "many", 0, -1, True, Decimal("1.5")])
def test_a_limit_that_is_no_number(limit: object) -> None:
    """
    What does not count tokens is no limit.
    """
    price = read(max_input_tokens=limit, max_output_tokens=limit)

    assert (price.max_input_tokens, price.max_output_tokens) == (None, None)


def test_an_override_changes_what_it_names() -> None:
    """
    A configured input price holds in every tier and region and above every threshold; cached input,
    output and the model's limits stay.
    """
    cached = replace(PLAIN, cached_input_usd=Decimal("0.0000005"))
    price = ModelPrice(
        standard=RateCard(base=cached, above=((200_000, replace(cached, input_usd=Decimal(1))),)),
        by_service_tier={"flex": RateCard(base=replace(cached, input_usd=Decimal(2)))},
        by_region={"us": ModelPrice(standard=RateCard(base=replace(cached, input_usd=Decimal(4))))},
        max_output_tokens=100,
    )
    changed = replace(cached, input_usd=Decimal("0.000003"))

    assert override(price, {"input_usd": Decimal("0.000003")}) == ModelPrice(
        standard=RateCard(base=changed, above=((200_000, changed),)),
        by_service_tier={"flex": RateCard(base=changed)},
        by_region={"us": ModelPrice(standard=RateCard(base=changed))},
        max_output_tokens=100,
    )


def test_an_override_makes_a_price() -> None:
    """
    A model that the table does not know is priced by its configured input and output.
    """
    rates = {"input_usd": Decimal("0.000002"), "output_usd": Decimal("0.000008")}

    assert override(None, rates) == ModelPrice(standard=RateCard(base=PLAIN))


def test_an_override_keeps_what_the_table_knows_all_the_same() -> None:
    """
    A model that the table has no price for keeps the table's limits with a configured one.
    """
    entry = {"max_input_tokens": 9, "max_output_tokens": 8, "supports_reasoning": True}
    rates = {"input_usd": Decimal("0.000002"), "output_usd": Decimal("0.000008")}

    assert override(None, rates, entry=entry) == ModelPrice(
        standard=RateCard(base=PLAIN), max_input_tokens=9, max_output_tokens=8, may_reason=True
    )


@pytest.mark.parametrize(
    ("named", "missing"),
    [("input_usd", "output_cost_per_token"), ("output_usd", "input_cost_per_token")],
)
def test_half_a_price_is_none(named: str, missing: str) -> None:
    """
    Input alone, or output alone, prices no model that the table does not know.
    """
    with pytest.raises(ValueError, match=f"^{missing} must be set too: the price table has no"):
        override(None, {named: Decimal(1)})


@pytest.mark.parametrize(
    ("rate", "is_implausible"),
    [
        ("0.002", True),
        ("0.00199", False),
        ("0.000000002", True),
        ("0.0000000021", False),
        ("0.000002", False),
        ("0", False),
    ],
)
def test_a_price_off_by_a_thousand(rate: str, *, is_implausible: bool) -> None:
    """
    A factor of 1,000 up or down from 2 USD per million is told; less, or zero, is not.
    """
    warning = implausible_price({"input_usd": Decimal(rate)}, [PLAIN])

    assert (warning is not None) == is_implausible


def test_the_warning_has_both_numbers() -> None:
    """
    An operator reads the configured price and the nearest known one, both per million tokens.
    """
    dear = replace(PLAIN, output_usd=Decimal("0.00008"))

    warning = implausible_price({"output_usd": Decimal("0.6")}, [PLAIN, dear])

    assert warning == (
        "output_usd is 600000 USD per million tokens, and the nearest price known is 80"
    )


def test_a_part_is_compared_with_its_parent() -> None:
    """
    A cached price is compared with the input's where nobody prices cached input apart.
    """
    warning = implausible_price({"cached_input_usd": Decimal("0.000000000002")}, [PLAIN])

    assert warning is not None


def test_nothing_to_compare_with() -> None:
    """
    Without a known price, or with free ones only, every price is plausible.
    """
    free = Rates(input_usd=Decimal(0), output_usd=Decimal(0))

    assert implausible_price({"input_usd": Decimal(5)}, []) is None
    assert implausible_price({"input_usd": Decimal(5)}, [free]) is None
