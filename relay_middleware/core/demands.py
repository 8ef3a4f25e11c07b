"""
Demands: what a request may cost at each deployment that it can reach, or why nobody can tell.
"""

from collections.abc import Iterator, Sequence

from relay_middleware.core import hang_ups, limit_refusals
from relay_middleware.core.bounds import CacheWrites, InputBound, framing_tokens, input_bound
from relay_middleware.core.charging import Candidate, Demand
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints import members
from relay_middleware.core.endpoints.endpoint import Call
from relay_middleware.core.refusals import Refusal, RefusedError
from relay_middleware.core.tiers import Tier

_SHORT_MARK = frozenset({"type", "ephemeral", "ttl", "5m"})
"""All that stands in a mark by which input is cached for the short time.
Source: Anthropic, "Prompt caching", read 2026-11-24."""


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
        deployments: All that it may end up at; of those that are alike, one.
        tier: The customer's; where it has token limits, the bound of the tokens must hold.
        is_limited: Whether the customer has a spend limit, so that the bound must hold. Where not,
            what is known is held and nothing is refused for its price.
        body_bytes: Length of the body as it came.

    Raises:
        RefusedError: 400, the cost or the tokens at one of the deployments have no bound, and there
            is a limit of them.
    """
    marks = list(members.named(call.body, "cache_control"))
    if is_limited:
        _raise_first(_without_price_bound(call, deployments, marks))
    is_bounded = is_limited or bool(tier.token_limits)
    if is_bounded:
        _raise_first(_without_token_bound(call, deployments))
    return Demand(
        candidates=[
            _candidate(call, each, body_bytes, marks, is_bounded=is_bounded) for each in deployments
        ],
        choices=call.choices,
        service_tier=call.service_tier,
        margin=tier.margin,
        asks_for_reasoning=call.asks_for_reasoning,
        framing_tokens=framing_tokens(call.framed_inputs, has_tools=call.has_tools),
    )


def _raise_first(found: Iterator[Refusal]) -> None:
    for refusal in found:
        raise RefusedError(refusal)


def _without_token_bound(call: Call, deployments: Sequence[Deployment]) -> Iterator[Refusal]:
    if call.unbounded_member is not None:
        what = f"What {call.unbounded_member} asks for"
        yield limit_refusals.cannot_be_bounded(what, call.unbounded_member)
    for each in deployments:
        if hang_ups.is_opaque(call, each) and _max_input_tokens(each) is None:
            what = "Input other than text, at a model whose context length is not known,"
            yield limit_refusals.cannot_be_bounded(what, _input_member(call))
        if call.choices > 0 and not each.is_output_capped and _max_output_tokens(each) is None:
            what = "A model whose answers no output cap bounds"
            yield limit_refusals.cannot_be_bounded(what, "model")


def _without_price_bound(
    call: Call, deployments: Sequence[Deployment], marks: Sequence[object]
) -> Iterator[Refusal]:
    for each in deployments:
        if each.price is None:
            yield limit_refusals.model_not_priced(each.model)
        elif hang_ups.is_opaque(call, each) and not each.price.is_media_priced:
            what = "Input other than text, at a model that charges for it otherwise than by token,"
            yield limit_refusals.cannot_be_bounded(what, _input_member(call))
        elif call.asks_for_audio and each.price.standard.base.audio_output_usd is None:
            what = "A spoken answer of a model without a price for it"
            yield limit_refusals.cannot_be_bounded(what, "modalities")
        elif each.stores_marked_input and marks:
            what = "Input that is stored by the hour, which cache_control asks for at this model,"
            yield limit_refusals.cannot_be_bounded(what, "cache_control")


def _candidate(
    call: Call,
    deployment: Deployment,
    body_bytes: int,
    marks: Sequence[object],
    *,
    is_bounded: bool,
) -> Candidate:
    is_opaque = hang_ups.is_opaque(call, deployment)
    context_tokens = _max_input_tokens(deployment) if is_opaque else None
    bound = input_bound(
        body_bytes,
        call.framed_inputs,
        has_tools=call.has_tools,
        opaque_tokens=None if context_tokens is None else context_tokens * call.contexts,
    )
    # Whether each token of a translated provider has a byte of its own is nowhere written.
    if is_opaque or deployment.is_translated or not is_bounded:
        bound = InputBound(tokens=bound.tokens, is_exact=False)
    return Candidate(
        deployment_id=deployment.deployment_id,
        price=deployment.price,
        input_bound=bound,
        is_output_capped=deployment.is_output_capped,
        is_upgradable=deployment.is_upgradable,
        cache_writes=_cache_writes(deployment, marks),
        encoding=None if is_opaque else deployment.encoding,
        is_countable=hang_ups.is_countable(call, deployment),
    )


def _cache_writes(deployment: Deployment, marks: Sequence[object]) -> CacheWrites:
    if deployment.writes_cache_unasked:
        return CacheWrites.ANY
    if not marks:
        return CacheWrites.NONE
    is_short = all(_SHORT_MARK.issuperset(members.texts(mark)) for mark in marks)
    return CacheWrites.SHORT if is_short else CacheWrites.ANY


def _input_member(call: Call) -> str:
    return "messages" if call.choices > 0 else "input"


def _max_input_tokens(deployment: Deployment) -> int | None:
    return None if deployment.price is None else deployment.price.max_input_tokens


def _max_output_tokens(deployment: Deployment) -> int | None:
    return None if deployment.price is None else deployment.price.max_output_tokens
