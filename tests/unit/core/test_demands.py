"""
Demands: which deployments bound a request, and by how much.
"""

from dataclasses import replace
from decimal import Decimal

import pytest

from relay_middleware.core.bounds import CacheWrites, InputBound
from relay_middleware.core.charging import Candidate, Demand, bound_tokens, hold_amount
from relay_middleware.core.demands import demand_of
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints.endpoint import Call
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.core.pricing import ModelPrice, RateCard, Rates
from relay_middleware.core.rates import TokenLimit
from relay_middleware.core.refusals import RefusedError
from relay_middleware.core.tiers import Tier

CHEAP = ModelPrice(
    standard=RateCard(base=Rates(input_usd=Decimal(1), output_usd=Decimal(1))),
    max_input_tokens=8000,
    max_output_tokens=500,
)
DIRECT = Deployment(
    deployment_id=DeploymentId("smart#1"),
    model="smart",
    provider="openai",
    deployment_model="gpt",
    api_base=None,
    api_key=None,
    price=CHEAP,
)
CALL = Call(body={}, model="smart", choices=1, framed_inputs=1)
TIER = Tier(name="free", models=None)
PER_MINUTE = TokenLimit("40000/minute", 40_000, 60)

# 100 bytes, 16 tokens around the message, 64 around all.
TEXT_TOKENS = 180


def demand(
    call: Call, *deployments: Deployment, is_limited: bool = True, counts_tokens: bool = False
) -> Demand:
    tier = replace(TIER, token_limits=(PER_MINUTE,)) if counts_tokens else TIER
    return demand_of(call, deployments, tier, is_limited=is_limited, body_bytes=100)


def candidate(call: Call, deployment: Deployment) -> Candidate:
    (only,) = demand(call, deployment).candidates
    return only


def bounds(call: Call, *deployments: Deployment, is_limited: bool = True) -> list[InputBound]:
    asked = demand(call, *deployments, is_limited=is_limited)
    return [candidate.input_bound for candidate in asked.candidates]


def test_text_at_a_direct_provider_is_proven() -> None:
    """
    100 bytes of one message are at most 180 tokens.
    """
    assert bounds(CALL, DIRECT) == [InputBound(tokens=TEXT_TOKENS, is_exact=True)]


def test_a_translated_provider_is_estimated() -> None:
    """
    The same text where LiteLLM translates has the same bound, without a proof.
    """
    translated = replace(DIRECT, provider="anthropic", is_translated=True)

    assert bounds(CALL, DIRECT, translated) == [
        InputBound(tokens=TEXT_TOKENS, is_exact=True),
        InputBound(tokens=TEXT_TOKENS, is_exact=False),
    ]


def test_tools_bring_instructions_with_them() -> None:
    """
    A provider that writes 1,024 tokens about the functions is covered.
    """
    call = replace(CALL, has_tools=True)

    assert bounds(call, DIRECT) == [InputBound(tokens=TEXT_TOKENS + 1024, is_exact=True)]


def test_a_picture_is_bounded_by_the_model() -> None:
    """
    What has no length in bytes counts as the most that the model takes.
    """
    call = replace(CALL, has_opaque_input=True)

    assert bounds(call, DIRECT) == [InputBound(tokens=8000, is_exact=False)]


@pytest.mark.parametrize(
    ("call", "deployment", "code", "known_tokens"),
    [
        (CALL, replace(DIRECT, price=None), "model_not_priced", 180),
        (replace(CALL, unbounded_member="plugins"), DIRECT, "cannot_be_bounded", 180),
        (
            replace(CALL, has_opaque_input=True),
            replace(DIRECT, price=replace(CHEAP, max_input_tokens=None)),
            "cannot_be_bounded",
            180,
        ),
        (
            CALL,
            replace(DIRECT, is_output_capped=False, price=replace(CHEAP, max_output_tokens=None)),
            "cannot_be_bounded",
            180,
        ),
        (
            replace(CALL, has_opaque_input=True),
            replace(DIRECT, price=replace(CHEAP, is_media_priced=False)),
            "cannot_be_bounded",
            8000,
        ),
        (replace(CALL, asks_for_audio=True), DIRECT, "cannot_be_bounded", 180),
        (
            replace(CALL, body={"messages": [{"content": [{"cache_control": {}}]}]}),
            replace(DIRECT, stores_marked_input=True),
            "cannot_be_bounded",
            180,
        ),
    ],
    ids=["price", "plugins", "picture", "output", "picture's fee", "speech", "storage"],
)
def test_without_a_bound(call: Call, deployment: Deployment, code: str, known_tokens: int) -> None:
    """
    What cannot be bounded is refused to customers with a limit, and served to the others, for whom
    what is known is held: a picture is what the model takes.
    """
    with pytest.raises(RefusedError) as refused:
        bounds(call, deployment)

    assert refused.value.refusal.code == code
    served = bounds(call, deployment, is_limited=False)
    assert served == [InputBound(tokens=known_tokens, is_exact=False)]


def test_what_is_known_of_a_candidate() -> None:
    """
    It is known which deployment it is, and whether texts tell what it costs there: not of one that
    may think.
    """
    plain = replace(DIRECT, deployment_id=DeploymentId("smart#2"), reasons_unasked=False)

    asked = demand(CALL, DIRECT, plain)

    assert [each.is_countable for each in asked.candidates] == [False, True]
    assert asked.at(plain.deployment_id) is asked.candidates[1]


