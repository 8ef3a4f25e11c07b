"""
The real OpenAI client, over sockets, must see nothing odd.
"""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import anyio
import openai
import pytest
from fixtures.world import CUSTOMER_HEADER, MESSAGES, World, deployment, running, tiers

from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio


@pytest.fixture(name="world")
async def _world(tmp_path: Path) -> AsyncIterator[World]:
    simulator = Simulator()
    async with simulator.serve() as provider:
        config = {"model_list": [deployment(provider)], **tiers()}
        async with running(tmp_path, config, simulator) as world:
            yield world


async def test_answer(world: World) -> None:
    """
    An answer is the provider's, unknown fields included, with cost and route beside it.
    """
    async with world.client() as client:
        answer = await client.chat.completions.create(model="smart", messages=MESSAGES)

    extra = answer.model_extra
    assert extra is not None
    assert answer.choices[0].message.content is not None
    assert answer.choices[0].message.content.startswith("Simulated answer to: Hello!")
    assert extra["x_simulator"] == {"profile": "live", "call": 1}
    assert answer.usage is not None
    cached = answer.usage.prompt_tokens_details
    assert cached is not None
    # gpt-4o-mini: $0.15 a million input tokens, $0.075 cached, $0.60 output.
    tokens = (answer.usage.prompt_tokens, cached.cached_tokens, answer.usage.completion_tokens)
    expected = 150 * (tokens[0] - (tokens[1] or 0)) + 75 * (tokens[1] or 0) + 600 * tokens[2]
    assert extra["relay"]["charge_nano_usd"] == expected
    assert Decimal(str(extra["cost_cents"])) * 10_000_000 == expected
    assert extra["relay"]["customer_id"] == "alice"
    assert extra["relay"]["attempts"] == 1


async def test_raw_response_has_the_headers(world: World) -> None:
    """
    `with_raw_response` shows in headers what the body says.
    """
    async with world.client() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="smart", messages=MESSAGES
        )

    relay = (raw.parse().model_extra or {})["relay"]
    assert raw.headers["x-request-id"] == relay["request_id"]
    assert raw.headers["x-relay-customer"] == "alice"
    assert raw.headers["x-relay-attempts"] == "1"
    cents = Decimal(raw.headers["x-relay-cost-cents"])
    assert cents * 10_000_000 == relay["charge_nano_usd"]
    remaining = Decimal(raw.headers["x-relay-spend-remaining-cents"])
    assert remaining == 100 - cents


async def test_stream_without_usage(world: World) -> None:
    """
    Every chunk has a choice, as the client expects, and the last one carries usage and cost.
    """
    async with world.client() as client:
        stream = await client.chat.completions.create(model="smart", messages=MESSAGES, stream=True)
        chunks = [chunk async for chunk in stream]

    assert all(chunk.choices for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.startswith("Simulated answer to: Hello!")
    last = chunks[-1]
    assert last.choices[0].finish_reason == "stop"
    assert last.usage is not None
    assert last.usage.prompt_tokens > 0
    assert (last.model_extra or {})["relay"]["usage_source"] == "provider"
    assert not any("relay" in (chunk.model_extra or {}) for chunk in chunks[:-1])


async def test_stream_with_usage(world: World) -> None:
    """
    A client that asks for stream usage gets OpenAI's last chunk without choices, annotated.
    """
    async with world.client() as client:
        stream = await client.chat.completions.create(
            model="smart",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

    last = chunks[-1]
    assert last.choices == []
    assert last.usage is not None
    assert (last.model_extra or {})["cost_cents"] > 0
    assert chunks[-2].choices[0].finish_reason == "stop"


async def test_stream_and_answer_cost_the_same(world: World) -> None:
    """
    The same request costs the same either way: both go through one reading of usage.
    """
    async with world.client() as client:
        answer = await client.chat.completions.create(model="smart", messages=MESSAGES)
        stream = await client.chat.completions.create(model="smart", messages=MESSAGES, stream=True)
        chunks = [chunk async for chunk in stream]

    whole, streamed = answer.model_extra or {}, chunks[-1].model_extra or {}
    assert whole["cost_cents"] == streamed["cost_cents"]


def ask_synchronously(world: World) -> tuple[str | None, int]:
    with openai.OpenAI(
        base_url=f"{world.url}/v1",
        api_key=world.secret,
        default_headers={CUSTOMER_HEADER: "alice"},
    ) as client:
        answer = client.chat.completions.create(model="smart", messages=MESSAGES)
        stream = client.chat.completions.create(model="smart", messages=MESSAGES, stream=True)
        return answer.choices[0].message.content, len(list(stream))


async def test_synchronous_client(world: World) -> None:
    """
    The synchronous client works alike, whole and streamed.
    """
    text, chunks = await anyio.to_thread.run_sync(ask_synchronously, world)

    assert text is not None
    assert chunks > 2


async def test_tools(world: World) -> None:
    """
    A tool call comes through, whole and in pieces.
    """
    tool: openai.types.chat.ChatCompletionToolParam = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "strict": True,
            "parameters": {"type": "object", "properties": {}},
        },
    }
    async with world.client() as client:
        answer = await client.chat.completions.create(
            model="smart", messages=MESSAGES, tools=[tool]
        )
        async with client.chat.completions.stream(
            model="smart", messages=MESSAGES, tools=[tool]
        ) as stream:
            streamed = await stream.get_final_completion()

    for completion in (answer, streamed):
        calls = completion.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].type == "function"
        assert calls[0].function.name == "get_weather"
        assert completion.choices[0].finish_reason == "tool_calls"


