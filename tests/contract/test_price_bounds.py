"""
Bounds over the whole price table that LiteLLM is delivered with: every model of every provider is
held for enough, or has no price.

What a request costs is worked out three times: by our own code, from the table's keys alone, and by
LiteLLM's own calculator.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import NamedTuple

import pytest

from relay_middleware.core.bounds import upper_bound_usd
from relay_middleware.core.price_entries import from_litellm_entry
from relay_middleware.core.pricing import ModelPrice, cost_usd
from relay_middleware.core.usage import Usage
from relay_middleware.upstream.library import litellm
from relay_middleware.upstream.prices import load_price_table

MODES = ("chat", "completion", "embedding", "responses")
"""What a deployment may be, whatever the table calls it."""

ANSWERS_BY_ASKED = {
    None: (None, "priority"),
    "default": ("default",),
    "flex": ("flex", "default"),
    "priority": ("priority", "default"),
    "ultrafast": ("ultrafast", "priority", "default"),
    "balanced": ("balanced", "default"),
}
"""By the service tier that is asked for, those that may be served."""

OUTPUT_TOKENS = 1000

KEY = re.compile(
    r"(input_cost_per_token|cache_read_input_token_cost|cache_creation_input_token_cost"
    r"|cache_creation_input_token_cost_above_1hr|input_cost_per_audio_token|output_cost_per_token"
    r"|output_cost_per_reasoning_token|output_cost_per_audio_token)"
    r"(?:_above_(\d+)k_tokens)?(?:_(flex|balanced|priority|ultrafast))?"
)


class Rate(NamedTuple):
    """One rate as the table writes it: US dollars per token."""

    is_output: bool
    above_tokens: int
    service_tier: str | None
    usd: Decimal


@pytest.fixture(name="entries", scope="module")
def _entries() -> dict[str, Mapping[str, object]]:
    """The table's entries of models that may be asked for text or numbers."""
    table = load_price_table().entries
    return {name: entry for name, entry in table.items() if entry.get("mode") in MODES}


@pytest.fixture(name="priced", scope="module")
def _priced(entries: dict[str, Mapping[str, object]]) -> dict[str, ModelPrice]:
    """Those that have a price."""
    prices = {name: from_litellm_entry(entry) for name, entry in entries.items()}
    return {name: price for name, price in prices.items() if price is not None}


def rates_of(entry: Mapping[str, object]) -> Iterator[Rate]:
    for key, value in entry.items():
        if (match := KEY.fullmatch(key)) and isinstance(value, int | Decimal):
            part, thousands, tier = match.groups()
            yield Rate(part.startswith("output"), int(thousands or 0) * 1000, tier, Decimal(value))


def asked_of(price: ModelPrice) -> Iterator[tuple[str | None, tuple[str | None, ...]]]:
    """What may be asked of a model, each with what may be answered."""
    for asked in (None, "default", *price.by_service_tier):
        yield asked, ANSWERS_BY_ASKED[asked]


def factor_of(entry: Mapping[str, object]) -> Decimal:
    """What the provider may add for the place where it runs the model."""
    factors = entry.get("provider_specific_entry")
    return factors.get("us", Decimal(1)) if isinstance(factors, dict) else Decimal(1)


def test_most_models_have_a_price(
    entries: dict[str, Mapping[str, object]], priced: dict[str, ModelPrice]
) -> None:
    """
    What follows is about nearly all of more than 3,000 models, and not about a few.
    """
    assert len(entries) > 3000
    assert len(priced) > 0.9 * len(entries)


@pytest.mark.slow
def test_no_rate_of_the_table_is_above_its_bound(
    entries: dict[str, Mapping[str, object]], priced: dict[str, ModelPrice]
) -> None:
    """
    A request whose every token has the dearest of the rates that the table names for its length and
    for a service tier that it may be served by costs no more than its bound.
    """
    checked, too_low = 0, []
    for name, price in priced.items():
        rates, factor = list(rates_of(entries[name])), factor_of(entries[name])
        sizes = {1000} | {rate.above_tokens + more for rate in rates for more in (0, 1)}
        for asked, answers in asked_of(price):
            for size in sizes:
                bound = upper_bound_usd(
                    price, input_tokens=size, output_tokens=OUTPUT_TOKENS, service_tier=asked
                )
                met = [
                    rate.usd * factor * (OUTPUT_TOKENS if rate.is_output else size)
                    for rate in rates
                    if rate.above_tokens < max(size, 1)
                    and (rate.service_tier is None or rate.service_tier in answers)
                ]
                checked += len(met)
                too_low += [(name, asked, size) for cost in met if cost > bound]

    assert too_low == []
    assert checked > 40_000


