"""
LiteLLM's Router, made and silenced: what is relied upon of it.
"""

from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Protocol, TypedDict

from relay_middleware.core.deployments import Deployment
from relay_middleware.upstream.library import litellm
from relay_middleware.upstream.topology import Topology
from relay_middleware.upstream.wire import Answer

_LOADED_WITH_THE_FIRST_FAILURE = (
    "litellm.integrations.prometheus",
    "litellm.proxy.guardrails.exception_utils",
    "litellm.router_utils.baseline_request",
)
"""Modules of LiteLLM that it imports when something first fails: the event loop would stand still
for a quarter of a second, just then."""


class Cooldown(TypedDict):
    """When a deployment was left out, in seconds since 1970, and for how many seconds."""

    timestamp: float
    cooldown_time: float


class CooldownCache(Protocol):
    """What is used of LiteLLM's class of that name."""

    def get_active_cooldowns(
        self, model_ids: list[str], parent_otel_span: None
    ) -> list[tuple[str, Cooldown]]: ...


class Router(Protocol):
    """What is used of `litellm.Router`."""

    cooldown_cache: CooldownCache

    async def async_function_with_fallbacks(self, **kwargs: object) -> Answer: ...

    async def async_get_available_deployment(
        self, *, model: object, request_kwargs: dict[str, object]
    ) -> Mapping[str, Mapping[str, str]]: ...

    def deployment_callback_on_failure(
        self, kwargs: Mapping[str, object], response: None, start: None, end: None, /
    ) -> bool: ...

    def discard(self) -> None: ...


def make_router(
    plan: Topology, *, allowed_fails: int, cooldown_time_s: float
) -> tuple[Router, type[Exception]]:
    """
    Make the Router for *plan*, and name what it raises when all that it could pick is left out.
    """
    library = litellm()
    # Behind the import of the whole: it would begin it otherwise.
    from litellm.types.router import (  # noqa: PLC0415
        AllowedFailsPolicy,
        RouterRateLimitError,
    )

    for name in _LOADED_WITH_THE_FIRST_FAILURE:
        # Where another version has no such module, nothing is lost but the time.
        with suppress(ImportError):
            import_module(name)
    router: Router = library.Router(
        model_list=[
            _model_entry(group, deployment)
            for group, members in plan.groups.items()
            for deployment in members
        ],
        # A group without fallbacks is named too: for an absent one, global settings would count.
        fallbacks=[{group: list(others)} for group, others in plan.fallbacks.items()],
        # Each group and each deployment is one step down; the default of 5 would cut long chains.
        max_fallbacks=len(plan.groups) + sum(map(len, plan.groups.values())),
        routing_strategy="simple-shuffle",
        enable_weighted_failover=True,
        num_retries=0,
        allowed_fails=allowed_fails,
        # An empty policy changes one thing: the number counts even if it is LiteLLM's default of 3.
        allowed_fails_policy=AllowedFailsPolicy(),
        cooldown_time=cooldown_time_s,
    )
    return router, RouterRateLimitError


def _model_entry(group: str, deployment: Deployment) -> dict[str, object]:
    params: dict[str, object] = {"model": "openai/relay", "api_key": "none"}
    if deployment.weight is not None:
        params["weight"] = deployment.weight
    return {
        "model_name": group,
        "litellm_params": params,
        "model_info": {"id": str(deployment.deployment_id)},
    }
