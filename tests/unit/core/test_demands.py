"""
Demands: which deployments bound a request, and by how much.
"""

from dataclasses import replace
from decimal import Decimal

import pytest

from relay_middleware.core.bounds import InputBound
from relay_middleware.core.demands import demand_of
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints.endpoint import Call
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.core.pricing import ModelPrice, RateCard, Rates
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

# 100 bytes, 16 tokens around the message, 64 around all.
TEXT_TOKENS = 180


def bounds(call: Call, *deployments: Deployment, is_limited: bool = True) -> list[InputBound]:
    demand = demand_of(call, deployments, TIER, is_limited=is_limited, body_bytes=100)
    return [candidate.input_bound for candidate in demand.candidates]


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
    ("call", "deployment", "code"),
    [
        (CALL, replace(DIRECT, price=None), "model_not_priced"),
        (replace(CALL, unbounded_member="plugins"), DIRECT, "cannot_be_bounded"),
        (
            replace(CALL, has_opaque_input=True),
            replace(DIRECT, price=replace(CHEAP, max_input_tokens=None)),
            "cannot_be_bounded",
        ),
        (
            CALL,
            replace(DIRECT, is_output_capped=False, price=replace(CHEAP, max_output_tokens=None)),
            "cannot_be_bounded",
        ),
    ],
    ids=["price", "plugins", "picture", "output"],
)
def test_without_a_bound(call: Call, deployment: Deployment, code: str) -> None:
    """
    What cannot be bounded is refused to customers with a limit, and served to the others.
    """
    with pytest.raises(RefusedError) as refused:
        bounds(call, deployment)

    assert refused.value.refusal.code == code
    served = bounds(call, deployment, is_limited=False)
    assert [bound.tokens for bound in served] == ([] if deployment.price is None else [180])


def test_embeddings_need_no_bound_of_their_output() -> None:
    """
    A call that generates nothing is served also where nothing bounds the output.
    """
    endless = replace(DIRECT, is_output_capped=False, price=replace(CHEAP, max_output_tokens=None))

    assert bounds(replace(CALL, choices=0), endless) == [
        InputBound(tokens=TEXT_TOKENS, is_exact=True)
    ]
