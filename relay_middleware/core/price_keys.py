"""
Keys of LiteLLM's price table: what each of them prices.

Rules for editors. A key that is not known here prices something that no count of tokens tells: its
entry has no price, and is never too cheap by omission. Read with LiteLLM 1.106.2.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum

from relay_middleware.core.pricing import PARTS

RATE_BY_KEY: Mapping[str, str] = {part.litellm_key: part.rate for part in PARTS}

TOKEN_RATE = re.compile(
    f"({'|'.join(sorted(RATE_BY_KEY, key=len, reverse=True))})"
    r"(?:_above_(\d+)k_tokens)?"
    r"(?:_(flex|balanced|priority|ultrafast))?"
)
"""A rate that is applied: a part, a threshold in thousands of input tokens, a service tier."""

_PRICES_SOMETHING = re.compile("cost|pric|uplift|multiplier|surcharge")

_ELSEWHERE = re.compile(
    # Other products than an answer: batches, LiteLLM's decisions; a unit of Databricks' own; an old
    # spelling; where a deployment is, which `upstream/prices.py` sees to.
    r".*_batches|.*_decisions|(?:input|output)_dbu_cost_per_token|input_cost_per_token_cache_hit"
    r"|regional_(?:endpoint|processing)_uplift_multiplier(?:_[a-z]+)?"
    # Bought by members of a request that customers with a limit may not send (`endpoints/chat.py`).
    r"|search_context_cost_per_query|google_maps_grounding_cost_per_query"
    r"|code_interpreter_cost_per_session|file_search_cost_.*|vector_store_cost_.*"
    r"|computer_use_(?:input|output)_cost_per_1k_tokens"
)

_NOT_DRAWN = re.compile(r"output_cost_per_(?:image|video)(?:_[\w.]+)?")
"""Of pictures in the answer: idle where the model writes text alone."""


class Beyond(Enum):
    """What an entry prices that the tokens of an answer do not tell."""

    NOTHING = "nothing"
    MEDIA = "media"
    """Some of what a request may bring along: images, audio, video."""
    ANSWER = "answer"
    """Any answer may cost more than its tokens."""


_COUNTED_AS = (
    # Each picture, recording or video in the input.
    (r"input_cost_per_(?:image|pixel|(?:audio|video)_per_second)(?:_above_\w+)?", "", Beyond.MEDIA),
    # Tokens that `Usage` does not tell from others.
    (
        r"(?:input_cost_per_|cache_read_input_|cache_creation_input_)(?:audio|image|video)_token.*",
        "input_cost_per_token",
        Beyond.MEDIA,
    ),
    # A token has at least one character.
    (
        r"input_cost_per_character(?:_above_\d+k_tokens)?|explicit_cache_read_input_token_cost",
        "input_cost_per_token",
        Beyond.ANSWER,
    ),
    (r"output_cost_per_(?:image|video)_token", "output_cost_per_token", Beyond.ANSWER),
)
"""Keys, the rate that counts for what they price, and what it is if it is dearer than that."""


def beyond_tokens(entry: Mapping[str, object]) -> Beyond:
    """Return what *entry* prices beyond tokens; a price of zero prices nothing."""
    found = {_beyond(key, entry) for key, value in entry.items() if value}
    return next((kind for kind in (Beyond.ANSWER, Beyond.MEDIA) if kind in found), Beyond.NOTHING)


def _beyond(key: str, entry: Mapping[str, object]) -> Beyond:
    if not _PRICES_SOMETHING.search(key) or TOKEN_RATE.fullmatch(key) or _ELSEWHERE.fullmatch(key):
        return Beyond.NOTHING
    if entry.get("supported_output_modalities") == ["text"] and _NOT_DRAWN.fullmatch(key):
        return Beyond.NOTHING
    for pattern, counted_as, beyond in _COUNTED_AS:
        if re.fullmatch(pattern, key):
            return beyond if _is_dearer(entry, key, counted_as) else Beyond.NOTHING
    return Beyond.ANSWER


def _is_dearer(entry: Mapping[str, object], key: str, counted_as: str) -> bool:
    rate = usd(entry[key])
    return rate is None or rate > (usd(entry.get(counted_as)) or 0)


def usd(value: object) -> Decimal | None:
    """A finite, non-negative amount; a float is taken as it is printed, `1e-06` as 0.000001."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    amount = Decimal(str(value))
    return amount if amount.is_finite() and amount >= 0 else None
