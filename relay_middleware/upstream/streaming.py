"""
A provider's stream, whichever wire it comes over: looked at until there is content, then passed on.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.sse import EventStreamDecoder, EventTooLongError
from relay_middleware.errors import StreamBrokenError
from relay_middleware.ports.providers import StreamAnswer
from relay_middleware.tasks import Patience
from relay_middleware.upstream.failures import BROKEN_ANSWER, DeploymentFailedError
from relay_middleware.upstream.opening import Sign, sign_of

COMMIT_AFTER_S = 4.0
"""Longest wait for content once a stream has begun. Load balancers and SDKs cut silent answers;
ModelRelay's TypeScript SDK does after 5 seconds."""

_OK = 200


class Source(Protocol):
    """Where the bytes of an event stream come from."""

    async def read(self) -> bytes:
        """
        Return the next bytes, cut anywhere; empty at the end.

        Raises:
            DeploymentFailedError: The stream broke off.
        """
        ...

    async def aclose(self) -> None:
        """Close the provider's connection. Never raises."""
        ...


async def open_stream(
    deployment: Deployment,
    source: Source,
    limit: asyncio.Timeout,
    *,
    commit_after_s: float,
    on_break: Callable[[], None],
) -> StreamAnswer:
    """
    Read *source* until there is content, or it has begun and then been silent for a while.

    Args:
        limit: Of the wait for the first event; lifted when that has come.
        on_break: Called when the stream breaks after this returned.

    Raises:
        DeploymentFailedError: It broke off or failed before there was content. The caller closes
            *source*.
    """
    first = await _first_chunks(deployment, source, limit, commit_after_s)
    chunks = _chunks(first, source, deployment, on_break)
    # Begin it: closing a generator that was never begun would not run its `finally`.
    await anext(chunks)
    return StreamAnswer(deployment=deployment, chunks=chunks)


async def _first_chunks(
    deployment: Deployment, source: Source, limit: asyncio.Timeout, commit_after_s: float
) -> list[bytes]:
    chunks = []
    decoder = EventStreamDecoder()
    try:
        async with asyncio.timeout(None) as patience:
            while chunk := await source.read():
                chunks.append(chunk)
                signs = [sign_of(event) for event in decoder.feed(chunk)]
                if _is_content(signs, deployment):
                    return chunks
                if Sign.STARTED in signs and patience.when() is None:
                    patience.reschedule(asyncio.get_running_loop().time() + commit_after_s)
                    limit.reschedule(None)
    except TimeoutError:
        # Of our patience only: the limit's cancellation is not a TimeoutError in here.
        return chunks
    except EventTooLongError:
        raise _broken(deployment) from None
    if _is_content([sign_of(event) for event in decoder.rest()], deployment):
        return chunks
    raise _broken(deployment)


def _is_content(signs: list[Sign], deployment: Deployment) -> bool:
    for sign in signs:
        if sign is Sign.FAILURE:
            raise _broken(deployment)
        if sign is Sign.CONTENT:
            return True
    return False


async def _chunks(
    first: list[bytes], source: Source, deployment: Deployment, on_break: Callable[[], None]
) -> AsyncGenerator[bytes, None]:
    try:
        with Patience(deployment.timeouts.between_chunks_s) as patience:
            yield b""
            for chunk in first:
                yield chunk
            while chunk := await _next_chunk(source, patience, on_break):
                yield chunk
    finally:
        await source.aclose()


async def _next_chunk(source: Source, patience: Patience, on_break: Callable[[], None]) -> bytes:
    try:
        return await patience.wait(source.read())
    except TimeoutError:
        on_break()
        raise StreamBrokenError("the provider's stream fell silent") from None
    except DeploymentFailedError:
        on_break()
        raise StreamBrokenError("the provider's stream was cut") from None


def _broken(deployment: Deployment) -> DeploymentFailedError:
    return DeploymentFailedError(deployment.deployment_id, BROKEN_ANSWER, http_status=_OK)
