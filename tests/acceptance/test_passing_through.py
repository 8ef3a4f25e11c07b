"""
Streams pass through: the bytes as they were, and together what came together.
"""

from pathlib import Path

import pytest
from fixtures.provider import DONE, STREAM, STREAM_END, Act, piece, scripted_provider
from fixtures.raw_client import connect, hang_up, request_bytes
from fixtures.world import deployment, running, tiers

from relay_middleware.testing import Simulator

pytestmark = pytest.mark.anyio

ODD = (
    b'data:{"choices" : [ {"delta":{"content":"caf\\u00e9"}} ],  "x":1.50}\n\n',
    b": keep-alive\n\n",
    b'id: 7\r\nevent: message\r\ndata: {"choices":[{"delta":{"content":"two"}}]}\r\n\r\n',
    b'data: {"choices":[{"delta":{"content":"three"}}],\ndata:  "of two lines": true}\n\n',
)
"""Events as few providers write them, and all may."""


def chunks_of(response: bytes) -> list[bytes]:
    """Return the chunks of a response's body, as they were cut."""
    _, _, rest = response.partition(b"\r\n\r\n")
    chunks = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        chunks.append(rest[:length])
        rest = rest[length + 2 :]
    return [chunk for chunk in chunks if chunk]


async def test_bytes_are_kept_and_stay_together(tmp_path: Path) -> None:
    """
    Of four events in one piece, with line ends, fields and spaces of their own, the client gets the
    same bytes in one piece; of one that comes later, one more.
    """
    later = b'data: {"choices":[{"delta":{"content":"later"}}]}\n\n'
    script = (STREAM + piece(b"".join(ODD)), Act.WAIT, piece(later), DONE + STREAM_END)
    async with scripted_provider(*script) as provider:
        url = provider.url.removesuffix("/v1")
        config = {"model_list": [deployment(url)], **tiers()}
        async with running(tmp_path, config, Simulator()) as world:
            reader, writer = await connect(world)
            writer.write(request_bytes(world, stream=True))
            head = await reader.readuntil(b"\r\n\r\n")
            size = await reader.readline()
            first = await reader.readexactly(int(size, 16))
            provider.go.set()
            rest = await reader.readuntil(b"\r\n0\r\n\r\n")
            await hang_up(writer)

    chunks = chunks_of(head + size + first + rest)
    assert chunks[0] == b"".join(ODD)
    assert chunks[1].startswith(later)