async def test_response_format(world: World) -> None:
    """
    A wanted form reaches the provider, which answers in JSON.
    """
    async with world.client() as client:
        answer = await client.chat.completions.create(
            model="smart", messages=MESSAGES, response_format={"type": "json_object"}
        )

    assert (answer.choices[0].message.content or "").startswith("{")


async def test_two_choices(world: World) -> None:
    """
    With n=2 both answers come, whole and streamed, and both are charged.
    """
    async with world.client() as client:
        one = await client.chat.completions.create(model="smart", messages=MESSAGES)
        two = await client.chat.completions.create(model="smart", messages=MESSAGES, n=2)
        stream = await client.chat.completions.create(
            model="smart", messages=MESSAGES, n=2, stream=True
        )
        chunks = [chunk async for chunk in stream]

    assert [choice.index for choice in two.choices] == [0, 1]
    assert (two.model_extra or {})["cost_cents"] > (one.model_extra or {})["cost_cents"]
    finished = [c.index for chunk in chunks for c in chunk.choices if c.finish_reason]
    assert finished == [0, 1]
    assert (chunks[-1].model_extra or {})["cost_cents"] == (two.model_extra or {})["cost_cents"]


async def test_image_input(world: World) -> None:
    """
    An image reaches the provider untouched; its hold is what the model can take at most.
    """
    url = "data:image/png;base64,iVBORw0KGgo="
    async with world.client() as client:
        await client.chat.completions.create(
            model="smart",
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": url}},
                    ],
                }
            ],
            max_tokens=10,
        )

    assert url.encode() in world.simulator.requests[-1].body
    (row,) = await world.ledger()
    # gpt-4o-mini takes 128,000 tokens at $0.15 a million; 10 more come out at $0.60.
    assert row["hold_nano_usd"] == 128_000 * 150 + 10 * 600
    assert row["is_bound_exact"] == 0


async def test_unknown_fields_reach_the_provider(world: World) -> None:
    """
    What Relay does not know goes out as it came; only model, cap and stream usage are written.
    """
    async with world.client() as client:
        await client.chat.completions.create(
            model="smart",
            messages=MESSAGES,
            stream=True,
            max_tokens=7,
            extra_body={"x_new": {"deep": [1.5, None, "é"]}, "seed": 2**53},
        )

    sent = json.loads(world.simulator.requests[-1].body)
    assert sent == {
        "model": "gpt-4o-mini",
        "messages": MESSAGES,
        "stream": True,
        "max_tokens": 7,
        "x_new": {"deep": [1.5, None, "é"]},
        "seed": 2**53,
        "stream_options": {"include_usage": True},
    }


async def test_models(world: World) -> None:
    """
    The list of models, and one of them, as the client reads them.
    """
    async with world.client(customer=None) as client:
        models = await client.models.list()
        one = await client.models.retrieve("smart")

    assert [model.id for model in models.data] == ["smart"]
    assert one.id == "smart"


async def test_provider_error_is_the_clients_exception(world: World) -> None:
    """
    A provider's 400 is the client's `BadRequestError`, its host and key redacted.
    """
    world.simulator.set("live", Behaviour(status=400, error_code="bad_thing", error_param="x"))

    async with world.client() as client:
        with pytest.raises(openai.BadRequestError) as raised:
            await client.chat.completions.create(model="smart", messages=MESSAGES)

    assert (raised.value.code, raised.value.param) == ("bad_thing", "x")
    assert "sk-sim" not in str(raised.value)
    assert "simulator.invalid" not in str(raised.value)


async def test_error_inside_a_stream_is_an_exception(world: World) -> None:
    """
    A provider that breaks off after content: the client raises, and what came was charged.
    """
    world.simulator.set("live", Behaviour(cut_after_chunks=3))

    async with world.client() as client:
        stream = await client.chat.completions.create(model="smart", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            [chunk async for chunk in stream]

    (row,) = await world.ledger()
    assert (row["state"], row["usage_source"]) == ("settled", "counted")
    assert int(str(row["charge_nano_usd"])) > 0
