"""
Prices: what a deployment's tokens cost, exactly.

Rules for editors. A price that is not known is no price, never zero; a part without a rate of its
own costs what its parent costs. Rates are `Decimal` from the text of the price table to the ledger;
nothing here rounds.
"""

from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal

from relay_middleware.core.money import EXACT
from relay_middleware.core.usage import Usage, split
from relay_middleware.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """
    US dollars per token, by part. A part without a rate of its own (None) costs what its parent
    costs: cached and written input what plain input does, reasoning what output does. It is never
    free by omission.
    """

    input_usd: Decimal
    output_usd: Decimal
    cached_input_usd: Decimal | None = None
    cache_write_input_usd: Decimal | None = None
    cache_write_1h_input_usd: Decimal | None = None
    audio_input_usd: Decimal | None = None
    reasoning_usd: Decimal | None = None
    audio_output_usd: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard:
    """
    The rates of one service tier.

    Attributes:
        base: For prompts up to the lowest threshold.
        above: `(input_tokens, rates)`, ascending: the rates of *all* tokens of a request with more
            input tokens than that. A cliff, as providers bill it.
    """

    base: Rates
    above: tuple[tuple[int, Rates], ...] = ()


Ceiling = tuple[int, Decimal, Decimal]
"""Input tokens above which it counts, and the dearest rates of input and output, in US dollars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice:
    """
    All that is known of a model's price.

    Attributes:
        standard: Where no service tier with rates of its own was served.
        by_service_tier: Such as `priority` and `flex`.
        by_region: The price where the provider says that the model ran there; elsewhere this one
            counts.
        max_input_tokens: Most input that the model takes, or None where unknown.
        max_output_tokens: Most output of one choice, or None where unknown.
        may_reason: Whether the model is known to think before it answers, if only when asked to.
        is_media_priced: Whether tokens tell what images, audio and video in the input cost.
        ceilings: What `bounds` has made of it, by what it was asked for: each request asks.
    """

    standard: RateCard
    by_service_tier: Mapping[str, RateCard] = field(default_factory=dict)
    by_region: Mapping[str, "ModelPrice"] = field(default_factory=dict)
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    may_reason: bool = False
    is_media_priced: bool = True
    ceilings: dict[object, tuple[Ceiling, ...]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """
    One kind of token that is priced by itself.

    Attributes:
        rate: Field of `Rates`.
        litellm_key: Key in LiteLLM's price table, US dollars per token.
        parent: Field of `Rates` that applies where this part has no rate; None for the two that
            every price must name.
    """

    rate: str
    litellm_key: str
    parent: str | None


PARTS = (
    Part(
        rate="input_usd",
        litellm_key="input_cost_per_token",
        parent=None,
    ),
    Part(
        rate="output_usd",
        litellm_key="output_cost_per_token",
        parent=None,
    ),
    Part(
        rate="cached_input_usd",
        litellm_key="cache_read_input_token_cost",
        parent="input_usd",
    ),
    Part(
        rate="cache_write_input_usd",
        litellm_key="cache_creation_input_token_cost",
        parent="input_usd",
    ),
    # Where only the short time's writes are priced, the hour's cannot be cheaper.
    Part(
        rate="cache_write_1h_input_usd",
        litellm_key="cache_creation_input_token_cost_above_1hr",
        parent="cache_write_input_usd",
    ),
    Part(
        rate="audio_input_usd",
        litellm_key="input_cost_per_audio_token",
        parent="input_usd",
    ),
    Part(
        rate="reasoning_usd",
        litellm_key="output_cost_per_reasoning_token",
        parent="output_usd",
    ),
    Part(
        rate="audio_output_usd",
        litellm_key="output_cost_per_audio_token",
        parent="output_usd",
    ),
)
"""In the order in which a parent stands before its parts."""

INPUT_RATES = (
    "input_usd",
    "cached_input_usd",
    "cache_write_input_usd",
    "cache_write_1h_input_usd",
    "audio_input_usd",
)
OUTPUT_RATES = ("output_usd", "reasoning_usd", "audio_output_usd")

PARENT_BY_RATE = {part.rate: part.parent for part in PARTS if part.parent is not None}

# A name that providers answer with, and the one that it is priced under.
# Source: LiteLLM 1.106.2, `llm_cost_calc/utils.py`, `_SERVICE_TIER_TO_COST_KEY_SUFFIX`.
_SERVICE_TIER_ALIASES = {"fast": "priority"}


def cost_usd(price: ModelPrice, usage: Usage) -> Decimal:
    """
    Return the exact cost of *usage* at the provider, in US dollars.

    Service tier and region are those that the provider says it served; where they have no rates of
    their own, or none was told, the standard ones apply.
    """
    parts = split(usage)
    input_tokens = (
        parts.text_input_tokens
        + parts.cached_input_tokens
        + parts.cache_write_input_tokens
        + parts.cache_write_1h_input_tokens
        + parts.audio_input_tokens
    )
    card = card_of(_price_in(price, usage.region), usage.service_tier)
    rates = rates_at(card, input_tokens)
    counts = (
        ("input_usd", parts.text_input_tokens),
        ("cached_input_usd", parts.cached_input_tokens),
        ("cache_write_input_usd", parts.cache_write_input_tokens),
        ("cache_write_1h_input_usd", parts.cache_write_1h_input_tokens),
        ("audio_input_usd", parts.audio_input_tokens),
        ("output_usd", parts.text_output_tokens),
        ("reasoning_usd", parts.reasoning_tokens),
        ("audio_output_usd", parts.audio_output_tokens),
    )
    total_usd = Decimal(0)
    for rate, tokens in counts:
        if tokens:
            total_usd = EXACT.fma(rate_of(rates, rate), tokens, total_usd)
    return total_usd


def _price_in(price: ModelPrice, region: str | None) -> ModelPrice:
    return price if region is None else price.by_region.get(region.lower(), price)


def card_of(price: ModelPrice, service_tier: str | None) -> RateCard:
    """Return the rates of *service_tier*, or the standard ones where it has none of its own."""
    if service_tier is None:
        return price.standard
    name = service_tier.lower()
    name = _SERVICE_TIER_ALIASES.get(name, name)
    return price.by_service_tier.get(name, price.standard)


def rates_at(card: RateCard, input_tokens: int) -> Rates:
    """Return the rates of a request with *input_tokens*, cached and audio ones included."""
    rates = card.base
    for threshold_tokens, above in card.above:
        if input_tokens > threshold_tokens:
            rates = above
    return rates


def rate_of(rates: Rates, name: str) -> Decimal:
    """Return the rate in field *name* of *rates*, or its parent's where it has none."""
    rate: Decimal | None = getattr(rates, name)
    return rate if rate is not None else rate_of(rates, PARENT_BY_RATE[name])
