"""
Clients that go away: no hold stays open, and what a provider has done is charged.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fixtures.raw_client import connect, hang_up, request_bytes
from fixtures.world import MESSAGES, World, anthropic, deployment, running, tiers

from relay_middleware.core.identifiers import CustomerId
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


WIRES = {"direct": deployment, "translated": anthropic}


@pytest.fixture(name="cancelling", params=WIRES)
async def _cancelling(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A tier that hangs up on the provider when its client goes, once over each wire."""
    simulator = Simulator()
    async with simulator.serve() as provider:
        entry = WIRES[request.param](provider)
        config = {"model_list": [entry], **tiers(on_disconnect="cancel")}
        async with running(tmp_path, config, simulator) as world:
            yield world


async def held(world: World) -> list[int]:
    """What is held of alice's money, by period."""
    services = world.relay.services
    windows = windows_of(services.clock.now())
    balances = await services.spend.balances(CustomerId("alice"), windows)
    return [int(balance.held_nano_usd) for balance in balances]


def take_places(world: World) -> int:
    """Take all places in which answers are read on without clients; return how many there were."""
    drains = world.relay.services.drains
    # One customer would not get them all.
    return sum(drains.enter(CustomerId(f"other-{number}")) > 0 for number in range(100))


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
    take_places(world)
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
    take_places(world)
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

    assert take_places(world) == 64
    assert await held(world) == [0] * 4


async def test_cancel_in_mid_stream(cancelling: World, request: pytest.FixtureRequest) -> None:
    """
    The provider is hung up on at once, and what came is charged: 80 bytes of text are 20 tokens;
    the input is counted too, or is what Claude reports before it answers.
    """
    text = "Simulated " * 40
    cancelling.simulator.set(
        "live",
        Behaviour(
            stall="after_content",
            text=text,
            chunk_tokens=20,
            input_tokens=100,
            cached_input_tokens=40,
        ),
    )
    reader, writer = await connect(cancelling)
    writer.write(request_bytes(cancelling, stream=True))
    await reader.readuntil(b"Simulated")
    await hang_up(writer)

    assert await asyncio.to_thread(cancelling.simulator.wait_for_disconnects, 1)
    (row,) = await cancelling.ledger()
    assert (row["state"], row["usage_source"], row["output_tokens"]) == ("settled", "counted", 20)
    # "Hello!" has 6 bytes, "user" 4 more: 3 tokens at 150 nano-dollars, and 20 at 600. Claude's 60
    # plain tokens cost 1,000, its 40 cached ones 100, and 20 of output 5,000.
    expected = {
        "direct": (3, 3 * 150 + 20 * 600),
        "translated": (100, 60 * 1_000 + 40 * 100 + 20 * 5_000),
    }
    told = (row["input_tokens"], row["charge_nano_usd"])
    assert told == expected[request.node.callspec.params["cancelling"]]
    assert await held(cancelling) == [0] * 4
    assert take_places(cancelling) == 64


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_cancel_an_unanswered_call(cancelling: World, *, stream: bool) -> None:
    """
    The same before any answer: the input was sent, so it is charged, as counted.
    """
    cancelling.simulator.set("live", Behaviour(stall="before_headers"))
    _, writer = await connect(cancelling)
    writer.write(request_bytes(cancelling, stream=stream))
    await asyncio.to_thread(cancelling.simulator.wait_for_calls, 1)
    await hang_up(writer)

    assert await asyncio.to_thread(cancelling.simulator.wait_for_disconnects, 1)
    (row,) = await cancelling.ledger()
    assert (row["state"], row["input_tokens"], row["output_tokens"]) == ("settled", 3, 0)
    assert int(str(row["charge_nano_usd"])) > 0
    assert await held(cancelling) == [0] * 4


async def test_cancel_only_who_leaves(cancelling: World) -> None:
    """
    A client that stays gets its answer to the end, and is charged as the provider reports it.
    """
    answer = await cancelling.post({"model": "smart", "messages": MESSAGES, "stream": True})

    assert answer.text.endswith("data: [DONE]\n\n")
    (row,) = await cancelling.ledger()
    assert (row["state"], row["usage_source"]) == ("settled", "provider")
    assert cancelling.simulator.disconnects() == 0


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
