"""
Streams that are not read as fast as they are written: nothing piles up, and nobody waits for ever.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fixtures.provider import DONE, STREAM, STREAM_END, event
from fixtures.raw_client import connect, hang_up, request_bytes
from fixtures.world import deployment, running, tiers

from relay_middleware.testing import Simulator

pytestmark = pytest.mark.anyio

LETTERS = 64 * 1024
PIECE = event({"choices": [{"delta": {"content": "x" * LETTERS}}]})
PIECES = 800
"""50 MiB in all."""

STALLED_S = 0.5
"""A write that waits so long is not taken: on loopback it is a matter of microseconds."""


@dataclass(slots=True)
class Flood:
    """
    A provider that writes as much as it is let.

    Attributes:
        written: Pieces that were taken off its hands.
        stalled: Set when it has to wait.
        ended: Set when its connection is closed.
    """

    url: str = ""
    written: int = 0
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(STREAM)
        with suppress(ConnectionError):
            for _ in range(PIECES):
                writer.write(PIECE)
                await self._drain(writer)
                self.written += 1
            writer.write(DONE + STREAM_END)
        writer.close()
        self.ended.set()

    async def _drain(self, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(STALLED_S):
                await writer.drain()
        except TimeoutError:
            self.stalled.set()
            await writer.drain()


@asynccontextmanager
async def flood() -> AsyncIterator[Flood]:
    found = Flood()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()


def configuration(provider: Flood, **tier: object) -> Mapping[str, object]:
    return {"model_list": [deployment(provider.url)], **tiers(spend_limits=[], **tier)}


async def test_backpressure_reaches_the_provider(tmp_path: Path) -> None:
    """
    Of 50 MiB that a client does not read the provider gets rid of less than 25, which are in the
    buffers of four sockets, and then waits; when the client reads, all of it comes.
    """
    async with (
        flood() as provider,
        running(tmp_path, configuration(provider), Simulator()) as world,
    ):
        reader, writer = await connect(world)
        writer.write(request_bytes(world, stream=True))
        await asyncio.wait_for(provider.stalled.wait(), 30)
        taken = provider.written

        read = 0
        while not provider.ended.is_set() or read < PIECES * LETTERS:
            read += len(await reader.read(1024 * 1024))
        await hang_up(writer)

        assert taken < PIECES / 2
        assert provider.written == PIECES
        (row,) = await world.ledger()
        assert (row["status_code"], row["state"]) == (200, "settled")


async def test_who_stops_reading_is_cut_off_and_charged(tmp_path: Path) -> None:
    """
    A client that reads nothing for the write time-out is taken for gone: the provider is hung up
    on, and what came is charged, at 4 bytes a token, but no more than the 50 that were asked for.
    """
    async with flood() as provider:
        config = configuration(provider, on_disconnect="cancel")
        async with running(tmp_path, config, Simulator()) as world:
            world.relay.services.waits.writing.limit_s = 0.2
            _, writer = await connect(world)
            writer.write(request_bytes(world, stream=True))
            await asyncio.wait_for(provider.ended.wait(), 30)
            (row,) = await world.ledger()
            await hang_up(writer)

    assert provider.written < PIECES
    assert (row["state"], row["usage_source"], row["output_tokens"]) == ("settled", "counted", 50)
