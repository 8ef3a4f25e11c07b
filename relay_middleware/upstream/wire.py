"""
The direct wire: one call to one deployment, over HTTP as OpenAI speaks it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import orjson

from relay_middleware.core.deployments import Deployment
from relay_middleware.ports.providers import RefusedAnswer, StreamAnswer, UpstreamCall, WholeAnswer
from relay_middleware.ports.stores import Clock
from relay_middleware.tasks import Patience
from relay_middleware.upstream.dialects import authorization_of, outgoing_body, url_of
from relay_middleware.upstream.failures import (
    BROKEN_ANSWER,
    CONNECTION_REFUSED,
    TIMED_OUT,
    DeploymentFailedError,
    retry_after_s,
)
from relay_middleware.upstream.http import HttpClient, Response
from relay_middleware.upstream.redaction import redact
from relay_middleware.upstream.streaming import COMMIT_AFTER_S, open_stream
from relay_middleware.upstream.targets import Target, target_of
from relay_middleware.upstream.unpacking import body_of

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Longest answer that is not a stream: several images in base64 fit."""

MAX_REFUSAL_BYTES = 64 * 1024
"""How much of a refusal is read: the message that is shown is shorter by far."""

_HEADERS: Mapping[str, str] = {
    "Accept": "*/*",
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "relay",
}

_REFUSALS = frozenset({400, 413, 422})

T = TypeVar("T")

Answer = WholeAnswer | StreamAnswer | RefusedAnswer


