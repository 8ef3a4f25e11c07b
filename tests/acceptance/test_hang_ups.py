"""
Clients that hang up on what nobody can count: reasoning that is billed and not sent, pictures that
are read. Either the provider says in the end what it was, or the most that it can be is charged.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.books import audited
from fixtures.provider import ROLE, STREAM, Act, event, scripted_provider
from fixtures.raw_client import connect, hang_up, request_bytes
from fixtures.world import MESSAGES, World, anthropic, deployment, tiers
from sqlalchemy import select

from relay_middleware.composition import Parts
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.ledger.tables import ATTEMPT
from relay_middleware.ports.providers import (
    RefusedAnswer,
    StreamAnswer,
    Upstream,
    UpstreamCall,
    WholeAnswer,
)
from relay_middleware.services import Drains
from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio

TEXT = "12345678" * 5
"""40 bytes: 10 tokens, in 5 events of 2 tokens."""
ANSWER = Behaviour(
    text=TEXT,
    chunk_tokens=2,
    chunk_delay_s=0.02,
    latency_s=0.5,
    input_tokens=100,
    cached_input_tokens=0,
    output_tokens=5_000,
    reasoning_tokens=4_990,
)
PICTURES = [{"type": "image_url", "image_url": {"url": "https://pictures.invalid/1.png"}}] * 20


@asynccontextmanager
async def thinking(
    folder: Path,
    on_disconnect: str,
    *,
    model: str = "o3-mini",
    behaviour: Behaviour = ANSWER,
    change: Callable[[Parts], Parts] = lambda parts: parts,
    **timeouts: float,
) -> AsyncIterator[World]:
    """One deployment, of a model that thinks, behind a tier."""
    simulator = Simulator()
    simulator.set("live", behaviour)
    async with simulator.serve() as provider:
        entry = anthropic if model.startswith("claude") else deployment
        models = [{**entry(provider, model=model), "timeouts": timeouts}]
        config = {"model_list": models, **tiers(on_disconnect=on_disconnect, max_concurrency=100)}
        async with audited(folder, config, simulator, change=change) as (world, _):
            yield world


def asking(world: World, *, stream: bool, customer: str = "alice", **more: object) -> bytes:
    """A request whose body has 250 bytes, for 5,000 tokens at most."""
    members = {"max_tokens": 5_000, **more}
    for length in range(250):
        if "messages" not in more:
            members["messages"] = [{"role": "user", "content": "x" * length}]
        asked = request_bytes(world, stream=stream, customer=customer, more=members)
        if "messages" in more or len(asked.partition(b"\r\n\r\n")[2]) == 250:
            return asked
    raise AssertionError("the members alone are longer than 250 bytes")


MOST = (250 + 16 + 64) * 1_100 + 5_000 * 4_400
"""What can come of it at o3-mini, which costs 1,100 and 4,400 nano-dollars a token."""


async def leave(world: World, *, stream: bool, customer: str = "alice", **more: object) -> None:
    """Ask, and hang up: at the first text of a stream, else when the provider is at work."""
    calls = world.simulator.calls()
    reader, writer = await connect(world)
    writer.write(asking(world, stream=stream, customer=customer, **more))
    if stream:
        await reader.readuntil(b"12345678")
    else:
        await asyncio.to_thread(world.simulator.wait_for_calls, calls + 1)
    await hang_up(writer)


def take_places(world: World) -> None:
    """Take all places in which answers are read on without clients."""
    for number in range(100):
        world.relay.services.drains.enter(CustomerId(f"other-{number}"))


async def attempts(world: World) -> list[tuple[object, ...]]:
    """The ledger's tries."""
    columns = (ATTEMPT.c.deployment_id, ATTEMPT.c.outcome, ATTEMPT.c.status_code)
    async with world.database.connect() as connection:
        rows = await connection.execute(select(*columns).order_by(ATTEMPT.c.number))
        return [tuple(row) for row in rows]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("model", "more", "prices"),
    [
        ("o3-mini", {}, (1_100, 4_400)),
        ("gpt-4o-mini", {"messages": [{"role": "user", "content": PICTURES}]}, (150, 600)),
        ("gpt-4o-mini", {"service_tier": "priority"}, (250, 1_000)),
        ("claude-haiku-4-5", {"reasoning_effort": "low"}, (1_000, 5_000)),
    ],
    ids=["thinks unasked", "pictures", "other rates", "asked to think"],
)
async def test_what_nobody_can_count_is_read_to_its_end(
    tmp_path: Path,
    model: str,
    more: Mapping[str, object],
    prices: tuple[int, int],
    *,
    stream: bool,
) -> None:
    """
    Though the tier cancels, who leaves is charged the 100 tokens of input and 5,000 of output that
    the provider reports, not the few that came.
    """
    async with thinking(tmp_path, "cancel", model=model) as world:
        await leave(world, stream=stream, **more)
        (row,) = await world.ledger()

    assert (row["state"], row["usage_source"]) == ("settled", "provider")
    assert row["charge_nano_usd"] == 100 * prices[0] + 5_000 * prices[1]
    assert world.simulator.disconnects() == 0


