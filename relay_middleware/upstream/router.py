"""
Routing: LiteLLM's Router picks the deployment, leaves out failing ones and falls back, around our
own attempt.

Rules for editors. The Router sees neither a credential nor an address nor a name of the operator's:
nothing in its wildcards, aliases and prefixes can match, and nothing of ours can be in its errors.
The client's body stays in the closure, because the Router reads and pops keyword arguments. What is
relied upon beyond LiteLLM's documentation is stated as tests in
`tests/contract/test_router_faults.py`.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Protocol

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.records import Attempt, AttemptOutcome
from relay_middleware.errors import (
    NoDeploymentError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamTimeoutError,
)
from relay_middleware.ports import Clock, RefusedAnswer, UpstreamCall
from relay_middleware.upstream.dialects import dialect_of
from relay_middleware.upstream.failures import BROKEN_ANSWER, DeploymentFailedError
from relay_middleware.upstream.topology import Fallbacks, Topology, topology
from relay_middleware.upstream.wire import Answer, Wire

ALLOWED_FAILS = 1
COOLDOWN_TIME_S = 5.0

_LOADED_WITH_THE_FIRST_FAILURE = (
    "litellm.integrations.prometheus",
    "litellm.proxy.guardrails.exception_utils",
    "litellm.router_utils.baseline_request",
)
"""Modules of LiteLLM that it imports when something first fails: the event loop would stand still
for a quarter of a second, just then."""

_OK = 200
_TOO_MANY_REQUESTS = 429


class _Router(Protocol):
    """What is used of `litellm.Router`."""

    async def async_function_with_fallbacks(self, **kwargs: object) -> Answer: ...

    async def async_get_available_deployment(
        self, *, model: object, request_kwargs: dict[str, object]
    ) -> Mapping[str, Mapping[str, str]]: ...

    def deployment_callback_on_failure(
        self, kwargs: Mapping[str, object], response: None, start: None, end: None, /
    ) -> bool: ...

    def sync_deployment_callback_on_success(
        self, kwargs: Mapping[str, object], response: None, start: None, end: None, /
    ) -> str | None: ...

    def discard(self) -> None: ...


class LiteLlmUpstream:
    """
    `Upstream` over LiteLLM's Router and the direct wire. Making one imports LiteLLM: seconds.
    """

    def __init__(
        self,
        deployments: Sequence[Deployment],
        *,
        fallbacks: Fallbacks,
        wire: Wire,
        clock: Clock,
        allowed_fails: int = ALLOWED_FAILS,
        cooldown_time_s: float = COOLDOWN_TIME_S,
    ) -> None:
        """
        Args:
            fallbacks: By model, the models that stand in for it.
            wire: Closed with this.
            allowed_fails: Failures that leave a deployment in, each at most *cooldown_time_s* after
                the one before; with one more it is left out.
            cooldown_time_s: For how long, unless the provider's `Retry-After` says otherwise.

        Raises:
            ConfigurationError: A provider is not supported, an identifier is there twice, or a
                fallback names no model.
        """
        for deployment in deployments:
            dialect_of(deployment)
        self._topology = topology(deployments, fallbacks)
        self._deployment_by_id = {str(each.deployment_id): each for each in deployments}
        self._wire = wire
        self._clock = clock
        self._cooldown_time_s = cooldown_time_s
        self._router, self._all_left_out = _litellm_router(
            self._topology, allowed_fails=allowed_fails, cooldown_time_s=cooldown_time_s
        )

    def reachable(self, model: str) -> tuple[Deployment, ...]:
        """
        Return every deployment that a request for *model* may end up at, fallbacks included; empty
        where there is no such model.
        """
        return self._topology.reachable_by_model.get(model, ())

    async def send(self, call: UpstreamCall) -> Answer:
        """
        Call deployments of `call.model` and its fallbacks until one answers.

        Cancelling it closes the provider's connection.

        Raises:
            UpstreamError: None answered; carries the attempts that were made.
        """
        group = self._topology.first_group_by_model.get(call.model)
        if group is None:
            raise UpstreamFailedError("there is no such model")
        attempts: list[Attempt] = []
        failures: list[DeploymentFailedError] = []

        async def attempt(**kwargs: object) -> Answer:
            # Among these the Router tells itself whom to skip: the selection must get them.
            picked = await self._router.async_get_available_deployment(
                model=kwargs["model"], request_kwargs=kwargs
            )
            deployment = self._deployment_by_id[picked["model_info"]["id"]]
            try:
                return await self._attempt(call, deployment, attempts)
            except DeploymentFailedError as error:
                failures.append(error)
                self._report_failure(deployment, error)
                raise

        try:
            answer = await self._router.async_function_with_fallbacks(
                original_function=attempt, model=group, metadata={}
            )
        except (DeploymentFailedError, self._all_left_out):
            # Which of the failures the Router raises is not the same in all cases.
            raise self._no_answer(attempts, failures) from None
        return replace(answer, attempts=tuple(attempts))

    async def aclose(self) -> None:
        """Close all connections."""
        self._router.discard()
        await self._wire.aclose()

    async def _attempt(
        self, call: UpstreamCall, deployment: Deployment, attempts: list[Attempt]
    ) -> Answer:
        started_at = self._clock.now()

        def note(outcome: AttemptOutcome, status_code: int | None) -> None:
            attempts.append(
                Attempt(
                    deployment_id=deployment.deployment_id,
                    provider=deployment.provider,
                    deployment_model=deployment.deployment_model,
                    outcome=outcome,
                    status_code=status_code,
                    started_at=started_at,
                    ended_at=self._clock.now(),
                )
            )

        call.on_attempt(deployment)
        try:
            answer = await self._wire.send(
                call, deployment, on_break=partial(self._report_break, deployment)
            )
        except DeploymentFailedError as error:
            is_late = error.has_timed_out
            note(AttemptOutcome.TIMED_OUT if is_late else AttemptOutcome.FAILED, error.http_status)
            raise
        if isinstance(answer, RefusedAnswer):
            note(AttemptOutcome.REFUSED, answer.status_code)
        else:
            note(AttemptOutcome.SERVED, _OK)
        # Successes count where LiteLLM leaves out by share of failures; under a policy it does not.
        self._router.sync_deployment_callback_on_success(_report(deployment), None, None, None)
        return answer

    def _report_failure(self, deployment: Deployment, error: DeploymentFailedError) -> None:
        self._router.deployment_callback_on_failure(
            {**_report(deployment), "exception": error}, None, None, None
        )

    def _report_break(self, deployment: Deployment) -> None:
        self._report_failure(
            deployment, DeploymentFailedError(deployment.deployment_id, BROKEN_ANSWER)
        )

    def _no_answer(
        self, attempts: Sequence[Attempt], failures: Sequence[DeploymentFailedError]
    ) -> UpstreamError:
        """What a caller is told when the last of *failures* ended the chain."""
        made = tuple(attempts)
        if not failures:
            return NoDeploymentError(
                "all deployments of the model are left out for now",
                retry_after_s=self._cooldown_time_s,
            )
        last = failures[-1]
        if last.status_code == _TOO_MANY_REQUESTS:
            return NoDeploymentError(
                "the provider asks for fewer requests",
                retry_after_s=last.retry_after_s or self._cooldown_time_s,
                attempts=made,
            )
        if last.has_timed_out:
            return UpstreamTimeoutError("the provider did not answer in time", attempts=made)
        return UpstreamFailedError("the provider did not answer", attempts=made)


def _report(deployment: Deployment) -> dict[str, object]:
    """What the Router's callbacks want to know of a call."""
    return {
        "litellm_params": {
            "model_info": {"id": str(deployment.deployment_id)},
            "metadata": {"model_group": deployment.model},
        }
    }


def _litellm_router(
    plan: Topology, *, allowed_fails: int, cooldown_time_s: float
) -> tuple[_Router, type[Exception]]:
    """
    Make the Router, and name what it raises when all that it could pick is left out.
    """
    # Else LiteLLM asks the network for a price table while it is imported.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    # The import takes 2.5 s and 150 MB, which a command that routes nothing shall not pay.
    import litellm  # noqa: PLC0415
    from litellm.types.router import (  # noqa: PLC0415
        AllowedFailsPolicy,
        RouterRateLimitError,
    )

    for name in _LOADED_WITH_THE_FIRST_FAILURE:
        # Where another version has no such module, nothing is lost but the time.
        with suppress(ImportError):
            import_module(name)
    # Both would carry names of groups and providers' words to wherever an error or a log goes.
    litellm.expose_router_debug_in_errors = False
    for name in ("LiteLLM", "LiteLLM Router"):
        logging.getLogger(name).disabled = True
    router: _Router = litellm.Router(
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
