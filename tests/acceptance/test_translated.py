"""
A provider of another wire, over HTTP, behind the same client: the simulator speaks Anthropic's.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from fixtures.world import (
    CUSTOMER_HEADER,
    MESSAGES,
    World,
    anthropic,
    deployment,
    running,
    tiers,
)

from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio

# claude-haiku-4-5, nano-dollars a token: plain and cached input, written to the cache, output.
INPUT, CACHED, WRITTEN, OUTPUT = 1_000, 100, 1_250, 5_000

COUNTED = Behaviour(input_tokens=100, cached_input_tokens=40, output_tokens=10)
"""60 plain and 40 cached tokens of input, 10 of output."""
COUNTED_CHARGE = 60 * INPUT + 40 * CACHED + 10 * OUTPUT


@pytest.fixture(name="world")
async def _world(tmp_path: Path) -> AsyncIterator[World]:
    """`smart` is OpenAI's with Claude behind it, `claude` the other way round; `alone` is alone."""
    simulator = Simulator()
    async with simulator.serve() as provider:
        config = {
            "model_list": [
                deployment(provider, profile="gpt"),
                anthropic(provider, name="claude", profile="ant"),
                anthropic(provider, name="alone", profile="ant"),
            ],
            "router_settings": {
                "fallbacks": [{"smart": ["claude"]}, {"claude": ["smart"]}],
                "cooldown_time": 60,
            },
            "timeouts": {"connect_s": 0.5, "first_event_s": 1, "non_stream_s": 1},
            **tiers(),
        }
        async with running(tmp_path, config, simulator) as world:
            yield world


async def ask(world: World, *, model: str = "alone", stream: bool = False) -> dict[str, object]:
    """Ask with the real client; return the annotation, with the text in `said`."""
    async with world.client() as client:
        if not stream:
            answer = await client.chat.completions.create(model=model, messages=MESSAGES)
            assert answer.model_extra is not None
            return {**answer.model_extra["relay"], "said": answer.choices[0].message.content}
        chunks = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        said, last = "", None
        async for last in chunks:
            said += last.choices[0].delta.content or ""
        assert last is not None
        assert last.model_extra is not None
        return {**last.model_extra["relay"], "said": said}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_usage_and_price(world: World, *, stream: bool) -> None:
    """
    Anthropic counts the cache beside the input, Relay within it: each token is charged once.
    """
    world.simulator.set("ant", COUNTED)

    relay = await ask(world, stream=stream)

    assert (relay["input_tokens"], relay["cached_input_tokens"]) == (100, 40)
    assert (relay["charge_nano_usd"], relay["usage_source"]) == (COUNTED_CHARGE, "provider")
    assert (relay["provider"], relay["deployment_model"]) == ("anthropic", "claude-haiku-4-5")
    assert str(relay["said"]).startswith("Simulated answer to: Hello!")
    (row,) = await world.ledger()
    assert (row["charge_nano_usd"], row["state"]) == (COUNTED_CHARGE, "settled")


async def test_writes_to_the_cache_are_charged_as_such(world: World) -> None:
    """
    Hello! is 8 tokens there: 4 are read from the cache, 2 written to it, 2 plain.
    """
    relay = await ask(world)

    (row,) = await world.ledger()
    assert row["cache_write_input_tokens"] == 2
    output = row["output_tokens"]
    assert isinstance(output, int)
    assert relay["charge_nano_usd"] == 2 * INPUT + 4 * CACHED + 2 * WRITTEN + output * OUTPUT


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 529])
@pytest.mark.parametrize(("model", "dead", "served"), [("smart", "gpt", "anthropic"),
                                                       ("claude", "ant", "openai")])  # fmt: skip
async def test_one_chain_of_both_wires(
    world: World, model: str, dead: str, served: str, status: int, *, stream: bool
) -> None:
    """
    What one provider fails at the other one answers, whichever wire comes first.
    """
    world.simulator.set(dead, Behaviour(status=status))

    relay = await ask(world, model=model, stream=stream)

    assert (relay["provider"], relay["attempts"], relay["model"]) == (served, 2, model)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_silent_provider(world: World, *, stream: bool) -> None:
    """
    A translated deployment that says nothing in time is a time-out, and another one answers.
    """
    world.simulator.set("ant", Behaviour(stall="before_headers"))

    relay = await ask(world, model="claude", stream=stream)
    async with world.client() as client:
        with pytest.raises(openai.APIStatusError) as told:
            await client.chat.completions.create(model="alone", messages=MESSAGES, stream=stream)

    assert (relay["provider"], relay["attempts"]) == ("openai", 2)
    # `alone` shares nothing with `claude`: its own deployment is tried, and is late.
    assert (told.value.status_code, told.value.code) == (504, "upstream_timeout")


async def test_retry_after_of_a_translated_provider(world: World) -> None:
    """
    A 429 tells how long to wait: the client hears of it.
    """
    world.simulator.set("ant", Behaviour(status=429, retry_after_s=7))

    answer = await world.post({"model": "alone", "messages": MESSAGES})

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_refused_request(world: World, *, stream: bool) -> None:
    """
    A provider's 400 is the client's, in the provider's words without its host and key.
    """
    world.simulator.set("ant", Behaviour(status=400, error_message="messages.0: too odd for me"))

    answer = await world.post({"model": "claude", "messages": MESSAGES, "stream": stream})

    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "messages.0: too odd for me"
    (row,) = await world.ledger()
    assert (row["charge_nano_usd"], row["state"]) == (0, "released")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_request_that_cannot_be_translated(world: World, *, stream: bool) -> None:
    """
    A client that sends what no translation fits gets a 400; the deployment stays in use for others.
    """
    odd = {"model": "alone", "messages": MESSAGES, "tools": [{"type": "function"}]}

    answers = [await world.post({**odd, "stream": stream}) for _ in range(5)]
    relay = await ask(world)

    assert [answer.status_code for answer in answers] == [400] * 5
    assert {answer.json()["error"]["code"] for answer in answers} == {"untranslatable"}
    assert relay["attempts"] == 1


