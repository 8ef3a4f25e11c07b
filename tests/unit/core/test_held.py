"""
What is held: never below the charge, from an entry of a price table to the bill.
"""

from dataclasses import dataclass

from hypothesis import assume, given
from hypothesis import strategies as st

from relay_middleware.core.charging import bill, bound_tokens, hold_amount
from relay_middleware.core.demands import demand_of
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints import chat
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.price_entries import from_litellm_entry
from relay_middleware.core.pricing import PARTS
from relay_middleware.core.tiers import Margin, Tier
from relay_middleware.core.usage import Usage

RATE = st.decimals(min_value=0, max_value="0.01", places=12)
KEYS = st.builds(
    "{}{}{}".format,
    st.sampled_from([part.litellm_key for part in PARTS]),
    st.sampled_from(["", "_above_128k_tokens", "_above_200k_tokens"]),
    st.sampled_from(["", "_flex", "_priority", "_ultrafast"]),
)
ENTRIES = st.builds(
    lambda rates, wholes, others: {**rates, **wholes, **others},
    st.dictionaries(KEYS, RATE, max_size=12),
    st.fixed_dictionaries({"input_cost_per_token": RATE, "output_cost_per_token": RATE}),
    st.fixed_dictionaries(
        {
            "litellm_provider": st.sampled_from(["openai", "xai"]),
            "max_output_tokens": st.integers(1, 5000),
            "provider_specific_entry": st.dictionaries(
                st.sampled_from(["us", "eu"]), st.decimals("0.5", 3, places=2)
            ),
        }
    ),
)
BODY_BYTES = st.sampled_from([100, 127_800, 128_000, 199_800, 200_000, 300_000])
SHARES = st.lists(st.integers(0, 10), min_size=5, max_size=5)

MAY_BE_SERVED = {
    None: ["default", "priority"],
    "auto": ["default", "priority"],
    "default": ["default", None],
    "flex": ["flex", "default"],
    "priority": ["priority", "default"],
    "ultrafast": ["ultrafast", "priority", "default"],
}
SERVICE_TIERS = st.sampled_from(
    [(asked, served) for asked, all_served in MAY_BE_SERVED.items() for served in all_served]
)
MARGINS = st.builds(
    Margin,
    percent=st.decimals(0, 300, places=2),
    per_request_nano_usd=st.integers(0, 10**9).map(NanoUsd),
)


@dataclass(frozen=True)
class Answer:
    """What becomes of a request, as far as its bound allows it."""

    input_shares: list[int]
    output_shares: list[int]
    is_full: bool
    region: str | None


ANSWERS = st.builds(
    Answer, SHARES, SHARES, st.booleans(), st.sampled_from([None, "us", "eu", "elsewhere"])
)


def shared(total: int, shares: list[int]) -> list[int]:
    """*total* in parts, roughly by *shares*; what is left over is no part."""
    whole = sum(shares) or 1
    return [total * share // whole for share in shares]


@given(
    entry=ENTRIES,
    body_bytes=BODY_BYTES,
    n=st.integers(1, 3),
    cap=st.integers(1, 10_000),
    is_output_capped=st.booleans(),
    is_marked=st.sampled_from([None, "5m", "1h"]),
    tiers=SERVICE_TIERS,
    margin=MARGINS,
    answer=ANSWERS,
)
def test_no_charge_is_above_its_hold(
    *,
    entry: dict[str, object],
    body_bytes: int,
    n: int,
    cap: int,
    is_output_capped: bool,
    is_marked: str | None,
    tiers: tuple[str | None, str | None],
    margin: Margin,
    answer: Answer,
) -> None:
    """
    Whatever the table says, the request asks for and the provider serves within its bounds: the
    charge is at most the hold, and the tokens at most the bound of tokens.
    """
    asked, served = tiers
    price = from_litellm_entry(entry)
    assume(price is not None)
    deployment = Deployment(
        deployment_id=DeploymentId("smart#1"),
        model="smart",
        provider="anthropic",
        deployment_model="claude",
        api_base=None,
        api_key=None,
        price=price,
        is_output_capped=is_output_capped,
        is_upgradable=True,
        writes_cache_unasked=False,
    )
    mark = {} if is_marked is None else {"cache_control": {"type": "ephemeral", "ttl": is_marked}}
    call = chat.parse(
        {"messages": [{"role": "user", "content": "hi", **mark}], "n": n, "service_tier": asked}
    )
    tier = Tier(name="free", models=None, margin=margin)
    demand = demand_of(call, [deployment], tier, is_limited=True, body_bytes=body_bytes)
    input_tokens = demand.candidates[0].input_bound.tokens if answer.is_full else body_bytes
    longest = price.max_output_tokens or 0
    output_tokens = n * (min(cap, longest) if is_output_capped else longest)
    inputs = shared(input_tokens, answer.input_shares)
    outputs = shared(output_tokens, answer.output_shares[:3])
    usage = Usage(
        input_tokens=input_tokens,
        cached_input_tokens=inputs[1],
        cache_write_input_tokens=0 if is_marked is None else inputs[2],
        cache_write_1h_input_tokens=inputs[3] if is_marked == "1h" else 0,
        audio_input_tokens=inputs[4],
        output_tokens=output_tokens,
        reasoning_tokens=outputs[1],
        audio_output_tokens=outputs[2],
        service_tier=served,
        region=answer.region,
    )

    charged = bill(price, usage, margin).charge_nano_usd

    assert charged <= hold_amount(demand, cap)
    assert usage.input_tokens + usage.output_tokens <= bound_tokens(demand, cap)
