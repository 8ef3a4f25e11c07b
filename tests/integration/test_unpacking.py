"""
Answers that come compressed, although that was not asked for.
"""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fixtures.clock import FakeClock
from fixtures.http import rest
from fixtures.provider import STREAM, STREAM_END, Act, answer, piece, scripted_provider

from relay_middleware.core.deployments import Deployment, Timeouts
from relay_middleware.core.endpoints import chat
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.ports.providers import RefusedAnswer, StreamAnswer, UpstreamCall, WholeAnswer
from relay_middleware.upstream.failures import DeploymentFailedError
from relay_middleware.upstream.http import HttpClient, Response
from relay_middleware.upstream.targets import target_of
from relay_middleware.upstream.unpacking import MAX_PIECE_BYTES, UnpackedBody, body_of
from relay_middleware.upstream.wire import Answer, Wire

pytestmark = pytest.mark.anyio

COMPLETION = {"choices": [{"message": {"content": "Hello"}}], "usage": {"prompt_tokens": 1}}
PLAIN = json.dumps(COMPLETION).encode()
EVENTS = [
    b'data: {"choices": [{"delta": {"content": "Hello"}}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "there"}}]}\n\n',
    b"data: [DONE]\n\n",
]
GZIP = "Content-Encoding: gzip\r\n"


@pytest.fixture(name="wire")
async def _wire() -> AsyncIterator[Wire]:
    wire = Wire(clock=FakeClock(), max_answer_bytes=1024 * 1024)
    yield wire
    await wire.aclose()


async def send(wire: Wire, url: str, *, is_stream: bool = False) -> Answer:
    """Send a small chat request to *url*."""
    deployment = Deployment(
        deployment_id=DeploymentId("one"),
        model="smart",
        provider="openai",
        deployment_model="gpt-a",
        api_base=url,
        api_key="sk-upstream",
        timeouts=Timeouts(),
    )
    call = UpstreamCall(
        endpoint=chat.ENDPOINT,
        model="smart",
        body={"model": "smart", "messages": [], "stream": is_stream},
        is_stream=is_stream,
        output_cap_tokens=16,
    )
    return await wire.send(call, deployment, on_break=lambda: None)


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Content-Encoding: gzip", gzip.compress(PLAIN)),
        ("content-encoding:  GZIP ", gzip.compress(PLAIN)),
        ("Content-Encoding: x-gzip", gzip.compress(PLAIN)),
        ("Content-Encoding: deflate", zlib.compress(PLAIN)),
        ("Content-Encoding: gzip", gzip.compress(PLAIN) + bytes(1000)),
        ("Content-Encoding: identity", PLAIN),
    ],
    ids=["gzip", "other letters", "x-gzip", "deflate", "zeros behind it", "identity"],
)
async def test_a_whole_answer(wire: Wire, header: str, body: bytes) -> None:
    """
    It is what was compressed, byte by byte, and what follows that is nobody's.
    """
    async with scripted_provider(answer(body, headers=f"{header}\r\n")) as provider:
        found = await send(wire, provider.url)

    assert isinstance(found, WholeAnswer)
    assert (found.body, found.members) == (PLAIN, COMPLETION)


async def test_a_stream_is_unpacked_as_it_comes(wire: Wire) -> None:
    """
    An event is there when the provider has sent it, not when the stream has ended.
    """
    packer = zlib.compressobj(wbits=31)
    packed = [packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in EVENTS]
    head = STREAM.replace(b"Connection", GZIP.encode() + b"Connection")
    first, *others = [piece(each) for each in packed]
    rest = b"".join(others) + piece(packer.flush()) + STREAM_END
    async with scripted_provider(head, first, Act.WAIT, rest) as provider:
        found = await send(wire, provider.url, is_stream=True)
        assert isinstance(found, StreamAnswer)
        came = b""
        while len(came) < len(EVENTS[0]):
            came += await anext(found.chunks)
        assert came == EVENTS[0]

        provider.go.set()
        assert b"".join([chunk async for chunk in found.chunks]) == b"".join(EVENTS[1:])


async def test_a_refusals_reason(wire: Wire) -> None:
    """
    What a provider refuses is told, compressed or not.
    """
    reason = gzip.compress(b'{"error": {"message": "too hot"}}')
    async with scripted_provider(answer(reason, status=400, headers=GZIP)) as provider:
        found = await send(wire, provider.url)

    assert isinstance(found, RefusedAnswer)
    assert (found.status_code, found.message) == (400, "too hot")


async def test_what_grows_too_long_is_not_unpacked_on(wire: Wire) -> None:
    """
    The bound of an answer, 1 MiB here, is that of what is unpacked: 16 KB that were 16 MiB are
    above it.
    """
    bomb = gzip.compress(bytes(16 * 1024 * 1024))
    async with scripted_provider(answer(bomb, headers=GZIP)) as provider:
        found = await send(wire, provider.url)

    assert len(bomb) < 17_000
    assert isinstance(found, WholeAnswer)
    assert found.is_too_long


@asynccontextmanager
async def unpacked(packed: bytes) -> AsyncIterator[Response | UnpackedBody]:
    """The body of an answer of *packed*, whose head has come."""
    client = HttpClient()
    async with scripted_provider(answer(packed, headers=GZIP)) as provider:
        target = target_of(provider.url, {})
        response = (await client.connect(target.origin)).send(target, b"{}")
        await response.head()
        yield body_of(response)
    await client.aclose()


async def test_no_more_than_a_piece_is_unpacked_at_once() -> None:
    """
    16 MiB that all have come as 16 KB are read in 256 pieces of 64 KiB.
    """
    bomb = gzip.compress(bytes(16 * 1024 * 1024))
    async with unpacked(bomb) as body:
        sizes = []
        while chunk := await body.read():
            sizes.append(len(chunk))

    assert sum(sizes) == 16 * 1024 * 1024
    assert max(sizes) == MAX_PIECE_BYTES


@pytest.mark.parametrize(
    ("encoding", "body", "status_code"),
    [
        ("gzip", PLAIN, 503),
        ("gzip", gzip.compress(PLAIN)[:-1], 503),
        ("br", b"\x0b\x02\x80Hello\x03", 502),
        ("gzip, gzip", gzip.compress(gzip.compress(PLAIN)), 502),
    ],
    ids=["plain", "cut", "unknown", "twice"],
)
async def test_what_cannot_be_unpacked_is_no_answer(
    wire: Wire, encoding: str, body: bytes, status_code: int
) -> None:
    """
    It is a failure that another deployment may cure, also where all of the text has come and only
    the end of its compression is missing.
    """
    said = answer(body, headers=f"Content-Encoding: {encoding}\r\n")
    async with scripted_provider(said) as provider:
        with pytest.raises(DeploymentFailedError) as caught:
            await send(wire, provider.url)

    assert caught.value.status_code == status_code


async def test_who_is_cancelled_between_two_pieces_loses_none() -> None:
    """
    Of three pieces the first is read, the second wait for is cancelled, and then both come.
    """
    plain = bytes(3 * MAX_PIECE_BYTES)
    async with unpacked(gzip.compress(plain)) as body:
        read = await body.read()
        waiting = asyncio.ensure_future(body.read())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        read += await rest(body)

    assert read == plain