def test_embeddings_need_no_bound_of_their_output() -> None:
    """
    A call that generates nothing is served also where nothing bounds the output.
    """
    endless = replace(DIRECT, is_output_capped=False, price=replace(CHEAP, max_output_tokens=None))

    assert bounds(replace(CALL, choices=0), endless) == [
        InputBound(tokens=TEXT_TOKENS, is_exact=True)
    ]


PICTURE = replace(CALL, has_opaque_input=True)


@pytest.mark.parametrize(
    ("call", "deployment"),
    [
        (replace(CALL, unbounded_member="plugins"), DIRECT),
        (PICTURE, replace(DIRECT, price=None)),
        (CALL, replace(DIRECT, is_output_capped=False, price=None)),
    ],
    ids=["plugins", "picture", "output"],
)
def test_tokens_without_a_bound(call: Call, deployment: Deployment) -> None:
    """
    A token limit refuses what brings tokens without a bound, as a limit of money does.
    """
    with pytest.raises(RefusedError) as refused:
        demand(call, deployment, is_limited=False, counts_tokens=True)

    assert refused.value.refusal.code == "cannot_be_bounded"


@pytest.mark.parametrize(
    ("call", "deployment", "tokens"),
    [
        (CALL, replace(DIRECT, price=None), 180 + 50),
        (replace(CALL, asks_for_audio=True), DIRECT, 180 + 50),
        (PICTURE, replace(DIRECT, price=replace(CHEAP, is_media_priced=False)), 8000 + 50),
    ],
    ids=["price", "speech", "picture's fee"],
)
def test_a_token_limit_asks_for_no_price(call: Call, deployment: Deployment, tokens: int) -> None:
    """
    What has no price, or costs more than its tokens, is bounded in tokens all the same.
    """
    asked = demand(call, deployment, is_limited=False, counts_tokens=True)

    assert bound_tokens(asked, 50) == tokens


def test_what_is_not_priced_holds_nothing() -> None:
    """
    Of a priced deployment and one without a price, the first is held for: 180 tokens at a dollar,
    and 50.
    """
    asked = demand(CALL, replace(DIRECT, price=None), DIRECT, is_limited=False)

    assert hold_amount(asked, 50) == 230_000_000_000


def test_each_input_may_be_as_long_as_the_model_takes() -> None:
    """
    Three pictures to embed are three times what the model takes at once.
    """
    call = replace(CALL, choices=0, contexts=3, has_opaque_input=True)

    assert bounds(call, DIRECT) == [InputBound(tokens=24_000, is_exact=False)]


def test_a_text_that_may_name_media() -> None:
    """
    An address is text at a direct provider; a translated one may fetch what it points to.
    """
    call = replace(CALL, choices=0, may_name_media=True)
    translated = replace(DIRECT, is_translated=True)

    assert bounds(call, DIRECT, translated) == [
        InputBound(tokens=180, is_exact=True),
        InputBound(tokens=8000, is_exact=False),
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, CacheWrites.NONE),
        ({"messages": [{"cache_control": None}]}, CacheWrites.NONE),
        ({"tools": [{"cache_control": {"type": "ephemeral"}}]}, CacheWrites.SHORT),
        ({"cache_control": {"type": "ephemeral", "ttl": "5m"}}, CacheWrites.SHORT),
        ({"a": [[{"b": {"cache_control": {"ttl": "1h"}}}]]}, CacheWrites.ANY),
        ({"cache_control": {"ttl": "some day"}}, CacheWrites.ANY),
        (
            {"a": {"cache_control": {"ttl": "5m"}}, "b": {"cache_control": {"ttl": "1h"}}},
            CacheWrites.ANY,
        ),
    ],
    ids=str,
)
def test_what_a_request_marks_for_the_cache(body: dict[str, object], expected: CacheWrites) -> None:
    """
    Where only marked input is written, the marks say so, wherever they stand; elsewhere any may be.
    """
    call = replace(CALL, body=body)

    assert candidate(call, replace(DIRECT, writes_cache_unasked=False)).cache_writes is expected
    assert candidate(call, DIRECT).cache_writes is CacheWrites.ANY


def test_what_is_known_of_a_deployment() -> None:
    """
    Its vocabulary and its provider's ways go into the bound; media have no tokens to count.
    """
    deployment = replace(DIRECT, encoding="o200k_base", is_upgradable=True)

    known = candidate(CALL, deployment)

    assert (known.encoding, known.is_upgradable, known.price) == ("o200k_base", True, CHEAP)
    assert candidate(PICTURE, deployment).encoding is None


def test_the_framing_is_remembered() -> None:
    """
    One message with functions: 16 + 64 + 1,024 tokens that no text of the request has.
    """
    assert demand(replace(CALL, has_tools=True), DIRECT).framing_tokens == 1104


def test_the_input_is_named_as_the_client_calls_it() -> None:
    """
    What cannot be bounded is a chat's messages and an embedding's input.
    """
    unknown = replace(DIRECT, price=replace(CHEAP, max_input_tokens=None))

    for choices, param in ((1, "messages"), (0, "input")):
        with pytest.raises(RefusedError) as refused:
            demand(replace(PICTURE, choices=choices), unknown)
        assert refused.value.refusal.param == param
