"""
Demands: what a request may cost at each deployment that it can reach, or why nobody can tell.
"""

from collections.abc import Sequence
from dataclasses import replace

from relay_middleware.core import limit_refusals
from relay_middleware.core.bounds import InputBound, input_bound, input_bound_tokens
from relay_middleware.core.charging import Candidate, Demand
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints.endpoint import Call
from relay_middleware.core.pricing import ModelPrice
from relay_middleware.core.refusals import RefusedError
from relay_middleware.core.tiers import Tier


def demand_of(
    call: Call,
    deployments: Sequence[Deployment],
    tier: Tier,
    *,
    is_limited: bool,
    body_bytes: int,
) -> Demand:
    """
    Return what *call* asks for, as far as its bound depends on it.

    Args:
        deployments: All that it may end up at.
        is_limited: Whether the customer has a spend limit, so that the bound must hold. Where not,
            what is known is held and nothing is refused.
        body_bytes: Length of the body as it came.

    Raises:
        RefusedError: 400, the cost at one of the deployments has no bound, and there is a limit.
    """
    if is_limited:
        _refuse_unbounded(call)
        candidates = [_bounded(call, each, body_bytes) for each in deployments]
    else:
        tokens = input_bound_tokens(body_bytes, call.framed_inputs, has_tools=call.has_tools)
        bound = InputBound(tokens=tokens, is_exact=False)
        candidates = [
            _candidate(each, each.price, bound) for each in deployments if each.price is not None
        ]
    return Demand(
        candidates=candidates,
        choices=call.choices,
        service_tier=call.service_tier,
        margin=tier.margin,
        asks_for_reasoning=call.asks_for_reasoning,
    )


def _refuse_unbounded(call: Call) -> None:
    if call.unbounded_member is not None:
        what = f"What {call.unbounded_member} asks for"
        raise RefusedError(limit_refusals.cannot_be_bounded(what, call.unbounded_member))


def _bounded(call: Call, deployment: Deployment, body_bytes: int) -> Candidate:
    price = deployment.price
    if price is None:
        raise RefusedError(limit_refusals.model_not_priced(deployment.model))
    if call.has_opaque_input and price.max_input_tokens is None:
        what = "Input other than text, at a model whose context length is not known,"
        raise RefusedError(limit_refusals.cannot_be_bounded(what, "messages"))
    is_endless = call.choices > 0 and not deployment.is_output_capped
    if is_endless and price.max_output_tokens is None:
        what = "A model whose answers no output cap bounds"
        raise RefusedError(limit_refusals.cannot_be_bounded(what, "model"))
    bound = input_bound(
        body_bytes,
        call.framed_inputs,
        has_tools=call.has_tools,
        opaque_tokens=price.max_input_tokens if call.has_opaque_input else None,
    )
    if deployment.is_translated:
        # Whether each token of such a provider has a byte of its own is nowhere written.
        bound = replace(bound, is_exact=False)
    return _candidate(deployment, price, bound)


def _candidate(deployment: Deployment, price: ModelPrice, bound: InputBound) -> Candidate:
    return Candidate(price=price, input_bound=bound, is_output_capped=deployment.is_output_capped)
