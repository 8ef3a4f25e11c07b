"""
Embeddings, with the real client: over the direct wire, and translated.
"""

import base64
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import orjson
import pytest
from fixtures.provider import ScriptedProvider, scripted_provider
from fixtures.world import World, deployment, running, tiers

from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio

# text-embedding-3-small: $0.02 a million tokens.
INPUT = 20

GEMINI = {"embeddings": [{"values": [0.5, -2.0]}, {"values": [1.0, 0.25]}]}
"""Two vectors in Gemini's form. Source: Google AI for Developers, "Embeddings", read 2026-11-23."""


def answer(body: object) -> bytes:
    """A whole HTTP answer with *body* as JSON."""
    content = orjson.dumps(body)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(content) + content


@pytest.fixture(name="gemini")
async def _gemini() -> AsyncIterator[ScriptedProvider]:
    async with scripted_provider(answer(GEMINI)) as provider:
        yield provider


@pytest.fixture(name="world")
async def _world(tmp_path: Path, gemini: ScriptedProvider) -> AsyncIterator[World]:
    simulator = Simulator()
    async with simulator.serve() as provider:
        config = {
            "model_list": [
                deployment(provider, name="small", model="text-embedding-3-small"),
                {
                    "model_name": "gemini",
                    "litellm_params": {
                        "model": "gemini/gemini-embedding-001",
                        "api_base": gemini.url,
                        "api_key": "sk-operator",
                    },
                },
            ],
            **tiers(),
        }
        async with running(tmp_path, config, simulator) as world:
            yield world


@pytest.mark.parametrize(
    "given", ["twelve bytes", ["8 bytes.", "four"], [1, 2, 3], [[1], [2, 3]]], ids=str
)
async def test_all_forms_of_input(world: World, given: object) -> None:
    """
    A text, texts, tokens and lists of tokens: three tokens each (of four bytes, at the
    simulator) cost 60 nano-dollars.
    """
    async with world.client() as client:
        made = await client.embeddings.create(model="small", input=given)  # type: ignore[arg-type]  # every form at once

    extra = made.model_extra
    assert extra is not None
    assert (extra["relay"]["charge_nano_usd"], extra["relay"]["usage_source"]) == (
        3 * INPUT,
        "provider",
    )
    assert (extra["cost_cents"], extra["relay"]["output_tokens"]) == (0.000006, 0)
    (row,) = await world.ledger()
    assert (row["endpoint"], row["charge_nano_usd"]) == ("embeddings", 60)


async def test_numbers_and_base64_are_the_same(world: World) -> None:
    """
    The client's own default, base64, gives what `float` gives; `dimensions` is respected.
    """
    async with world.client() as client:
        as_text = await client.embeddings.create(model="small", input="x", dimensions=5)
        as_numbers = await client.embeddings.create(
            model="small", input="x", dimensions=5, encoding_format="float"
        )

    assert len(as_numbers.data[0].embedding) == 5
    assert as_text.data[0].embedding == pytest.approx(as_numbers.data[0].embedding, abs=1e-6)


async def test_what_is_held(world: World) -> None:
    """
    The hold bounds the input by the body's bytes, and nothing else.
    """
    body = b'{"model":"small","input":"a b c"}'

    await world.post(path="embeddings", content=body)

    (row,) = await world.ledger()
    assert row["hold_nano_usd"] == (len(body) + 16 + 64) * INPUT


async def test_without_usage_the_input_is_counted(world: World) -> None:
    """
    A provider that reports nothing is charged for by the bytes: 12 of them are 3 tokens.
    """
    world.simulator.set("live", Behaviour(usage="none"))

    made = await world.post({"model": "small", "input": "twelve bytes"}, path="embeddings")

    relay = made.json()["relay"]
    assert (relay["input_tokens"], relay["usage_source"]) == (3, "counted")
    assert made.json()["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


async def test_wrong_input_is_refused(world: World) -> None:
    """
    An input that is none is a 400 that names it, without a call.
    """
    async with world.client() as client:
        with pytest.raises(openai.BadRequestError, match="input is missing or empty"):
            await client.embeddings.create(model="small", input=[])

    assert world.simulator.calls() == 0


async def test_translated(world: World, gemini: ScriptedProvider) -> None:
    """
    Gemini's vectors come back in OpenAI's form, in base64 where that was asked for.
    """
    async with world.client() as client:
        made = await client.embeddings.create(model="gemini", input=["one", "two"])
    plain = await world.post(
        {"model": "gemini", "input": ["one", "two"], "encoding_format": "base64"},
        path="embeddings",
    )

    assert [item.embedding for item in made.data] == [[0.5, -2.0], [1.0, 0.25]]
    raw = base64.b64decode(plain.json()["data"][0]["embedding"])
    assert struct.unpack("<2f", raw) == (0.5, -2.0)
    assert b'"one"' in gemini.received[0].body
    rows = await world.ledger()
    assert [(row["provider"], row["state"]) for row in rows] == [("gemini", "settled")] * 2