class Wire:
    """
    Sends calls to deployments. One connection pool for all of them, opened with the first call.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        commit_after_s: float = COMMIT_AFTER_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._clock = clock
        self._commit_after_s = commit_after_s
        self._max_answer_bytes = max_answer_bytes
        self._client = HttpClient()
        # The configuration's, so neither grows.
        self._targets: dict[tuple[str, str | None], Target] = {}
        self._patience: dict[float, Patience] = {}

    async def send(
        self,
        call: UpstreamCall,
        deployment: Deployment,
        *,
        on_break: Callable[[], None],
        wants_complaint: bool = False,
    ) -> Answer:
        """
        Send *call* to *deployment* and wait for its answer, or for a stream's first content.

        Cancelling it closes the connection.

        Args:
            on_break: Called when a stream breaks after it was returned.
            wants_complaint: Whether a failure shall carry the provider's words. Waiting for them
                would delay the next deployment.

        Raises:
            DeploymentFailedError: There is no answer, and another deployment may give one.
        """
        target = self._target(deployment, call.endpoint.path)
        body = orjson.dumps(outgoing_body(call, deployment))
        try:
            connection = self._client.idle(target.origin)
            if connection is None:
                connection = await self._at_most(
                    deployment.timeouts.connect_s, self._client.connect(target.origin)
                )
            call.on_sent(deployment)
            response = connection.send(target, body)
            try:
                if call.is_stream:
                    return await self._stream(deployment, response, on_break, wants_complaint)
                return await self._at_most(
                    deployment.timeouts.non_stream_s,
                    self._read(call, deployment, response, wants_complaint),
                )
            except BaseException:
                # Whatever it was, cancellation too: nobody reads on.
                response.close()
                raise
        except TimeoutError:
            raise DeploymentFailedError(deployment.deployment_id, TIMED_OUT) from None
        except OSError:
            raise DeploymentFailedError(deployment.deployment_id, CONNECTION_REFUSED) from None

    async def aclose(self) -> None:
        """Close all connections."""
        for patience in self._patience.values():
            patience.close()
        await self._client.aclose()

    async def _at_most(self, seconds: float, wait: Awaitable[T]) -> T:
        patience = self._patience.get(seconds)
        if patience is None:
            patience = self._patience[seconds] = Patience(seconds)
        return await patience.wait(wait)

    def _target(self, deployment: Deployment, path: str) -> Target:
        url = url_of(deployment, path)
        target = self._targets.get((url, deployment.api_key))
        if target is None:
            # A client's headers would be added here, by an allow-list; it is empty.
            headers = {**_HEADERS, **authorization_of(deployment)}
            target = self._targets[url, deployment.api_key] = target_of(url, headers)
        return target

    async def _stream(
        self,
        deployment: Deployment,
        response: Response,
        on_break: Callable[[], None],
        wants_complaint: bool,  # noqa: FBT001 - passed on
    ) -> StreamAnswer | RefusedAnswer:
        async with asyncio.timeout(deployment.timeouts.first_event_s) as limit:
            await response.head()
            if not _is_success(response):
                return await self._refused(deployment, response, wants_complaint)
            return await open_stream(
                deployment,
                _Body(deployment, response),
                limit,
                commit_after_s=self._commit_after_s,
                on_break=on_break,
            )

    async def _refused(
        self,
        deployment: Deployment,
        response: Response,
        wants_complaint: bool,  # noqa: FBT001 - passed on
    ) -> RefusedAnswer:
        """Return what *response*, which is no success, refuses, or raise that it failed."""
        # A redirect among them: it would carry the key to wherever it points.
        if response.status in _REFUSALS:
            return await _refusal(deployment, response)
        raise DeploymentFailedError(
            deployment.deployment_id,
            response.status,
            http_status=response.status,
            retry_after_s=retry_after_s(response.header(b"retry-after"), self._clock.now()),
            complaint=await _complaint(deployment, response) if wants_complaint else None,
        )

    async def _read(
        self,
        call: UpstreamCall,
        deployment: Deployment,
        response: Response,
        wants_complaint: bool,  # noqa: FBT001 - passed on
    ) -> WholeAnswer | RefusedAnswer:
        await response.head()
        if not _is_success(response):
            return await self._refused(deployment, response, wants_complaint)
        body = await _read_at_most(response, self._max_answer_bytes)
        if body is None:
            # It was written, and costs what it costs; another deployment would write as much.
            response.close()
            return WholeAnswer(deployment=deployment, body=b"", members={}, is_too_long=True)
        answer = _json_object(body)
        # Some gateways say 200 and put the provider's error where the answer would be.
        is_error = answer is not None and (
            bool(answer.get("error")) and call.endpoint.answer_member not in answer
        )
        if answer is None or is_error:
            raise _broken(deployment, response)
        return WholeAnswer(deployment=deployment, body=body, members=answer)


def _is_success(response: Response) -> bool:
    # A redirect is none: it is not followed.
    return response.status // 100 == 2  # noqa: PLR2004 # HTTP's class of successes


class _Body:
    """The body of an answer, as a `streaming.Source`."""

    def __init__(self, deployment: Deployment, response: Response) -> None:
        self._deployment = deployment
        self._response = response
        self._body = body_of(response)

    async def read(self) -> bytes:
        """Return what has arrived."""
        try:
            return await self._body.read()
        except OSError:
            raise DeploymentFailedError(
                self._deployment.deployment_id, CONNECTION_REFUSED
            ) from None

    async def aclose(self) -> None:
        """Close the connection."""
        self._response.close()


async def _refusal(deployment: Deployment, response: Response) -> RefusedAnswer:
    told = await _told(response)
    response.close()
    secrets = _secrets(deployment)
    return RefusedAnswer(
        deployment=deployment,
        status_code=response.status,
        message=_shown(told, "message", secrets) or "The provider refused the request as wrong.",
        code=_shown(told, "code", secrets),
        param=_shown(told, "param", secrets),
    )


async def _complaint(deployment: Deployment, response: Response) -> str | None:
    return _shown(await _told(response), "message", _secrets(deployment))


async def _told(response: Response) -> Mapping[str, object]:
    """The error that the body describes."""
    answer = _json_object(await _read_at_most(response, MAX_REFUSAL_BYTES)) or {}
    error = answer.get("error")
    return error if isinstance(error, Mapping) else {}


def _shown(told: Mapping[str, object], name: str, secrets: list[str]) -> str | None:
    value = told.get(name)
    if value is None or isinstance(value, Mapping | list):
        return None
    return redact(str(value), secrets=secrets)


def _secrets(deployment: Deployment) -> list[str]:
    host = urlsplit(deployment.api_base or "").netloc
    return [secret for secret in (deployment.api_key, host) if secret]


async def _read_at_most(response: Response, limit_bytes: int) -> bytes | None:
    """The whole body, or None where it is longer."""
    body = body_of(response)
    chunks = []
    length = 0
    while chunk := await body.read():
        chunks.append(chunk)
        length += len(chunk)
        if length > limit_bytes:
            return None
    return b"".join(chunks)


def _json_object(body: bytes | None) -> Mapping[str, object] | None:
    try:
        value: object = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _broken(deployment: Deployment, response: Response) -> DeploymentFailedError:
    return DeploymentFailedError(
        deployment.deployment_id, BROKEN_ANSWER, http_status=response.status
    )
