"""
Fault matrix, limits of pace: tokens per time, and requests at the same time.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fixtures.books import audited
from fixtures.clock import FakeClock
from fixtures.prices import OUTPUT_ONLY
from fixtures.provider import (
    CONTENT,
    DONE,
    STREAM,
    STREAM_END,
    Act,
    Script,
    answer,
    scripted_provider,
)
from fixtures.raw_client import connect, hang_up, request_bytes
from fixtures.world import MESSAGES, deployment, tiers

from relay_middleware.composition import Parts, upkeep_of
from relay_middleware.stores.local import LocalSpendStore
from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio

CAP = 1000
BODY = {"model": "smart", "messages": MESSAGES, "max_tokens": CAP}
BODY_BYTES = len(json.dumps(BODY, separators=(",", ":")))
INPUT_BOUND = BODY_BYTES + 16 + 64
"""A token for each byte, 16 for the message and 64 for what the provider adds."""
BOUND = INPUT_BOUND + CAP
# By the day, not by the minute: none comes back while a test runs.
PER = "day"

ANSWERED = answer(
    {
        "choices": [{"message": {"role": "assistant", "content": "Hello"}}],
        "usage": {"prompt_tokens": 8, "completion_tokens": 100},
    }
)


@pytest.fixture(name="stores", params=["embedded", "redis"])
def _stores(request: pytest.FixtureRequest) -> Mapping[str, object]:
    """
    Configuration of each store.
    """
    if request.param == "embedded":
        return {}
    return {"redis_url": request.getfixturevalue("redis_url")}


@pytest.fixture(name="simulator")
def _simulator() -> Simulator:
    """
    A provider whose every answer uses all that was bounded.
    """
    simulator = Simulator()
    simulator.set("live", Behaviour(input_tokens=INPUT_BOUND, output_tokens="cap"))
    return simulator


def configuration(provider: str, stores: Mapping[str, object], **tier: object) -> dict[str, object]:
    """One tier with a dollar a month and limits of pace."""
    return {"model_list": [deployment(provider)], "prices": OUTPUT_ONLY, **tiers(**tier), **stores}


def told(each: httpx.Response) -> tuple[int, str | None, str | None]:
    """Status of an answer, and code and type of its error."""
    error = each.json().get("error", {})
    return each.status_code, error.get("code"), error.get("type")


TOO_MANY_TOKENS = (429, "rate_limit_exceeded", "tokens")
TOO_MANY_AT_ONCE = (429, "rate_limit_exceeded", "requests")


async def test_tokens_for_six_of_fifty(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object]
) -> None:
    """
    Of 50 at once with tokens for six exactly 6 reach the provider; 44 are told by code, type and
    headers what is too much, what is left and when to come again.
    """
    tokens = 6 * BOUND + 500
    async with simulator.serve() as provider:
        config = configuration(provider, stores, token_limits=[f"{tokens}/{PER}"])
        async with audited(tmp_path, config, simulator) as (world, _):
            answers = await asyncio.gather(*(world.post(BODY) for _ in range(50)))
            later = await world.post(BODY)

    served = [each for each in answers if each.status_code == 200]
    refused = [each for each in answers if each.status_code != 200]
    assert (len(served), simulator.calls()) == (6, 6)
    assert {told(each) for each in refused} == {TOO_MANY_TOKENS}
    assert {each.headers["x-ratelimit-limit-tokens"] for each in answers} == {str(tokens)}
    left = sorted(int(each.headers["x-ratelimit-remaining-tokens"]) for each in served)
    assert left == [500 + BOUND * number for number in range(6)]
    assert later.headers["x-ratelimit-remaining-tokens"] == "500"
    assert later.json()["error"]["metadata"]["requested_tokens"] == BOUND
    assert 1 <= int(later.headers["retry-after"]) <= 2 * 86_400
    assert later.headers["x-ratelimit-reset-tokens"].endswith("s")


async def test_unused_tokens_come_back(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object]
) -> None:
    """
    Calls that bound more than 1,000 tokens and use 108 leave room for another as long as what is
    left is enough to hold one: of two and a half bounds fifteen calls fit, one after the other.
    """
    simulator.set("live", Behaviour(input_tokens=8, output_tokens=100, reasoning_tokens=0))
    fits = 1 + (3 * BOUND // 2) // 108
    async with simulator.serve() as provider:
        tokens = BOUND + 3 * BOUND // 2
        config = configuration(provider, stores, token_limits=[f"{tokens}/{PER}"])
        async with audited(tmp_path, config, simulator) as (world, _):
            answers = [await world.post(BODY) for _ in range(fits + 1)]

    assert [told(each)[0] for each in answers] == [200] * fits + [429]


@pytest.mark.parametrize("status", [400, 500])
async def test_tokens_of_no_answer_come_back(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object], status: int
) -> None:
    """
    A provider that refuses or fails has used no tokens: with room for one call, the next is served.
    """
    simulator.set("live", Behaviour(status=status))
    async with simulator.serve() as provider:
        config = configuration(provider, stores, token_limits=[f"{BOUND}/{PER}"])
        async with audited(tmp_path, config, simulator) as (world, _):
            failed = await world.post(BODY)
            simulator.set("live", Behaviour())
            served = await world.post(BODY)

    assert failed.status_code in {400, 502}
    assert served.status_code == 200


async def test_more_tokens_than_there_ever_are(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object]
) -> None:
    """
    A request that no untouched limit would fit is a 400 that names the cap that would, and no call.
    """
    async with simulator.serve() as provider:
        config = configuration(provider, stores, token_limits=[f"{BOUND - 400}/{PER}"])
        async with audited(tmp_path, config, simulator) as (world, _):
            refused = await world.post(BODY)
            fits = await world.post({**BODY, "max_tokens": 600})

    assert told(refused)[:2] == (400, "request_exceeds_token_limit")
    assert refused.json()["error"]["metadata"]["largest_output_cap_tokens"] == 600
    assert (fits.status_code, simulator.calls()) == (200, 1)


async def test_four_at_the_same_time(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object]
) -> None:
    """
    Of 50 at once 4 are at the provider and 46 told to come again in a second; when the 4 have ended
    the next is served.
    """
    async with scripted_provider(Act.WAIT, ANSWERED) as provider:
        config = configuration(provider.url.removesuffix("/v1"), stores, max_concurrency=4)
        async with audited(tmp_path, config, simulator) as (world, _):
            asking = [asyncio.create_task(world.post(BODY)) for _ in range(50)]
            refused: list[httpx.Response] = []
            for done in asyncio.as_completed(asking):
                refused.append(await done)
                if len(refused) == 46:
                    break
            await provider.wait_for(4)
            provider.go.set()
            answers = await asyncio.gather(*asking)
            later = await world.post(BODY)

    assert {(*told(each), each.headers["retry-after"]) for each in refused} == {
        (*TOO_MANY_AT_ONCE, "1")
    }
    assert sorted(each.status_code for each in answers) == [200] * 4 + [429] * 46
    assert (later.status_code, len(provider.received)) == (200, 5)


ENDS: Mapping[str, tuple[Behaviour, bool]] = {
    "answer": (Behaviour(), False),
    "stream": (Behaviour(), True),
    "failure": (Behaviour(status=500), False),
    "refusal": (Behaviour(status=400), True),
    "time-out": (Behaviour(stall="before_headers"), False),
    "cut": (Behaviour(cut_after_chunks=5), True),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_place_is_free_after(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object], end: str
) -> None:
    """
    However the one request that a customer may have at a time ends, the next one is served.
    """
    behaviour, stream = ENDS[end]
    simulator.set("live", behaviour)
    async with simulator.serve() as provider:
        config = configuration(provider, stores, max_concurrency=1)
        if behaviour.stall is not None:
            config["timeouts"] = {"connect_s": 0.5, "non_stream_s": 0.2}
        async with audited(tmp_path, config, simulator) as (world, _):
            await world.post({**BODY, "stream": stream})
            simulator.set("live", Behaviour())
            served = await world.post({**BODY, "stream": True})

    assert (served.status_code, simulator.calls()) == (200, 2)


@pytest.mark.parametrize(
    ("kind", "limit"), [("rate_limits", "1/day"), ("token_limits", "2000/day")]
)
async def test_a_refused_request_takes_no_place(
    tmp_path: Path, simulator: Simulator, stores: Mapping[str, object], kind: str, limit: str
) -> None:
    """
    With room for one call a day, the second and those after it are refused for that limit, and not
    for the one place that a customer has.
    """
    async with simulator.serve() as provider:
        config = configuration(provider, stores, max_concurrency=1, **{kind: [limit]})
        async with audited(tmp_path, config, simulator) as (world, _):
            served, *refused = [await world.post(BODY) for _ in range(4)]

    assert served.status_code == 200
    assert [each.json()["error"]["metadata"]["limit"] for each in refused] == [limit] * 3


@pytest.mark.parametrize("on_disconnect", ["drain", "cancel"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_place_is_free_when_its_client_leaves(
    tmp_path: Path,
    simulator: Simulator,
    stores: Mapping[str, object],
    on_disconnect: str,
    *,
    stream: bool,
) -> None:
    """
    A client that leaves frees its place at once, also where its answer is still read and its money
    held: the next request is at the provider while the first is not answered.
    """
    script: Script = (
        (STREAM, CONTENT, Act.WAIT, DONE, STREAM_END) if stream else (Act.WAIT, ANSWERED)
    )
    async with scripted_provider(*script) as provider:
        url = provider.url.removesuffix("/v1")
        config = configuration(url, stores, max_concurrency=1, on_disconnect=on_disconnect)
        async with audited(tmp_path, config, simulator) as (world, _):
            reader, writer = await connect(world)
            writer.write(request_bytes(world, stream=stream))
            await provider.wait_for(1)
            if stream:
                await reader.readuntil(b"Hello")
            refused = await world.post(BODY)
            await hang_up(writer)
            provider.script = (ANSWERED,)
            tries = 0
            while (served := await world.post(BODY)).status_code == 429:
                tries += 1
                assert tries < 500
            provider.go.set()

    assert told(refused) == TOO_MANY_AT_ONCE
    assert (served.status_code, len(provider.received)) == (200, 2)


def on_clock(clock: FakeClock, state_dir: Path) -> Callable[[Parts], Parts]:
    """Return what sets a relay with the embedded store on *clock*."""

    def change(parts: Parts) -> Parts:
        spend = LocalSpendStore(state_dir=state_dir, clock=clock, journal=parts.journal)
        services = replace(parts.services, spend=spend, clock=clock)
        upkeep = upkeep_of(
            services, parts.database, "worker", revision=lambda: parts.directory.revision
        )
        return replace(parts, services=services, spend=spend, upkeep=upkeep)

    return change


async def test_a_long_stream_keeps_its_place(tmp_path: Path, simulator: Simulator) -> None:
    """
    A stream of ten minutes, ten times as long as a hold lives that nobody touches, keeps its place
    and its money, and is settled; then the next one is served.
    """
    clock = FakeClock()
    async with scripted_provider(STREAM, CONTENT, Act.WAIT, DONE, STREAM_END) as provider:
        config = configuration(provider.url.removesuffix("/v1"), {}, max_concurrency=1)
        async with audited(
            tmp_path, config, simulator, change=on_clock(clock, tmp_path / "state")
        ) as (world, books):
            streaming = asyncio.create_task(world.post({**BODY, "stream": True}))
            await provider.wait_for(1)
            for _ in range(30):
                clock.advance(seconds=20)
                await books.parts.upkeep.touch()
                await books.parts.upkeep.do_round(1)
            refused = await world.post(BODY)
            provider.go.set()
            streamed = await streaming
            provider.script = (ANSWERED,)
            served = await world.post(BODY)
            states = [row["state"] for row in await world.ledger()]

    assert told(refused) == TOO_MANY_AT_ONCE
    assert (streamed.status_code, served.status_code) == (200, 200)
    assert states == ["settled", "settled"]
