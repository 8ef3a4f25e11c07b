"""
Routing: LiteLLM's Router leaves out failing deployments and falls back, around our own attempt. It
is asked where something is wrong; a group none of which is left out is drawn from without it.

Rules for editors. The Router sees neither a credential nor an address nor a name of the operator's:
nothing in its wildcards, aliases and prefixes can match, and nothing of ours can be in its errors.
The client's body stays in the closure, because the Router reads and pops keyword arguments. What is
relied upon beyond LiteLLM's documentation is stated as tests in
`tests/contract/test_router_faults.py`.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from relay_middleware.core.deployments import Deployment, DeploymentStatus, Probe, with_alikes
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.core.records import Attempt, AttemptOutcome
from relay_middleware.errors import (
    NoDeploymentError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamTimeoutError,
)
from relay_middleware.ports.providers import RefusedAnswer, UpstreamCall
from relay_middleware.ports.stores import Clock
from relay_middleware.upstream import probing
from relay_middleware.upstream.drawing import Draws
from relay_middleware.upstream.failures import BROKEN_ANSWER, DeploymentFailedError
from relay_middleware.upstream.litellm_router import make_router
from relay_middleware.upstream.topology import Fallbacks, topology
from relay_middleware.upstream.translation import Translation
from relay_middleware.upstream.wire import Answer, Wire

ALLOWED_FAILS = 1
COOLDOWN_TIME_S = 5.0

_OK = 200
_TOO_MANY_REQUESTS = 429


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
        translation: Translation,
        clock: Clock,
        allowed_fails: int = ALLOWED_FAILS,
        cooldown_time_s: float = COOLDOWN_TIME_S,
    ) -> None:
        """
        Args:
            fallbacks: By model, the models that stand in for it.
            wire: For deployments that speak OpenAI's wire; closed with this.
            translation: For all others; closed with this.
            allowed_fails: Failures that leave a deployment in, each at most *cooldown_time_s* after
                the one before; with one more it is left out.
            cooldown_time_s: For how long, unless the provider's `Retry-After` says otherwise.

        Raises:
            ConfigurationError: An identifier is there twice, or a fallback names no model.
        """
        deployments = with_alikes(_with_its_cap(each, translation) for each in deployments)
        self._topology = topology(deployments, fallbacks)
        self._reachable_by_model = {
            model: tuple(each for each in reached if each.alike_id is None)
            for model, reached in self._topology.reachable_by_model.items()
        }
        self._deployment_by_id = {str(each.deployment_id): each for each in deployments}
        self._wire = wire
        self._translation = translation
        self._draws = Draws(self._topology.groups)
        self._failed: set[DeploymentId] = set()
        self._last_attempts: dict[DeploymentId, Attempt] = {}
        self._clock = clock
        self._cooldown_time_s = cooldown_time_s
        self._router, self._all_left_out = make_router(
            self._topology, allowed_fails=allowed_fails, cooldown_time_s=cooldown_time_s
        )

    def reachable(self, model: str) -> tuple[Deployment, ...]:
        """
        Return the deployments that a request for *model* may end up at, fallbacks included, of
        those that are alike the first; empty where there is no such model.
        """
        return self._reachable_by_model.get(model, ())

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
        drawn = self._draws.draw(group, self._left_out())
        if drawn is None:
            return await self._route(call, group, attempts)
        try:
            return await self._attempt(call, drawn, attempts)
        except DeploymentFailedError as error:
            return await self._route(call, group, attempts, failed=error)

    def _left_out(self) -> Collection[DeploymentId]:
        """Deployments that are left out for now; only one that has failed can be."""
        if self._failed:
            self._failed.intersection_update(self._cooling(self._failed))
        return self._failed

    async def _route(
        self,
        call: UpstreamCall,
        group: str,
        attempts: list[Attempt],
        *,
        failed: DeploymentFailedError | None = None,
    ) -> Answer:
        """
        Have the Router pick from *group* and fall back from it.

        Args:
            attempts: What was tried before; the Router's attempts are added.
            failed: How the first of them failed, if it was made already.
        """
        failures: list[DeploymentFailedError] = []

        async def attempt(**kwargs: object) -> Answer:
            nonlocal failed
            if failed is not None:
                error, failed = failed, None
                failures.append(error)
                raise error
            # Among these the Router tells itself whom to skip: the selection must get them.
            picked = await self._router.async_get_available_deployment(
                model=kwargs["model"], request_kwargs=kwargs
            )
            deployment = self._deployment_by_id[picked["model_info"]["id"]]
            try:
                return await self._attempt(call, deployment, attempts)
            except DeploymentFailedError as error:
                failures.append(error)
                raise

        try:
            answer: Answer = await self._router.async_function_with_fallbacks(
                original_function=attempt, model=group, metadata={}
            )
        except (DeploymentFailedError, self._all_left_out):
            # Which of the failures the Router raises is not the same in all cases.
            raise self._no_answer(attempts, failures) from None
        return answer

    async def aclose(self) -> None:
        """Close all connections."""
        self._router.discard()
        await self._wire.aclose()
        await self._translation.aclose()

    async def _attempt(
        self, call: UpstreamCall, deployment: Deployment, attempts: list[Attempt]
    ) -> Answer:
        started_at = self._clock.now()

        def made(outcome: AttemptOutcome, status_code: int | None) -> Attempt:
            attempt = Attempt(
                deployment_id=deployment.deployment_id,
                provider=deployment.provider,
                deployment_model=deployment.deployment_model,
                outcome=outcome,
                status_code=status_code,
                started_at=started_at,
                ended_at=self._clock.now(),
            )
            call.on_attempt(attempt)
            return attempt

        def note(outcome: AttemptOutcome, status_code: int | None) -> None:
            attempt = made(outcome, status_code)
            attempts.append(attempt)
            self._last_attempts[deployment.deployment_id] = attempt

        try:
            answer = await self._sender(deployment).send(
                call, deployment, on_break=partial(self._report_break, deployment)
            )
        except DeploymentFailedError as error:
            is_late = error.has_timed_out
            note(AttemptOutcome.TIMED_OUT if is_late else AttemptOutcome.FAILED, error.http_status)
            self._report_failure(deployment, error)
            raise
        except asyncio.CancelledError:
            # It says nothing of the deployment, whose state stays what it was.
            made(AttemptOutcome.CANCELLED, None)
            raise
        if isinstance(answer, RefusedAnswer):
            note(AttemptOutcome.REFUSED, answer.status_code)
        else:
            note(AttemptOutcome.SERVED, _OK)
        return answer

    def _sender(self, deployment: Deployment) -> Wire | Translation:
        return self._translation if deployment.is_translated else self._wire

    def status(self) -> tuple[DeploymentStatus, ...]:
        """Return what this process last saw of each deployment."""
        cooling = self._cooling(self._last_attempts)
        return tuple(
            _status(deployment, self._last_attempts.get(deployment.deployment_id), cooling)
            for deployment in self._deployment_by_id.values()
        )

    def _cooling(self, deployment_ids: Iterable[DeploymentId]) -> Mapping[DeploymentId, float]:
        """Seconds for which those of *deployment_ids* that are left out still are."""
        now_s = time.time()
        active = self._router.cooldown_cache.get_active_cooldowns(
            model_ids=[str(each) for each in deployment_ids], parent_otel_span=None
        )
        return {
            DeploymentId(name): max(0.0, value["timestamp"] + value["cooldown_time"] - now_s)
            for name, value in active
        }

    async def probe(self, deployment_id: DeploymentId) -> Probe:
        """
        Call one deployment, cheaply, past the Router and whether it is left out or not.

        Raises:
            KeyError: There is no such deployment.
        """
        deployment = self._deployment_by_id[str(deployment_id)]
        send = partial(
            self._sender(deployment).send,
            deployment=deployment,
            on_break=_nothing,
            wants_complaint=True,
        )
        return await probing.probe(deployment, send)

    def _report_failure(self, deployment: Deployment, error: DeploymentFailedError) -> None:
        self._failed.add(deployment.deployment_id)
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


def _status(
    deployment: Deployment, last: Attempt | None, cooling_s_by_id: Mapping[DeploymentId, float]
) -> DeploymentStatus:
    return DeploymentStatus(
        deployment_id=deployment.deployment_id,
        model=deployment.model,
        provider=deployment.provider,
        deployment_model=deployment.deployment_model,
        last_outcome=None if last is None else last.outcome,
        last_status_code=None if last is None else last.status_code,
        last_at=None if last is None else last.ended_at,
        cooling_s=cooling_s_by_id.get(deployment.deployment_id, 0.0),
    )


def _nothing() -> None:
    """Nobody reads a probe's stream."""


def _with_its_cap(deployment: Deployment, translation: Translation) -> Deployment:
    """Return *deployment*, whose output is bounded only if its provider can be told the bound."""
    if deployment.is_translated and not translation.has_output_cap(deployment):
        return replace(deployment, is_output_capped=False)
    return deployment
