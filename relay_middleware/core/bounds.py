"""
Bounds: the most that a request can cost, known before it is sent.

A hold is an upper bound or says that it is none. A bound from bytes is loose, but it holds for
every tokenizer that spends at least one byte on a token; one from counted tokens is an estimate.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from enum import Enum

from relay_middleware.core.money import EXACT
from relay_middleware.core.pricing import (
    INPUT_RATES,
    OUTPUT_RATES,
    Ceiling,
    ModelPrice,
    RateCard,
    Rates,
    card_of,
    rate_of,
)
from relay_middleware.core.values import dataclass

FRAMING_TOKENS_PER_INPUT = 16
"""What a provider wraps around a message. OpenAI's format takes 3 or 4 tokens (OpenAI cookbook,
"How to count tokens with tiktoken", read 2026-11-23); the rest is a margin for others."""

FRAMING_TOKENS = 64
"""What a provider adds once: the start of the answer, a line of its own before the prompt."""

TOOL_INSTRUCTION_TOKENS = 1024
"""What a provider writes before the functions, or the form of the answer, that a request describes.
Anthropic's takes 264 to 530 tokens by model ("Tool use", read 2026-11-23), also where LiteLLM makes
a function of an answer's form; the rest is a margin for others."""

COUNT_MARGIN_PERCENT = 3
"""Added to what our tokenizer counts: it sees texts, not what the provider makes of a request."""

_STANDARD = frozenset({"default", "standard", "on_demand"})
"""How a request asks for the standard rates, at OpenAI, Google and Groq."""

_UPGRADED = "priority"
"""What a provider may serve of its own accord, to who leaves the choice to it.

Source: OpenAI, "Priority processing" (a project's setting decides for requests that name no service
tier), and its API reference (`auto` is that setting, and what a request without the member gets);
LiteLLM 1.106.2, `vertex_and_google_ai_studio_gemini.py` (`auto` becomes Gemini's `priority`); read
2026-11-24. Dearer tiers are served to who asks for them.
"""

_SERVED_AS_ASKED = frozenset({"flex", "priority", "fast"})
"""Service tiers that are served or, where there is no room, replaced by the standard one. What is
not known may be served as any."""


def names_rates(service_tier: str | None) -> bool:
    """Say whether *service_tier*, as asked, may be served at other rates than who asks for none."""
    return service_tier is not None and service_tier.lower() not in {*_STANDARD, "auto"}


class CacheWrites(Enum):
    """What of the input a provider may write to its prompt cache, at rates of their own."""

    NONE = "none"
    SHORT = "short"
    ANY = "any"
    """For an hour too."""


