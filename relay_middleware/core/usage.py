"""
Usage: what a provider says it counted, in one vocabulary.

Providers differ in what a count includes. Here `input_tokens` and `output_tokens` always *include*
their parts; `split` makes the parts disjoint before anything is priced, so that no token is charged
twice.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum

from relay_middleware.core.values import dataclass


class UsageSource(Enum):
    """
    Where the counts of a request come from. Only the first is exact; only the last is never less.
    """

    PROVIDER = "provider"
    COUNTED = "counted"
    """The provider sent none, or none of all that came: counted here, wholly or in part."""
    BOUND = "bound"
    """Nobody knows, because the client left and what came does not tell: the most it can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """
    Tokens of one answer.

    Attributes:
        input_tokens: All input, cached and audio parts included.
        cached_input_tokens: Read from the provider's prompt cache.
        cache_write_input_tokens: Written to the cache for the short time (Anthropic: 5 minutes).
        cache_write_1h_input_tokens: Written to the cache for an hour.
        audio_input_tokens: Audio in the input.
        output_tokens: All output, reasoning and audio parts included.
        reasoning_tokens: Output that the client does not see.
        audio_output_tokens: Audio in the output.
        service_tier: The one that the provider says it served, or None.
        region: Where the provider says the model ran, if that decides the price, or None.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    cache_write_1h_input_tokens: int = 0
    audio_input_tokens: int = 0
    reasoning_tokens: int = 0
    audio_output_tokens: int = 0
    service_tier: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageParts:
    """
    The same tokens, each in exactly one field: the sum is `input_tokens + output_tokens`.
    """

    text_input_tokens: int
    cached_input_tokens: int
    cache_write_input_tokens: int
    cache_write_1h_input_tokens: int
    audio_input_tokens: int
    text_output_tokens: int
    reasoning_tokens: int
    audio_output_tokens: int


def split(usage: Usage) -> UsageParts:
    """
    Make the parts of *usage* disjoint.

    Where a provider's parts exceed its whole, the parts count and the whole is what they add up to:
    a settle is never refused, and no part is lost.
    """
    input_parts = (
        usage.cached_input_tokens
        + usage.cache_write_input_tokens
        + usage.cache_write_1h_input_tokens
        + usage.audio_input_tokens
    )
    output_parts = usage.reasoning_tokens + usage.audio_output_tokens
    return UsageParts(
        text_input_tokens=max(0, usage.input_tokens - input_parts),
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_input_tokens=usage.cache_write_input_tokens,
        cache_write_1h_input_tokens=usage.cache_write_1h_input_tokens,
        audio_input_tokens=usage.audio_input_tokens,
        text_output_tokens=max(0, usage.output_tokens - output_parts),
        reasoning_tokens=usage.reasoning_tokens,
        audio_output_tokens=usage.audio_output_tokens,
    )


# Source: OpenAI API reference, "The chat completion object", read 2026-11-23; xAI, "Chat
# completions", usage with `reasoning_tokens` beside `completion_tokens`, read 2026-11-23;
# Anthropic, "Data residency" (`inference_geo` in the usage, which LiteLLM hands on), read
# 2026-11-24. A translated answer has LiteLLM's `usage`, which is OpenAI's with the cache's writes
# beside.
def from_openai(
    usage: object,
    *,
    reasoning_in_output: bool,
    service_tier: object = None,
    needs_output: bool = False,
) -> Usage | None:
    """
    Read the `usage` object of OpenAI's chat completions or embeddings.

    `prompt_tokens` includes cached and audio tokens there. Whether `completion_tokens` includes the
    reasoning differs by provider (xAI's does not), hence an argument without a default.

    Args:
        usage: The decoded member, whatever it was.
        reasoning_in_output: Whether `completion_tokens` includes `reasoning_tokens`.
        service_tier: The answer's own member of that name.
        needs_output: Whether an answer of this kind has output, so that its count must be there.

    Returns:
        None where *usage* is not an object with a whole, non-negative `prompt_tokens`, and
        `completion_tokens` where that must be there: then the provider sent no usage, and nothing
        is free for that. A count of zero is a count.
    """
    if not isinstance(usage, Mapping):
        return None
    input_tokens = _count(usage, "prompt_tokens")
    output_tokens = _count(usage, "completion_tokens")
    if input_tokens is None or (needs_output and output_tokens is None):
        return None
    of_input = _object(usage, "prompt_tokens_details")
    write_tokens, write_1h_tokens = _cache_writes(of_input)
    of_output = _object(usage, "completion_tokens_details")
    reasoning_tokens = _count(of_output, "reasoning_tokens") or 0
    beside_tokens = 0 if reasoning_in_output else reasoning_tokens
    return Usage(
        input_tokens=input_tokens,
        output_tokens=(output_tokens or 0) + beside_tokens,
        cached_input_tokens=_count(of_input, "cached_tokens") or 0,
        cache_write_input_tokens=write_tokens,
        cache_write_1h_input_tokens=write_1h_tokens,
        audio_input_tokens=_count(of_input, "audio_tokens") or 0,
        reasoning_tokens=reasoning_tokens,
        audio_output_tokens=_count(of_output, "audio_tokens") or 0,
        service_tier=_text(service_tier),
        region=_text(usage.get("inference_geo")),
    )


def _cache_writes(of_input: Mapping[object, object]) -> tuple[int, int]:
    """What was written for the short time, and for an hour; LiteLLM's, of a translated answer."""
    of_writes = _object(of_input, "cache_creation_token_details")
    write_1h_tokens = _count(of_writes, "ephemeral_1h_input_tokens") or 0
    write_tokens = _count(of_input, "cache_write_tokens") or 0
    return max(0, write_tokens - write_1h_tokens), write_1h_tokens


BYTES_PER_TOKEN = 4
"""Average of English prose under today's tokenizers (4 to 6); counted when nobody reports. Far from
one token a byte, which is what a hold assumes of the input; of the output see `within_cap`. Digits
and signs are more tokens than that, so of a stream no fewer are counted than it had pieces: no
provider sends a piece of text that is not a token at least."""


def counted_usage(*, input_bytes: int, output_bytes: int) -> Usage:
    """
    Estimate the tokens of an answer that came without usage: a token for every four bytes begun.

    Args:
        input_bytes: UTF-8 bytes of the request's text.
        output_bytes: UTF-8 bytes of the text and tool arguments received from the provider.
    """
    return Usage(
        input_tokens=-(-input_bytes // BYTES_PER_TOKEN),
        output_tokens=-(-output_bytes // BYTES_PER_TOKEN),
    )


def with_output(usage: Usage, output_bytes: int, output_pieces: int) -> Usage:
    """
    Return *usage*, and beside it the output that came since it was reported, counted.

    Args:
        output_bytes: UTF-8 bytes of the text and tool arguments received from the provider.
        output_pieces: How many pieces of those came; each is a token at least.
    """
    tokens = max(-(-output_bytes // BYTES_PER_TOKEN), output_pieces)
    return replace(usage, output_tokens=usage.output_tokens + tokens)


def within_cap(usage: Usage, output_cap_tokens: int) -> Usage:
    """
    Return *usage*, which was counted, with no more output than the provider was allowed: words of
    more than four bytes, and pieces of less than a token, are counted as more tokens than they are,
    and a hold must not be passed by an estimate.
    """
    return replace(usage, output_tokens=min(usage.output_tokens, output_cap_tokens))


def without_output(usage: Usage) -> Usage:
    """Return the input of *usage*: what a provider reports before its answer says no more."""
    return replace(usage, output_tokens=0, reasoning_tokens=0, audio_output_tokens=0)


MAX_TOKENS = 2**31 - 1
"""Most tokens that are believed. No model takes a thousandth of it, and what it costs still fits
the 64-bit integers of Redis and SQL."""


def _count(container: Mapping[object, object], key: str) -> int | None:
    """A whole number of tokens; anything else (a lie, a float, a bool) is absent."""
    value = container.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
        return None
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _object(container: Mapping[object, object], key: str) -> Mapping[object, object]:
    value = container.get(key)
    # Not by `Mapping`, which takes five times as long to say no.
    return value if isinstance(value, dict) else {}