async def test_pictures_are_not_fetched(world: World) -> None:
    """
    An address that LiteLLM would fetch itself is refused: a client cannot make Relay call it.
    """
    part = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}

    answer = await world.post({"model": "alone", "messages": [{"role": "user", "content": [part]}]})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "image_not_fetched")
    assert world.simulator.calls() == 0


async def test_a_stream_that_is_cut(world: World) -> None:
    """
    A stream cut after content is charged for what came, and ends with an error and the cost.
    """
    world.simulator.set("ant", Behaviour(cut_after_chunks=6, chunk_delay_s=0.05))

    answer = await world.post({"model": "claude", "messages": MESSAGES, "stream": True})

    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    last = json.loads(events[-2])
    assert events[-1] == "[DONE]"
    assert (last["error"]["code"], last["relay"]["usage_source"]) == (
        "upstream_error",
        "counted",
    )
    assert last["relay"]["charge_nano_usd"] > 0
    (row,) = await world.ledger()
    assert (row["state"], row["charge_nano_usd"]) == ("settled", last["relay"]["charge_nano_usd"])


async def test_a_stream_that_fails(world: World) -> None:
    """
    An error event in a stream, after content, ends it; the provider's words stay inside.
    """
    world.simulator.set("ant", Behaviour(stream_error_after_chunks=6, chunk_delay_s=0.05))

    answer = await world.post({"model": "claude", "messages": MESSAGES, "stream": True})

    assert '"code":"upstream_error"' in answer.text
    assert "simulator.invalid" not in answer.text


async def test_a_stream_without_usage_is_counted(world: World) -> None:
    """
    Where the provider reports nothing, LiteLLM's own count is not passed off as its word.
    """
    world.simulator.set("ant", Behaviour(usage="none"))

    relay = await ask(world, stream=True)

    assert relay["usage_source"] == "counted"


async def test_a_client_that_leaves(world: World) -> None:
    """
    The provider's stream is read to its end though the client has gone, and charged as reported.
    """
    world.simulator.set("ant", Behaviour(output_tokens=30, chunk_delay_s=0.02))
    async with world.client() as client:
        stream = await client.chat.completions.create(model="alone", messages=MESSAGES, stream=True)
        await anext(aiter(stream))
        await stream.close()

    rows = await world.ledger()

    assert [(row["output_tokens"], row["usage_source"]) for row in rows] == [(30, "provider")]


async def test_what_is_not_told_is_named(world: World) -> None:
    """
    Members that Claude does not take are left out, and a header names them; an OpenAI-wire
    deployment gets them all.
    """
    body = {"messages": MESSAGES, "seed": 4, "metadata": {"a": "b"}, "temperature": 0.5}

    claude = await world.post({"model": "alone", **body})
    stream = await world.post({"model": "alone", **body, "stream": True})
    gpt = await world.post({"model": "smart", **body})

    assert claude.headers["x-relay-dropped-parameters"] == "metadata,seed"
    assert stream.headers["x-relay-dropped-parameters"] == "metadata,seed"
    assert "x-relay-dropped-parameters" not in gpt.headers
    sent = json.loads(world.simulator.requests[0].body)
    assert (sent["temperature"], "seed" in sent) == (0.5, False)


@pytest.mark.parametrize(("asked", "sent"), [(None, 4096), (50, 50)])
async def test_the_cap_that_is_held_is_the_cap_that_is_sent(
    world: World, asked: int | None, sent: int
) -> None:
    """
    A customer with a limit gets the cap its hold was made for, also where it named none.
    """
    body = {"model": "alone", "messages": MESSAGES, "max_completion_tokens": asked}

    await world.post(body)

    assert json.loads(world.simulator.requests[0].body)["max_tokens"] == sent
    (row,) = await world.ledger()
    hold, charge = row["hold_nano_usd"], row["charge_nano_usd"]
    assert isinstance(hold, int)
    assert isinstance(charge, int)
    assert charge <= hold
    assert row["is_bound_exact"] in (False, 0)


async def test_no_translated_answer_stays_open(world: World) -> None:
    """
    A client that leaves in the middle of a slow answer does not keep the provider's connection
    beyond the time that it may be read on.
    """
    world.simulator.set("ant", Behaviour(stall="before_headers"))
    task = asyncio.create_task(world.post({"model": "alone", "messages": MESSAGES}))

    await asyncio.to_thread(world.simulator.wait_for_calls, 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.to_thread(world.simulator.wait_for_disconnects, 1)

    assert world.simulator.disconnects() == 1


async def test_the_keys_stay_where_they_belong(world: World) -> None:
    """
    The provider gets the operator's key in its own header, and nothing of the client's.
    """
    await world.post({"model": "alone", "messages": MESSAGES, "user": "u"})

    (request,) = world.simulator.requests
    assert request.headers["x-api-key"].endswith("cret")
    assert CUSTOMER_HEADER.lower() not in request.headers
    assert world.secret not in str(request)
