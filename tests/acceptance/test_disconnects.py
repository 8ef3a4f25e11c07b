"""
Clients that go away: no hold stays open, and what a provider has done is charged.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fixtures.world import CUSTOMER_HEADER, MESSAGES, World, deployment, running, tiers

from relay_middleware.core.holds import Account, Hold, Reserved
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import windows_of
from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio


@pytest.fixture(name="world")
async def _world(tmp_path: Path) -> AsyncIterator[World]:
    simulator = Simulator()
    async with simulator.serve() as provider:
        config = {"model_list": [deployment(provider)], **tiers()}
        async with running(tmp_path, config, simulator) as world:
            yield world


def request_bytes(world: World, *, stream: bool, length: int | None = None) -> bytes:
    body = json.dumps(
        {"model": "smart", "messages": MESSAGES, "stream": stream, "max_tokens": 50}
    ).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: relay\r\n"
        b"Authorization: Bearer %b\r\n%b: alice\r\nContent-Length: %d\r\n\r\n%b"
        % (
            world.secret.encode(),
            CUSTOMER_HEADER.encode(),
            len(body) if length is None else length,
            body,
        )
    )


async def connect(world: World) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = world.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def held(world: World) -> list[int]:
    """What is held of alice's money, by period."""
    services = world.relay.services
    probe = Hold(
        hold_id=HoldId(services.new_request_id()),
        customer_id=CustomerId("alice"),
        amount_nano_usd=NanoUsd(0),
        accounts=tuple(
            Account(window=window, limit_nano_usd=None)
            for window in windows_of(services.clock.now())
        ),
        ttl_s=1,
    )
    result = await services.spend.reserve(probe)
    assert isinstance(result, Reserved)
    return [int(balance.held_nano_usd) for balance in result.balances]


async def test_gone_before_the_body(world: World) -> None:
    """
    A client that announces a body and hangs up leaves no hold, no call and no row.
    """
    _, writer = await connect(world)
    writer.write(request_bytes(world, stream=False, length=10_000).split(b"{")[0])
    await writer.drain()
    await hang_up(writer)

    assert await world.ledger() == []
    assert await held(world) == [0] * 4
    assert world.simulator.calls() == 0


async def test_gone_during_the_body(world: World) -> None:
    """
    One that hangs up in the middle of its body neither.
    """
    _, writer = await connect(world)
    writer.write(request_bytes(world, stream=False, length=10_000))
    await writer.drain()
    await hang_up(writer)

    assert await world.ledger() == []
    assert await held(world) == [0] * 4
    assert world.simulator.calls() == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_gone_after_the_body(world: World, *, stream: bool) -> None:
    """
    One that hangs up while the provider works is charged what the provider reports.
    """
    world.simulator.set("live", Behaviour(latency_s=0.2, first_chunk_delay_s=0.2))
    _, writer = await connect(world)
    writer.write(request_bytes(world, stream=stream))
    await asyncio.to_thread(world.simulator.wait_for_calls, 1)
    await hang_up(writer)

    (row,) = await world.ledger()

    assert (row["state"], row["usage_source"]) == ("settled", "provider")
    assert int(str(row["charge_nano_usd"])) > 0
    assert await held(world) == [0] * 4
    assert world.simulator.disconnects() == 0


async def test_gone_in_mid_stream(world: World) -> None:
    """
    A client that hangs up after the first content is charged for all of the answer, which is read
    to its end: hanging up late must not make it free.
    """
    world.simulator.set("live", Behaviour(chunk_delay_s=0.02))
    reader, writer = await connect(world)
    writer.write(request_bytes(world, stream=True))
    await reader.readuntil(b"Simulated")
    await hang_up(writer)

    (row,) = await world.ledger()

    assert (row["state"], row["usage_source"], row["output_tokens"]) == ("settled", "provider", 50)
    assert await held(world) == [0] * 4


async def test_no_place_to_drain(world: World) -> None:
    """
    Where no answer may be read on any more, the provider is hung up on, and what came is charged.
    """
    drains = world.relay.services.drains
    while drains.enter():
        pass
    world.simulator.set("live", Behaviour(stall="after_content"))
    reader, writer = await connect(world)
    writer.write(request_bytes(world, stream=True))
    await reader.readuntil(b"Simulated")
    await hang_up(writer)

    assert await asyncio.to_thread(world.simulator.wait_for_disconnects, 1)
    (row,) = await world.ledger()
    assert (row["state"], row["usage_source"]) == ("settled", "counted")
    assert int(str(row["output_tokens"])) > 0
    assert await held(world) == [0] * 4


async def test_no_place_to_drain_an_unanswered_call(world: World) -> None:
    """
    The same before any answer: the input is charged, as counted, because it was sent.
    """
    drains = world.relay.services.drains
    while drains.enter():
        pass
    world.simulator.set("live", Behaviour(stall="before_headers"))
    _, writer = await connect(world)
    writer.write(request_bytes(world, stream=False))
    await asyncio.to_thread(world.simulator.wait_for_calls, 1)
    await hang_up(writer)

    assert await asyncio.to_thread(world.simulator.wait_for_disconnects, 1)
    (row,) = await world.ledger()
    # "Hello!" has 6 bytes, "user" 4 more: 3 tokens at 150 nano-dollars.
    assert (row["input_tokens"], row["output_tokens"], row["charge_nano_usd"]) == (3, 0, 450)
    assert await held(world) == [0] * 4


async def test_places_to_drain_come_back(world: World) -> None:
    """
    After 70 clients have gone, more than there are places, there are 64 places again.
    """
    for _ in range(70):
        _, writer = await connect(world)
        writer.write(request_bytes(world, stream=True))
        await writer.drain()
        await hang_up(writer)
    await world.relay.drain()
    drains = world.relay.services.drains

    places = 0
    while drains.enter():
        places += 1

    assert places == 64
    assert await held(world) == [0] * 4


async def test_a_pipelined_second_request_is_answered(world: World) -> None:
    """
    A connection is used again after an answer: watching for the client's leaving eats no bytes.
    """
    reader, writer = await connect(world)
    for _ in range(3):
        writer.write(request_bytes(world, stream=False))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert b'"cost_cents"' in await reader.readexactly(length)
    await hang_up(writer)