def extreme_usages(size: int, service_tier: str | None) -> Iterator[Usage]:
    """All input of one part, and all output of one part."""
    usage = partial(
        Usage, input_tokens=size, output_tokens=OUTPUT_TOKENS, service_tier=service_tier
    )
    for region in (None, "us"):
        yield usage(region=region)
        yield usage(region=region, cached_input_tokens=size, reasoning_tokens=OUTPUT_TOKENS)
        yield usage(region=region, cache_write_input_tokens=size)
        yield usage(region=region, cache_write_1h_input_tokens=size)
        yield usage(region=region, audio_input_tokens=size, audio_output_tokens=OUTPUT_TOKENS)


@pytest.mark.slow
def test_no_extreme_usage_costs_more_than_its_bound(priced: dict[str, ModelPrice]) -> None:
    """
    All of the input cached, written or spoken, all of the output thought or spoken, at and above
    every threshold, by every service tier: within the bound, at every model.
    """
    checked, too_low = 0, []
    for name, price in priced.items():
        sizes = {1000} | {
            threshold + more
            for card in (price.standard, *price.by_service_tier.values())
            for threshold, _ in card.above
            for more in (0, 1)
        }
        for asked, answers in asked_of(price):
            for size in sizes:
                bound = upper_bound_usd(
                    price, input_tokens=size, output_tokens=OUTPUT_TOKENS, service_tier=asked
                )
                costs = [
                    cost_usd(price, usage)
                    for answer in answers
                    for usage in extreme_usages(size, answer)
                ]
                checked += len(costs)
                too_low += [(name, asked, size) for cost in costs if cost > bound]

    assert too_low == []
    assert checked > 100_000


def litellms_usages(size: int) -> Iterator[object]:
    """The same in LiteLLM's own words."""
    types = litellm().types.utils
    usage = partial(
        types.Usage,
        prompt_tokens=size,
        completion_tokens=OUTPUT_TOKENS,
        total_tokens=size + OUTPUT_TOKENS,
    )
    of_input, of_output = types.PromptTokensDetailsWrapper, types.CompletionTokensDetailsWrapper
    hour = types.CacheCreationTokenDetails(
        ephemeral_5m_input_tokens=0, ephemeral_1h_input_tokens=size
    )
    yield usage()
    yield usage(prompt_tokens_details=of_input(cached_tokens=size))
    yield usage(prompt_tokens_details=of_input(cache_creation_tokens=size))
    yield usage(
        prompt_tokens_details=of_input(
            cache_creation_tokens=size, cache_creation_token_details=hour
        )
    )
    yield usage(
        prompt_tokens_details=of_input(audio_tokens=size),
        completion_tokens_details=of_output(audio_tokens=OUTPUT_TOKENS),
    )
    yield usage(completion_tokens_details=of_output(reasoning_tokens=OUTPUT_TOKENS))


FLOATS = 1 + Decimal("1e-9")
"""LiteLLM computes in floats, which are off by less than this."""


@pytest.mark.slow
def test_litellm_prices_nothing_above_the_bound(
    entries: dict[str, Mapping[str, object]], priced: dict[str, ModelPrice]
) -> None:
    """
    LiteLLM's calculator, which reads the same table with other code, never comes to more.
    """
    price_of = litellm().litellm_core_utils.llm_cost_calc.utils.generic_cost_per_token
    checked, too_low = 0, []
    for name, price in priced.items():
        thresholds = {
            threshold
            for card in (price.standard, *price.by_service_tier.values())
            for threshold, _ in card.above
        }
        for size in {1000} | {threshold + 1 for threshold in thresholds}:
            for tier in (None, *price.by_service_tier):
                bound = upper_bound_usd(
                    price, input_tokens=size, output_tokens=OUTPUT_TOKENS, service_tier=tier
                )
                for usage in litellms_usages(size):
                    costs = price_of(
                        model=name,
                        usage=usage,
                        custom_llm_provider=entries[name]["litellm_provider"],
                        service_tier=tier,
                    )
                    checked += 1
                    if sum(Decimal(repr(cost)) for cost in costs) > bound * FLOATS:
                        too_low.append((name, tier, size))

    assert too_low == []
    assert checked > 20_000