CUT: Mapping[str, Mapping[str, object]] = {
    "no place": {},
    "too slow": {"stall": "after_content"},
    "cut": {"cut_after_chunks": 5},
    "silent": {"stall": "after_content"},
    "error": {"stream_error_after_chunks": 5},
    "no usage": {"usage": "none"},
}


@pytest.mark.parametrize("on_disconnect", ["drain", "cancel"])
@pytest.mark.parametrize("name", CUT)
async def test_what_nobody_counted_is_charged_at_most(
    tmp_path: Path, name: str, on_disconnect: str
) -> None:
    """
    Where the provider's report does not come after all, who left is charged all that was set aside:
    330 tokens of input and 5,000 of output.
    """

    def change(parts: Parts) -> Parts:
        drains = Drains(seconds=0.2 if name == "too slow" else 60)
        return replace(parts, services=replace(parts.services, drains=drains))

    behaviour = Behaviour.from_json(
        {"text": TEXT, "chunk_tokens": 2, "chunk_delay_s": 0.05, **CUT[name]}
    )
    silence_s = 0.3 if name == "silent" else 60
    async with thinking(
        tmp_path, on_disconnect, behaviour=behaviour, change=change, between_chunks_s=silence_s
    ) as world:
        if name == "no place":
            take_places(world)
        await leave(world, stream=True)
        (row,) = await world.ledger()

    assert (row["state"], row["usage_source"]) == ("settled", "bound")
    assert (row["charge_nano_usd"], row["hold_nano_usd"]) == (MOST, MOST)
    assert (row["input_tokens"], row["output_tokens"]) == (330, 5_000)


async def test_an_unanswered_request_is_charged_at_most(tmp_path: Path) -> None:
    """
    The same before any answer, where none can be waited for; and the try is in the ledger.
    """
    async with thinking(tmp_path, "cancel", behaviour=Behaviour(stall="before_headers")) as world:
        take_places(world)
        await leave(world, stream=False)
        (row,) = await world.ledger()
        tries = await attempts(world)

    assert (row["usage_source"], row["charge_nano_usd"]) == ("bound", MOST)
    assert tries == [("smart#1", "cancelled", None)]


async def test_a_whole_answer_without_usage_is_charged_at_most(tmp_path: Path) -> None:
    """
    The same where an answer that is no stream is read to its end, and says nothing of its usage.
    """
    behaviour = Behaviour(usage="none", latency_s=0.5)
    async with thinking(tmp_path, "cancel", behaviour=behaviour) as world:
        await leave(world, stream=False)
        (row,) = await world.ledger()

    assert (row["usage_source"], row["charge_nano_usd"]) == ("bound", MOST)
    assert world.simulator.disconnects() == 0


async def test_who_stays_is_charged_what_came(tmp_path: Path) -> None:
    """
    A stream of the same model that breaks off under a client is counted: it has not left, and has
    not got more than 10 tokens.
    """
    behaviour = replace(ANSWER, cut_after_chunks=5)
    async with thinking(tmp_path, "cancel", behaviour=behaviour) as world:
        await world.post({"model": "smart", "messages": MESSAGES, "stream": True})
        (row,) = await world.ledger()

    assert row["usage_source"] == "counted"
    output_tokens = int(str(row["output_tokens"]))
    assert 2 <= output_tokens <= 10
    # "Hello!" has 6 bytes, "user" 4 more: 3 tokens.
    assert row["charge_nano_usd"] == 3 * 1_100 + output_tokens * 4_400


async def test_what_can_be_counted_is_hung_up_on(tmp_path: Path) -> None:
    """
    A tier that cancels still hangs up on text of a model that does not think; and ten pieces of
    three digits are ten tokens, though their 30 bytes would be eight.
    """
    digits = [event({"choices": [{"index": 0, "delta": {"content": "123"}}]})] * 10
    async with scripted_provider(STREAM, ROLE, *digits, Act.SILENCE) as provider:
        models = [deployment(provider.url.removesuffix("/v1"), profile="")]
        models[0]["litellm_params"]["api_base"] = provider.url  # type: ignore[index]
        config = {"model_list": models, **tiers(on_disconnect="cancel")}
        async with audited(tmp_path, config, Simulator()) as (world, _):
            reader, writer = await connect(world)
            writer.write(request_bytes(world, stream=True))
            for _ in range(10):
                await reader.readuntil(b'"123"')
            await hang_up(writer)
            await asyncio.wait_for(provider.left.wait(), 10)
            (row,) = await world.ledger()

    assert (row["usage_source"], row["output_tokens"]) == ("counted", 10)
    assert row["charge_nano_usd"] == 3 * 150 + 10 * 600


