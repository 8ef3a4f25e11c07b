"""
Probing: one cheap call that shows whether a deployment answers.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from relay_middleware.core.deployments import Deployment, Probe
from relay_middleware.core.endpoints import chat, embeddings
from relay_middleware.ports.providers import RefusedAnswer, StreamAnswer, UpstreamCall, WholeAnswer
from relay_middleware.upstream.failures import DeploymentFailedError

PROBE_OUTPUT_TOKENS = 16
"""Output cap of a probe: some models refuse a lower one."""

PROBE_TIMEOUT_S = 30.0
"""Longest wait for an answer of 16 tokens, whatever the deployment's own time-outs allow."""

_OK = 200

Send = Callable[[UpstreamCall], Awaitable[WholeAnswer | StreamAnswer | RefusedAnswer]]


async def probe(deployment: Deployment, send: Send) -> Probe:
    """
    Call *deployment* once through *send*, and say how it went.
    """
    started_s = time.perf_counter()
    status_code: int | None
    complaint: str | None
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            answer = await send(probing_call(deployment))
    except TimeoutError:
        status_code, complaint = None, f"no answer in {PROBE_TIMEOUT_S:.0f} s"
    except DeploymentFailedError as error:
        status_code, complaint = error.http_status, error.complaint or _words(error)
    else:
        status_code, complaint = _OK, None
        if isinstance(answer, RefusedAnswer):
            status_code, complaint = answer.status_code, answer.message
    return Probe(
        deployment_id=deployment.deployment_id,
        is_ok=complaint is None,
        latency_s=time.perf_counter() - started_s,
        status_code=status_code,
        complaint=complaint,
    )


def probing_call(deployment: Deployment) -> UpstreamCall:
    """Return the call that costs least of what *deployment* is for."""
    if deployment.is_embedding:
        return UpstreamCall(
            endpoint=embeddings.ENDPOINT,
            model=deployment.model,
            body={"input": "Hi"},
            is_stream=False,
            output_cap_tokens=None,
        )
    return UpstreamCall(
        endpoint=chat.ENDPOINT,
        model=deployment.model,
        body={"messages": [{"role": "user", "content": "Say hi."}]},
        is_stream=False,
        output_cap_tokens=PROBE_OUTPUT_TOKENS,
    )


def _words(error: DeploymentFailedError) -> str:
    """What there is to say where the provider said nothing."""
    if error.has_timed_out:
        return "no answer in time"
    if error.http_status is None:
        return "no connection"
    return f"status {error.http_status} without a reason"
