"""
The direct wire, over real sockets: what is sent, and what becomes of every kind of answer.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from fixtures.clock import FakeClock
from fixtures.provider import (
    COMMENT,
    CONTENT,
    DONE,
    ROLE,
    STREAM,
    STREAM_END,
    Act,
    answer,
    event,
    piece,
    scripted_provider,
)

from relay_middleware.core.deployments import Deployment, Timeouts
from relay_middleware.core.endpoints import chat
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.errors import StreamBrokenError
from relay_middleware.ports.providers import RefusedAnswer, StreamAnswer, UpstreamCall, WholeAnswer
from relay_middleware.testing.simulator import Simulator
from relay_middleware.upstream.failures import DeploymentFailedError
from relay_middleware.upstream.wire import Answer, Wire

pytestmark = pytest.mark.anyio

# Only for those that stay silent: a busy machine may take its time to answer.
QUICK = Timeouts(connect_s=0.1, first_event_s=0.1, non_stream_s=0.1, between_chunks_s=0.1)
PATIENT = Timeouts()
COMPLETION = {"choices": [{"message": {"content": "Hello"}}], "usage": {"prompt_tokens": 1}}


@pytest.fixture(name="wire")
async def _wire() -> AsyncIterator[Wire]:
    """A wire that waits a tenth of a second for content."""
    wire = Wire(clock=FakeClock(), commit_after_s=0.1)
    yield wire
    await wire.aclose()


def deployment(
    url: str, *, api_key: str | None = "sk-upstream", timeouts: Timeouts = PATIENT
) -> Deployment:
    """A deployment at *url*."""
    return Deployment(
        deployment_id=DeploymentId("one"),
        model="smart",
        provider="openai",
        deployment_model="gpt-a",
        api_base=url,
        api_key=api_key,
        timeouts=timeouts,
    )


def call(*, is_stream: bool = False) -> UpstreamCall:
    """A small chat request."""
    return UpstreamCall(
        endpoint=chat.ENDPOINT,
        model="smart",
        body={"model": "smart", "messages": [], "stream": is_stream},
        is_stream=is_stream,
        output_cap_tokens=16,
    )


async def send(
    wire: Wire,
    url: str,
    *,
    is_stream: bool = False,
    timeouts: Timeouts = PATIENT,
    on_break: Callable[[], None] = lambda: None,
) -> Answer:
    """Send a small chat request to *url*."""
    return await wire.send(
        call(is_stream=is_stream), deployment(url, timeouts=timeouts), on_break=on_break
    )


async def failure(
    wire: Wire, url: str, *, is_stream: bool, timeouts: Timeouts = PATIENT
) -> DeploymentFailedError:
    """Send it and return the failure that comes of it."""
    with pytest.raises(DeploymentFailedError) as caught:
        await send(wire, url, is_stream=is_stream, timeouts=timeouts)
    return caught.value


async def test_what_is_sent(wire: Wire) -> None:
    """
    The body with model and cap written, the deployment's key, and no header of anybody else's.
    """
    async with scripted_provider(answer(COMPLETION)) as provider:
        await send(wire, provider.url)

        [request] = provider.received
        assert request.target == "/v1/chat/completions"
        assert json.loads(request.body) == {
            "model": "gpt-a",
            "messages": [],
            "stream": False,
            "max_tokens": 16,
        }
        host = provider.url.removeprefix("http://").removesuffix("/v1")
        assert request.headers == {
            "host": host,
            "authorization": "Bearer sk-upstream",
            "content-type": "application/json",
            "accept": "*/*",
            "accept-encoding": "identity",
            "user-agent": "relay",
            "content-length": str(len(request.body)),
        }


async def test_a_deployment_without_a_key(wire: Wire) -> None:
    """
    A server that wants no key is sent none.
    """
    async with scripted_provider(answer(COMPLETION)) as provider:
        await wire.send(call(), deployment(provider.url, api_key=None), on_break=lambda: None)

        assert "authorization" not in provider.received[0].headers


async def test_a_whole_answer(wire: Wire) -> None:
    """
    An answer that is no stream comes back byte by byte, and decoded.
    """
    async with scripted_provider(answer(COMPLETION)) as provider:
        result = await send(wire, provider.url)

    assert isinstance(result, WholeAnswer)
    assert result.body == json.dumps(COMPLETION).encode()
    assert result.members == COMPLETION


async def test_a_stream(wire: Wire) -> None:
    """
    All bytes of a stream come through, from the first one on.
    """
    async with scripted_provider(
        STREAM, COMMENT, ROLE, CONTENT, CONTENT, DONE, STREAM_END
    ) as provider:
        result = await send(wire, provider.url, is_stream=True)
        assert isinstance(result, StreamAnswer)
        received = b"".join([chunk async for chunk in result.chunks])

    hello = b'data: {"choices": [{"delta": {"content": "Hello"}}]}\n\n'
    role = b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'
    assert received == b": keep-alive\n\n" + role + hello + hello + b"data: [DONE]\n\n"


async def test_a_stream_is_handed_on_as_it_comes(wire: Wire) -> None:
    """
    A chunk is there when the provider has sent it, not when the stream has ended.
    """
    async with scripted_provider(STREAM, CONTENT, Act.WAIT, DONE, STREAM_END) as provider:
        result = await send(wire, provider.url, is_stream=True)
        assert isinstance(result, StreamAnswer)

        assert b"Hello" in await anext(result.chunks)
        provider.go.set()
        assert [chunk async for chunk in result.chunks] == [b"data: [DONE]\n\n"]


async def test_a_stream_whose_last_event_has_no_blank_line(wire: Wire) -> None:
    """
    A stream that ends right after its only event is an answer.
    """
    last = piece(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}')
    async with scripted_provider(STREAM, last, STREAM_END) as provider:
        result = await send(wire, provider.url, is_stream=True)

        assert isinstance(result, StreamAnswer)
        assert [chunk async for chunk in result.chunks] == [last[4:-2]]


async def test_a_stream_that_has_begun_is_not_waited_for(wire: Wire) -> None:
    """
    Once a provider has shown that it works, silence does not keep the client waiting for long.
    """
    async with scripted_provider(STREAM, ROLE, Act.SILENCE) as provider:
        result = await send(wire, provider.url, is_stream=True)

        assert isinstance(result, StreamAnswer)
        assert await anext(result.chunks) == b"".join(ROLE.split(b"\r\n")[1:-1])
        await result.chunks.aclose()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ((Act.SILENCE,), "fell silent"),
        ((), "was cut"),
        ((Act.RESET,), "was cut"),
    ],
    ids=["silence", "end without the last chunk", "reset"],
)
async def test_a_stream_that_breaks_after_content(
    wire: Wire, script: tuple[Act, ...], message: str
) -> None:
    """
    What came is handed over, then the break is an error, and it is reported once.
    """
    breaks: list[str] = []
    async with scripted_provider(STREAM, CONTENT, *script) as provider:
        result = await send(
            wire,
            provider.url,
            is_stream=True,
            timeouts=QUICK,
            on_break=lambda: breaks.append("break"),
        )
        assert isinstance(result, StreamAnswer)

        assert b"Hello" in await anext(result.chunks)
        with pytest.raises(StreamBrokenError, match=message):
            await anext(result.chunks)
        assert breaks == ["break"]


async def test_closing_a_stream_closes_the_connection(wire: Wire) -> None:
    """
    A stream that nobody reads is ended at the provider too.
    """
    async with scripted_provider(STREAM, CONTENT, Act.SILENCE) as provider:
        result = await send(wire, provider.url, is_stream=True)
        assert isinstance(result, StreamAnswer)

        await result.chunks.aclose()

        await asyncio.wait_for(provider.left.wait(), 1)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_cancelling_closes_the_connection(wire: Wire, *, is_stream: bool) -> None:
    """
    A request that is cancelled while the provider works is ended there, and stays cancelled.
    """
    async with scripted_provider(Act.SILENCE) as provider:
        sending = asyncio.create_task(send(wire, provider.url, is_stream=is_stream))
        await provider.arrived.wait()

        sending.cancel()

        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.wait_for(provider.left.wait(), 1)


async def test_a_connection_that_never_stands(wire: Wire) -> None:
    """
    A host that takes no more connections is given up after `connect_s`, not after an answer's time.
    """
    limits = Timeouts(connect_s=0.1, first_event_s=60, non_stream_s=60)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        host, port = server.getsockname()
        # They fill its queue: whoever comes after them hears nothing.
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.settimeout(0)
            each.connect_ex((host, port))
        async with asyncio.timeout(10):
            error = await failure(
                wire, f"http://{host}:{port}/v1", is_stream=False, timeouts=limits
            )
        for each in waiting:
            each.close()

    assert error.has_timed_out


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_answer_has_its_own_time(wire: Wire, *, is_stream: bool) -> None:
    """
    A provider that was reached at once may take longer to answer than a connection to stand.
    """
    limits = Timeouts(connect_s=0.1, first_event_s=60, non_stream_s=60)
    said = STREAM + CONTENT + DONE + STREAM_END if is_stream else answer(COMPLETION)
    async with scripted_provider(Act.WAIT, said) as provider:
        sending = asyncio.create_task(
            send(wire, provider.url, is_stream=is_stream, timeouts=limits)
        )
        await provider.arrived.wait()
        done, _ = await asyncio.wait([sending], timeout=0.2)
        provider.go.set()

        assert not done
        assert isinstance(await sending, StreamAnswer if is_stream else WholeAnswer)


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_refusal(wire: Wire, status: int, *, is_stream: bool) -> None:
    """
    A provider's refusal comes back with its reason; its key, host and account do not.
    """
    async with scripted_provider() as provider:
        host = provider.url.removeprefix("http://").removesuffix("/v1")
        error = {
            "message": f"Bad temperature, at {host} with sk-upstream, for org-abc123",
            "code": "invalid_value",
            "param": "temperature",
            "type": "invalid_request_error",
        }
        provider.script = (answer({"error": error}, status=status),)
        result = await send(wire, provider.url, is_stream=is_stream)

    assert result == RefusedAnswer(
        deployment=result.deployment,
        status_code=status,
        message="Bad temperature, at [redacted] with [redacted], for [redacted]",
        code="invalid_value",
        param="temperature",
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", {}, {"error": "no"}, {"error": {"message": None}}, b"x" * 70_000],
)
async def test_a_refusal_without_a_reason(wire: Wire, body: object) -> None:
    """
    A refusal in no known form is one all the same, in our words.
    """
    async with scripted_provider(answer(body, status=400)) as provider:
        result = await send(wire, provider.url)

    assert isinstance(result, RefusedAnswer)
    assert result.message == "The provider refused the request as wrong."
    assert (result.code, result.param) == (None, None)


async def test_a_refusals_code_may_be_a_number(wire: Wire) -> None:
    """
    A code is told as text; members in no known form are not told.
    """
    error = {"message": "no", "code": 400, "param": {"a": 1}}
    async with scripted_provider(answer({"error": error}, status=400)) as provider:
        result = await send(wire, provider.url)

    assert isinstance(result, RefusedAnswer)
    assert (result.message, result.code, result.param) == ("no", "400", None)


@pytest.mark.parametrize("status", [302, 401, 403, 404, 408, 429, 500, 503, 529])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_status_that_another_could_cure(
    wire: Wire, status: int, *, is_stream: bool
) -> None:
    """
    All other statuses are failures; a redirect is one, and is not followed.
    """
    headers = "Location: /elsewhere\r\nRetry-After: 7\r\n"
    async with scripted_provider(answer({}, status=status, headers=headers)) as provider:
        error = await failure(wire, provider.url, is_stream=is_stream)

        assert (error.status_code, error.http_status) == (status, status)
        assert error.retry_after_s == 7
        assert error.failed_deployment_id == "one"
        assert len(provider.received) == 1


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_closed_port(wire: Wire, *, is_stream: bool) -> None:
    """
    A refused connection counts as 503, and its text has neither host nor LiteLLM's exempt word.
    """
    async with scripted_provider() as provider:
        url = provider.url
    error = await failure(wire, url, is_stream=is_stream)

    assert (error.status_code, error.http_status) == (503, None)
    assert str(error) == "the deployment failed with status 503"


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    "script",
    [(Act.SILENCE,), (answer({}, content_length=9), Act.SILENCE), (STREAM, COMMENT, Act.SILENCE)],
    ids=["no answer", "half an answer", "only a comment"],
)
async def test_silence(wire: Wire, script: tuple[bytes | Act, ...], *, is_stream: bool) -> None:
    """
    A provider that does not answer in time has timed out, wherever it fell silent.
    """
    async with scripted_provider(*script) as provider:
        error = await failure(wire, provider.url, is_stream=is_stream, timeouts=QUICK)

        assert error.has_timed_out
        await asyncio.wait_for(provider.left.wait(), 1)


@pytest.mark.parametrize(
    "script",
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n",),
        (Act.RESET,),
        (),
        (answer(COMPLETION, content_length=9999),),
        (answer(b"<html>"),),
        (answer([]),),
        (answer({"error": {"message": "overloaded"}}),),
    ],
    ids=["no HTTP", "reset", "closed", "cut", "no JSON", "no object", "an error"],
)
async def test_what_is_no_answer(wire: Wire, script: tuple[bytes | Act, ...]) -> None:
    """
    Whatever comes in place of an answer is a failure that another deployment may cure.
    """
    async with scripted_provider(*script) as provider:
        error = await failure(wire, provider.url, is_stream=False)

    assert error.status_code in {502, 503}


@pytest.mark.parametrize(
    "script",
    [
        (event({"error": {"message": "overloaded"}}),),
        (COMMENT, ROLE, event({"error": {"message": "overloaded"}}), CONTENT),
        (piece(b"data: {\n\n"),),
        (),
        (Act.RESET,),
        (ROLE,),
        (ROLE, STREAM_END),
        (STREAM_END,),
    ],
    ids=[
        "an error first",
        "an error after the role",
        "no JSON",
        "cut",
        "reset",
        "cut after the role",
        "ended after the role",
        "ended",
    ],
)
async def test_a_stream_that_fails_before_content(
    wire: Wire, script: tuple[bytes | Act, ...]
) -> None:
    """
    Until its first content a stream may be given up for another deployment's.
    """
    async with scripted_provider(STREAM, *script) as provider:
        error = await failure(wire, provider.url, is_stream=True)

    assert error.status_code in {502, 503}


async def test_an_answer_that_is_too_long() -> None:
    """
    An answer above the bound is not read on. It was written all the same, and no other deployment
    is to write it again: that is no failure.
    """
    wire = Wire(clock=FakeClock(), max_answer_bytes=20)
    async with scripted_provider(answer(b" " * 21)) as provider:
        found = await send(wire, provider.url)
    await wire.aclose()

    assert isinstance(found, WholeAnswer)
    assert (found.is_too_long, found.body, found.members) == (True, b"", {})


@pytest.mark.slow
async def test_an_endless_event(wire: Wire) -> None:
    """
    An event that does not end does not fill the memory.
    """
    endless = piece(b"data: " + b"x" * 17_000_000)
    async with scripted_provider(STREAM, endless, Act.SILENCE) as provider:
        error = await failure(wire, provider.url, is_stream=True)

    assert error.status_code == 502


async def test_cookies_are_not_kept(wire: Wire) -> None:
    """
    What one answer sets, no later request carries: customers share this connection.
    """
    async with scripted_provider(answer(COMPLETION, headers="Set-Cookie: a=1\r\n")) as provider:
        await send(wire, provider.url)
        await send(wire, provider.url)

        assert all("cookie" not in request.headers for request in provider.received)


async def test_proxies_of_the_environment_are_not_used(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Keys go to the provider, not to whatever proxy the environment names.
    """
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    async with scripted_provider(answer(COMPLETION)) as provider:
        assert isinstance(await send(wire, provider.url), WholeAnswer)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_the_simulator_is_a_provider(wire: Wire, *, is_stream: bool) -> None:
    """
    What the shipped simulator answers is an answer, whole and as a stream that goes on to its end.
    """
    body = {"messages": [{"role": "user", "content": "Hello"}], "stream": is_stream}
    async with Simulator().serve() as url:
        result = await wire.send(
            replace(call(is_stream=is_stream), body=body),
            deployment(f"{url}/any/v1"),
            on_break=lambda: None,
        )

        if isinstance(result, StreamAnswer):
            chunks = [chunk async for chunk in result.chunks]
            assert b"".join(chunks).endswith(b"data: [DONE]\n\n")
        else:
            assert isinstance(result, WholeAnswer)
            assert "usage" in result.members


async def test_closing_an_unused_wire() -> None:
    """
    A wire that was never used, or is closed already, can be closed.
    """
    wire = Wire(clock=FakeClock())

    await wire.aclose()
    await wire.aclose()