_INPUT_RATES_BY_WRITES: Mapping[CacheWrites, tuple[str, ...]] = {
    CacheWrites.NONE: tuple(name for name in INPUT_RATES if "write" not in name),
    CacheWrites.SHORT: tuple(name for name in INPUT_RATES if "write_1h" not in name),
    CacheWrites.ANY: INPUT_RATES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputBound:
    """
    The most input tokens that a provider can count for a request.

    Attributes:
        is_exact: Whether it is proven: counts cannot be above it.
    """

    tokens: int
    is_exact: bool


def framing_tokens(framed_inputs: int, *, has_tools: bool) -> int:
    """
    Return the most that a provider adds to the texts of a request.

    Args:
        framed_inputs: How many messages, or inputs of another kind, it holds.
        has_tools: Whether it describes functions, or a form of the answer.
    """
    framing = FRAMING_TOKENS_PER_INPUT * framed_inputs + FRAMING_TOKENS
    return framing + (TOOL_INSTRUCTION_TOKENS if has_tools else 0)


def input_bound(
    body_bytes: int, framed_inputs: int, *, has_tools: bool, opaque_tokens: int | None
) -> InputBound:
    """
    Bound the input tokens of a request.

    Args:
        body_bytes: Length of the JSON body as it came.
        framed_inputs: As for `framing_tokens`.
        has_tools: The same.
        opaque_tokens: For a request that names images, audio or files, whose tokens no length
            tells: the most input that the model takes. None where all input is text.
    """
    if opaque_tokens is not None:
        return InputBound(tokens=opaque_tokens, is_exact=False)
    tokens = input_bound_tokens(body_bytes, framed_inputs, has_tools=has_tools)
    return InputBound(tokens=tokens, is_exact=True)


def input_bound_tokens(body_bytes: int, framed_inputs: int, *, has_tools: bool) -> int:
    """
    Return more tokens than a body of text can have.

    A byte-level tokenizer makes at most one token of each UTF-8 byte, and JSON is never shorter
    than the text it carries: an escape takes more bytes than its character (`\\u00e9` six for two).
    """
    return body_bytes + framing_tokens(framed_inputs, has_tools=has_tools)


def counted_bound(bound: InputBound, counted_tokens: int, framing: int) -> InputBound:
    """
    Return *bound* lowered to what was counted, with a margin; never raised.

    Args:
        counted_tokens: Of the texts alone.
        framing: As from `framing_tokens`.
    """
    tokens = -(-counted_tokens * (100 + COUNT_MARGIN_PERCENT) // 100) + framing
    return InputBound(tokens=tokens, is_exact=False) if tokens < bound.tokens else bound


def upper_bound_usd(
    price: ModelPrice,
    *,
    input_tokens: int,
    output_tokens: int,
    service_tier: str | None,
    is_upgradable: bool = True,
    cache_writes: CacheWrites = CacheWrites.ANY,
) -> Decimal:
    """
    Return the most that a request can cost at the provider, in US dollars, exactly.

    Not below `cost_usd` of any usage of at most *input_tokens* and *output_tokens*, parts included
    whatever they are but for cache writes beyond *cache_writes*, in whatever region, served by a
    tier that the request may get.

    Args:
        input_tokens: Upper bound of the input.
        output_tokens: Upper bound of the output, all choices together.
        service_tier: As the request asks for it, or None.
        is_upgradable: Whether the provider may serve a request that asks for no service tier by a
            dearer one.
    """
    served = _served(service_tier, is_upgradable=is_upgradable)
    ceilings = price.ceilings.get((served, cache_writes))
    if ceilings is None:
        ceilings = tuple(_ceilings(price, served, _INPUT_RATES_BY_WRITES[cache_writes]))
        price.ceilings[served, cache_writes] = ceilings
    return max(
        [
            EXACT.add(
                EXACT.multiply(input_usd, input_tokens), EXACT.multiply(output_usd, output_tokens)
            )
            for threshold_tokens, input_usd, output_usd in ceilings
            # The rates above a threshold need not be dearer than those below.
            if input_tokens > threshold_tokens
        ]
    )


_ANY = "any"


def _served(service_tier: str | None, *, is_upgradable: bool) -> str:
    """By what a request may be served beside the standard tier, in one of a few words."""
    asked = None if service_tier is None else service_tier.lower()
    if asked in _STANDARD or (asked is None and not is_upgradable):
        return ""
    if asked in (None, "auto"):
        return _UPGRADED
    return asked if asked in _SERVED_AS_ASKED else _ANY


def _ceilings(price: ModelPrice, served: str, input_rates: tuple[str, ...]) -> Iterator[Ceiling]:
    for regional in (price, *price.by_region.values()):
        for card in _cards(regional, served):
            for threshold_tokens, rates in ((-1, card.base), *card.above):
                yield threshold_tokens, _dearest(rates, input_rates), _dearest(rates, OUTPUT_RATES)


def _cards(price: ModelPrice, served: str) -> tuple[RateCard, ...]:
    """The rates by which a request may be served; the standard ones always may."""
    if served == _ANY:
        return (price.standard, *price.by_service_tier.values())
    return (price.standard, card_of(price, served)) if served else (price.standard,)


def _dearest(rates: Rates, names: tuple[str, ...]) -> Decimal:
    return max(rate_of(rates, name) for name in names)