async def test_nobody_takes_all_places_to_drain(tmp_path: Path) -> None:
    """
    Alice, who has half of the 64 places, gets no more: her next answer is charged at most; bob's
    is read to its end.
    """
    async with thinking(tmp_path, "drain") as world:
        drains = world.relay.services.drains
        taken = sum(drains.enter(CustomerId("alice")) > 0 for _ in range(64))
        for customer in ("alice", "bob"):
            await leave(world, stream=True, customer=customer)
        rows = {row["customer_id"]: row for row in await world.ledger()}

    assert taken == 32
    assert (rows["alice"]["usage_source"], rows["alice"]["charge_nano_usd"]) == ("bound", MOST)
    assert rows["bob"]["usage_source"] == "provider"
    assert rows["bob"]["charge_nano_usd"] == 100 * 1_100 + 5_000 * 4_400


class TellingUpstream:
    """Providers that tell when they are asked."""

    def __init__(self, inner: Upstream) -> None:
        self._inner = inner
        self.asked = asyncio.Event()

    def reachable(self, model: str) -> tuple[Deployment, ...]:
        return self._inner.reachable(model)

    async def send(self, call: UpstreamCall) -> WholeAnswer | StreamAnswer | RefusedAnswer:
        self.asked.set()
        return await self._inner.send(call)

    async def aclose(self) -> None:
        await self._inner.aclose()


@asynccontextmanager
async def full_house() -> AsyncIterator[str]:
    """A port where nobody is let in: connections to it neither stand nor fail."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.settimeout(0)
            each.connect_ex(("127.0.0.1", port))
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            for each in waiting:
                each.close()


async def test_a_failed_try_is_not_charged_for_the_next(tmp_path: Path) -> None:
    """
    A try failed, the next one was not sent yet when the client left: it pays for neither, and both
    are in the ledger.
    """
    simulator = Simulator()
    simulator.set("live", Behaviour(status=500))
    async with simulator.serve() as provider, full_house() as full:
        config = {
            "model_list": [deployment(provider), deployment(full, name="backup")],
            "router_settings": {"fallbacks": [{"smart": ["backup"]}]},
            **tiers(on_disconnect="cancel"),
        }
        async with audited(tmp_path, config, simulator) as (world, _):
            _, writer = await connect(world)
            writer.write(request_bytes(world, stream=False))
            await asyncio.to_thread(simulator.wait_for_calls, 1)
            # The failure has been read when this is answered a few times: one event loop.
            for _ in range(20):
                await world.http.get(f"{world.url}/healthz")
            await hang_up(writer)
            (row,) = await world.ledger()
            tries = await attempts(world)

    assert (row["state"], row["charge_nano_usd"]) == ("released", 0)
    assert tries == [("smart#1", "failed", 500), ("backup#1", "cancelled", None)]


@pytest.mark.parametrize("model", ["gpt-4o-mini", "o3-mini"])
async def test_what_was_never_sent_is_free(tmp_path: Path, model: str) -> None:
    """
    Who leaves a tier that cancels while there is no connection to the provider yet pays nothing:
    nothing of the request has left. The try is in the ledger all the same.
    """
    kept: list[TellingUpstream] = []

    def change(parts: Parts) -> Parts:
        kept.append(TellingUpstream(parts.upstream))
        return replace(parts, services=replace(parts.services, upstream=kept[0]))

    async with full_house() as provider:
        config = {
            "model_list": [deployment(provider, model=model)],
            **tiers(on_disconnect="cancel"),
        }
        async with audited(tmp_path, config, Simulator(), change=change) as (world, _):
            _, writer = await connect(world)
            writer.write(request_bytes(world, stream=False))
            await kept[0].asked.wait()
            await hang_up(writer)
            (row,) = await world.ledger()
            tries = await attempts(world)

    assert (row["state"], row["charge_nano_usd"], row["status_code"]) == ("released", 0, 499)
    assert tries == [("smart#1", "cancelled", None)]


@pytest.mark.parametrize("on_disconnect", ["drain", "cancel"])
async def test_where_nobody_knows_the_most_what_came_is_charged(
    tmp_path: Path, on_disconnect: str
) -> None:
    """
    At a model that no table knows, for a customer without a limit, there is no most of output: who
    leaves is charged the pieces that came, at 3 dollars a million, and not nothing for them.
    """
    simulator = Simulator()
    simulator.set("live", replace(ANSWER, stall="after_content"))
    async with simulator.serve() as provider:
        entry = deployment(provider, model="nobody-knows-it")
        entry["litellm_params"] |= {  # type: ignore[operator]
            "input_cost_per_token": 0.000001,
            "output_cost_per_token": 0.000003,
        }
        config = {
            "model_list": [entry],
            **tiers(spend_limits=[], on_disconnect=on_disconnect, max_concurrency=100),
        }
        async with audited(tmp_path, config, simulator) as (world, _):
            take_places(world)
            reader, writer = await connect(world)
            writer.write(request_bytes(world, stream=True, more={"max_tokens": None}))
            await reader.readuntil(b"12345678")
            await hang_up(writer)
            (row,) = await world.ledger()

    input_tokens, output_tokens = int(str(row["input_tokens"])), int(str(row["output_tokens"]))
    assert row["usage_source"] == "counted"
    assert 2 <= output_tokens <= 10
    assert row["charge_nano_usd"] == input_tokens * 1_000 + output_tokens * 3_000
