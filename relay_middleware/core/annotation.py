"""
Annotation: the cost of an answer, told in its body and in its headers.

Amounts are printed from exact integers and spliced in as bytes: no float touches them, and the
provider's own bytes stay what they were.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from relay_middleware.core.money import NanoUsd, format_cents
from relay_middleware.core.rates import RateStatus, TokenStatus
from relay_middleware.core.usage import Usage, UsageSource
from relay_middleware.core.values import dataclass

MEMBERS = ("cost_cents", "relay")
"""What is added to a body. A provider's own members of these names (another Relay's) give way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """
    What an answer tells about itself.

    Attributes:
        attempts: How many deployments were tried.
        charge_nano_usd: What the customer pays for it.
        provider_cost_nano_usd: What the operator pays; None where the reader may not know.
        spend_remaining_nano_usd: The smallest remainder of the customer's limits; None where there
            is no limit, or it is not known.
        is_priced: Whether the model had a price.
    """

    request_id: str
    customer_id: str
    tier: str
    model: str
    provider: str
    deployment_model: str
    attempts: int
    usage: Usage
    usage_source: UsageSource
    charge_nano_usd: NanoUsd
    provider_cost_nano_usd: NanoUsd | None
    spend_remaining_nano_usd: NanoUsd | None
    is_priced: bool


def to_members(receipt: Receipt, encode: Callable[[object], bytes]) -> bytes:
    """
    Return the members to add to a JSON object, without braces: `"cost_cents":…,"relay":{…}`.
    """
    facts: dict[str, object] = {
        "request_id": receipt.request_id,
        "customer_id": receipt.customer_id,
        "tier": receipt.tier,
        "model": receipt.model,
        "provider": receipt.provider,
        "deployment_model": receipt.deployment_model,
        "attempts": receipt.attempts,
        "input_tokens": receipt.usage.input_tokens,
        "output_tokens": receipt.usage.output_tokens,
        "cached_input_tokens": receipt.usage.cached_input_tokens,
        "charge_nano_usd": receipt.charge_nano_usd,
        "usage_source": receipt.usage_source.value,
    }
    if receipt.provider_cost_nano_usd is not None:
        facts["provider_cost_nano_usd"] = receipt.provider_cost_nano_usd
    if not receipt.is_priced:
        facts["is_priced"] = False
    relay = encode(facts).decode()
    if receipt.spend_remaining_nano_usd is not None:
        remaining = format_cents(receipt.spend_remaining_nano_usd)
        relay = f'{relay[:-1]},"spend_remaining_cents":{remaining}}}'
    return f'"cost_cents":{format_cents(receipt.charge_nano_usd)},"relay":{relay}'.encode()


def splice(body: bytes, added: bytes) -> bytes:
    """
    Add the members *added* at the end of *body*, the text of a JSON object without them.

    All other bytes stay as they are.
    """
    head = body.rstrip()[:-1].rstrip()
    separator = b"" if head.endswith(b"{") else b","
    return b"%b%b%b}" % (head, separator, added)


def to_headers(receipt: Receipt) -> list[tuple[bytes, bytes]]:
    """Return the response headers of an answer whose cost is known."""
    return [
        *opening_headers(receipt.request_id, receipt.customer_id, receipt.model),
        *route_headers(receipt.provider, receipt.attempts),
        (b"x-relay-cost-cents", format_cents(receipt.charge_nano_usd).encode()),
        (b"x-relay-input-tokens", b"%d" % receipt.usage.input_tokens),
        (b"x-relay-output-tokens", b"%d" % receipt.usage.output_tokens),
        *remaining_headers(receipt.spend_remaining_nano_usd),
    ]


def opening_headers(
    request_id: str, customer_id: str | None, model: str | None
) -> list[tuple[bytes, bytes]]:
    """Return the headers that are known before a provider answers; None is left out."""
    headers = [(b"x-request-id", request_id.encode())]
    if customer_id is not None:
        headers.append((b"x-relay-customer", customer_id.encode()))
    if model is not None:
        # A configured name may hold any character; a header may not.
        headers.append((b"x-relay-model", ascii(model)[1:-1].encode()))
    return headers


def route_headers(provider: str, attempts: int) -> list[tuple[bytes, bytes]]:
    """Return the headers that tell which way a request went."""
    return [(b"x-relay-provider", provider.encode()), (b"x-relay-attempts", b"%d" % attempts)]


def dropped_headers(dropped: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """Return the header that names what the provider was not told; none where that is nothing."""
    return [(b"x-relay-dropped-parameters", ",".join(dropped).encode())] if dropped else []


def remaining_headers(remaining: NanoUsd | None) -> list[tuple[bytes, bytes]]:
    """Return the header of what is left of the customer's limits; none where that is not known."""
    if remaining is None:
        return []
    return [(b"x-relay-spend-remaining-cents", format_cents(remaining).encode())]


def rate_headers(rates: Sequence[RateStatus]) -> list[tuple[bytes, bytes]]:
    """
    Return OpenAI's `x-ratelimit-*-requests` for the rate of *rates* that has the least left.

    Source: OpenAI, "Rate limits in headers", read 2026-11-23: resets are durations like `6m0s`.
    """
    if not rates:
        return []
    tightest = min(rates, key=lambda rate: rate.remaining_requests)
    return [
        (b"x-ratelimit-limit-requests", b"%d" % tightest.limit_requests),
        (b"x-ratelimit-remaining-requests", b"%d" % tightest.remaining_requests),
        (b"x-ratelimit-reset-requests", format_duration(tightest.reset_after_s).encode()),
    ]


def token_headers(tokens: Sequence[TokenStatus]) -> list[tuple[bytes, bytes]]:
    """
    Return OpenAI's `x-ratelimit-*-tokens` for the limit of *tokens* that has the least left.

    Source: OpenAI, "Rate limits in headers", read 2026-11-24: the reset is when the limit is as if
    nothing had been taken.
    """
    if not tokens:
        return []
    tightest = min(tokens, key=lambda status: status.remaining_tokens)
    return [
        (b"x-ratelimit-limit-tokens", b"%d" % tightest.limit.limit_tokens),
        (b"x-ratelimit-remaining-tokens", b"%d" % tightest.remaining_tokens),
        (b"x-ratelimit-reset-tokens", format_duration(tightest.reset_after_s).encode()),
    ]


def format_duration(seconds: float) -> str:
    """
    Print a duration as OpenAI does, rounded up: `12ms`, `1s`, `6m0s`, `1h0m0s`.
    """
    if seconds < 1:
        return f"{max(0, math.ceil(seconds * 1000))}ms"
    whole_s = math.ceil(seconds)
    hours, rest_s = divmod(whole_s, 3600)
    minutes, seconds_left = divmod(rest_s, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds_left}s"
    return f"{minutes}m{seconds_left}s" if minutes else f"{seconds_left}s"


def annotated(
    data: bytes,
    answer: Mapping[str, object],
    *,
    usage: Mapping[str, object],
    added: bytes,
    encode: Callable[[object], bytes],
) -> bytes:
    """
    Return *answer*, whose text is *data*, with its `usage` set and the members *added*.

    Where the answer carries that usage already, its bytes are kept.
    """
    if answer.get("usage") != usage or any(name in answer for name in MEMBERS):
        kept = {name: value for name, value in answer.items() if name not in MEMBERS}
        data = encode({**kept, "usage": usage})
    return splice(data, added)
