"""
Bounds: the most that a request can cost, known before it is sent.

A hold is an upper bound or says that it is none. Nothing is tokenised here: a bound from bytes is
loose, but it holds for every tokenizer that spends at least one byte on a token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from relay_middleware.core.money import EXACT
from relay_middleware.core.pricing import (
    INPUT_RATES,
    OUTPUT_RATES,
    ModelPrice,
    RateCard,
    Rates,
    card_of,
    rate_of,
)

FRAMING_TOKENS_PER_INPUT = 16
"""What a provider wraps around a message. OpenAI's format takes 3 or 4 tokens (OpenAI cookbook,
"How to count tokens with tiktoken", read 2026-11-23); the rest is a margin for others."""

FRAMING_TOKENS = 64
"""What a provider adds once: the start of the answer, a line of its own before the prompt."""

TOOL_INSTRUCTION_TOKENS = 1024
"""What a provider writes before the functions that a request describes. Anthropic's takes 264 to
530 tokens by model ("Tool use", read 2026-11-23); the rest is a margin for others."""

# Served at the standard rates or cheaper ones. `auto` is what a request without the member gets.
_STANDARD_SERVICE_TIERS = frozenset({"auto", "default", "flex"})


@dataclass(frozen=True, slots=True, kw_only=True)
class InputBound:
    """
    The most input tokens that a provider can count for a request.

    Attributes:
        is_exact: Whether it is proven: counts cannot be above it.
    """

    tokens: int
    is_exact: bool


def input_bound(
    body_bytes: int, framed_inputs: int, *, has_tools: bool, opaque_tokens: int | None
) -> InputBound:
    """
    Bound the input tokens of a request.

    Args:
        body_bytes: Length of the JSON body as it came.
        framed_inputs: How many messages, or inputs of another kind, it holds.
        has_tools: Whether it describes functions.
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
    framing = FRAMING_TOKENS_PER_INPUT * framed_inputs + FRAMING_TOKENS
    return body_bytes + framing + (TOOL_INSTRUCTION_TOKENS if has_tools else 0)


def upper_bound_usd(
    price: ModelPrice, *, input_tokens: int, output_tokens: int, service_tier: str | None
) -> Decimal:
    """
    Return the most that a request can cost at the provider, in US dollars, exactly.

    Not below `cost_usd` of any usage of at most *input_tokens* and *output_tokens*, parts included
    whatever they are, served by the standard service tier or by the one that was asked for.

    Args:
        input_tokens: Upper bound of the input.
        output_tokens: Upper bound of the output, all choices together.
        service_tier: As the request asks for it, or None. One that is not known to be standard may
            be served as any: then the dearest counts.
    """
    return max(
        EXACT.add(
            EXACT.multiply(_dearest(rates, INPUT_RATES), Decimal(input_tokens)),
            EXACT.multiply(_dearest(rates, OUTPUT_RATES), Decimal(output_tokens)),
        )
        for card in _cards(price, service_tier)
        for rates in _reachable(card, input_tokens)
    )


def _cards(price: ModelPrice, service_tier: str | None) -> tuple[RateCard, ...]:
    if service_tier is None or service_tier in _STANDARD_SERVICE_TIERS:
        return (price.standard, card_of(price, service_tier))
    return (price.standard, *price.by_service_tier.values())


def _reachable(card: RateCard, input_tokens: int) -> Iterator[Rates]:
    """The rates that a request of at most *input_tokens* may get: the higher need not be dearer."""
    yield card.base
    for threshold_tokens, rates in card.above:
        if input_tokens > threshold_tokens:
            yield rates


def _dearest(rates: Rates, names: tuple[str, ...]) -> Decimal:
    return max(rate_of(rates, name) for name in names)
