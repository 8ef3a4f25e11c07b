"""
The direct wire: one call to one deployment, over HTTP as OpenAI speaks it.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import cache, partial
from urllib.parse import urlsplit

import aiohttp
import orjson
from aiohttp.abc import AbstractStreamWriter
from typing_extensions import override
from yarl import URL

from relay_middleware.core.deployments import Deployment
from relay_middleware.ports.providers import RefusedAnswer, StreamAnswer, UpstreamCall, WholeAnswer
from relay_middleware.ports.stores import Clock
from relay_middleware.upstream.dialects import outgoing_body, url_of
from relay_middleware.upstream.failures import (
    BROKEN_ANSWER,
    CONNECTION_REFUSED,
    TIMED_OUT,
    DeploymentFailedError,
    retry_after_s,
)
from relay_middleware.upstream.redaction import redact
from relay_middleware.upstream.streaming import COMMIT_AFTER_S, open_stream

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Longest answer that is not a stream: several images in base64 fit."""

MAX_REFUSAL_BYTES = 64 * 1024
"""How much of a refusal is read: the message that is shown is shorter by far."""

_REFUSALS = frozenset({400, 413, 422})

_BROKEN = (aiohttp.ClientError, OSError)
"""What aiohttp raises for a connection that cannot be made, breaks, or speaks no HTTP."""

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
        self._session: aiohttp.ClientSession | None = None

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

        Cancelling it closes the connection. The answer's `attempts` are empty: the caller knows.

        Args:
            on_break: Called when a stream breaks after it was returned.
            wants_complaint: Whether a failure shall carry the provider's words. Waiting for them
                would delay the next deployment.

        Raises:
            DeploymentFailedError: There is no answer, and another deployment may give one.
        """
        limits = deployment.timeouts
        rest_s = limits.first_event_s if call.is_stream else limits.non_stream_s
        try:
            # One limit for both, because each costs time to set up: first for the connection.
            async with asyncio.timeout(limits.connect_s) as limit:
                on_sent = partial(_note_sent, call, deployment, limit, rest_s)
                response = await self._post(call, deployment, on_sent)
                try:
                    if call.is_stream and _is_success(response):
                        return await open_stream(
                            deployment,
                            _Body(deployment, response),
                            limit,
                            commit_after_s=self._commit_after_s,
                            on_break=on_break,
                        )
                    return await self._read(call, deployment, response, wants_complaint)
                except BaseException:
                    # Whatever it was, cancellation too: nobody reads on.
                    response.close()
                    raise
        except TimeoutError:
            raise DeploymentFailedError(deployment.deployment_id, TIMED_OUT) from None
        except _BROKEN:
            raise DeploymentFailedError(deployment.deployment_id, CONNECTION_REFUSED) from None

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(
        self, call: UpstreamCall, deployment: Deployment, on_sent: Callable[[], None]
    ) -> aiohttp.ClientResponse:
        # A client's headers would be added here, by an allow-list; it is empty.
        headers = {}
        if deployment.api_key is not None:
            headers["Authorization"] = f"Bearer {deployment.api_key}"
        return await self._opened().post(
            _url(url_of(deployment, call.endpoint.path)),
            data=_Announced(orjson.dumps(outgoing_body(call, deployment)), before=on_sent),
            headers=headers,
            # A redirect would carry the key to wherever it points.
            allow_redirects=False,
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # How many calls run at once is decided by limits and providers, not by a pool.
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                # See `send`.
                timeout=aiohttp.ClientTimeout(),
                headers={
                    "Content-Type": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": "relay",
                },
            )
        return self._session

    async def _read(
        self,
        call: UpstreamCall,
        deployment: Deployment,
        response: aiohttp.ClientResponse,
        wants_complaint: bool,  # noqa: FBT001 - passed on
    ) -> WholeAnswer | RefusedAnswer:
        if response.status in _REFUSALS:
            return await _refusal(deployment, response)
        if not _is_success(response):
            raise DeploymentFailedError(
                deployment.deployment_id,
                response.status,
                http_status=response.status,
                retry_after_s=retry_after_s(response.headers.get("Retry-After"), self._clock.now()),
                complaint=await _complaint(deployment, response) if wants_complaint else None,
            )
        body = await _read_at_most(response, self._max_answer_bytes)
        if body is None:
            # It was written, and costs what it costs; another deployment would write as much.
            response.close()
            return WholeAnswer(
                deployment=deployment, body=b"", members={}, attempts=(), is_too_long=True
            )
        answer = _json_object(body)
        # Some gateways say 200 and put the provider's error where the answer would be.
        is_error = answer is not None and (
            bool(answer.get("error")) and call.endpoint.answer_member not in answer
        )
        if answer is None or is_error:
            raise _broken(deployment, response)
        return WholeAnswer(deployment=deployment, body=body, members=answer, attempts=())


def _note_sent(
    call: UpstreamCall, deployment: Deployment, limit: asyncio.Timeout, rest_s: float
) -> None:
    """The connection stands: from here on the time of the answer counts."""
    if not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time() + rest_s)
    call.on_sent(deployment)


@cache
def _url(text: str) -> URL:
    """The set of addresses is the configuration's, so the cache does not grow."""
    return URL(text)


class _Announced(aiohttp.BytesPayload):
    """
    A request's body that tells when it is written. Before that, aiohttp has the headers waiting for
    it, and nothing has left.
    """

    def __init__(self, body: bytes, *, before: Callable[[], None]) -> None:
        super().__init__(body)
        self._before = before

    @override
    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Write it, after saying so."""
        self._before()
        await super().write_with_length(writer, content_length)


def _is_success(response: aiohttp.ClientResponse) -> bool:
    # A redirect is none: it is not followed.
    return response.status // 100 == 2  # noqa: PLR2004 # HTTP's class of successes


class _Body:
    """The body of an answer, as a `streaming.Source`."""

    def __init__(self, deployment: Deployment, response: aiohttp.ClientResponse) -> None:
        self._deployment = deployment
        self._response = response

    async def read(self) -> bytes:
        """Return what has arrived."""
        try:
            return await self._response.content.readany()
        except _BROKEN:
            raise DeploymentFailedError(
                self._deployment.deployment_id, CONNECTION_REFUSED
            ) from None

    async def aclose(self) -> None:
        """Close the connection."""
        self._response.close()


async def _refusal(deployment: Deployment, response: aiohttp.ClientResponse) -> RefusedAnswer:
    told = await _told(response)
    response.close()
    secrets = _secrets(deployment)
    return RefusedAnswer(
        deployment=deployment,
        status_code=response.status,
        message=_shown(told, "message", secrets) or "The provider refused the request as wrong.",
        code=_shown(told, "code", secrets),
        param=_shown(told, "param", secrets),
        attempts=(),
    )


async def _complaint(deployment: Deployment, response: aiohttp.ClientResponse) -> str | None:
    return _shown(await _told(response), "message", _secrets(deployment))


async def _told(response: aiohttp.ClientResponse) -> Mapping[str, object]:
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


async def _read_at_most(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes | None:
    """The whole body, or None where it is longer."""
    chunks = []
    length = 0
    while chunk := await response.content.readany():
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


def _broken(deployment: Deployment, response: aiohttp.ClientResponse) -> DeploymentFailedError:
    return DeploymentFailedError(
        deployment.deployment_id, BROKEN_ANSWER, http_status=response.status
    )
