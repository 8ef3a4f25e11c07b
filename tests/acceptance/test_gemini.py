"""
A provider of a third shape: recorded answers of Gemini, played on loopback and translated for real.
"""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fixtures.provider import ScriptedProvider, answer, scripted_provider
from fixtures.recorded import recorded
from fixtures.world import MESSAGES, World, deployment, running, tiers

from relay_middleware.testing import Behaviour, Simulator

pytestmark = [
    pytest.mark.anyio,
    # LiteLLM's, of pydantic, while it looks whether a chunk is empty.
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
]

# Nano-dollars a token, as LiteLLM's table has them.
FLASH_INPUT, FLASH_CACHED, FLASH_OUTPUT = 300, 30, 2_500
FLASH_PRIORITY_INPUT, FLASH_PRIORITY_OUTPUT = 540, 4_500
PRO_INPUT, PRO_OUTPUT = 1_250, 10_000
# The table does not know `gemini-3-pro-preview`: its price is configured.
PREVIEW_INPUT, PREVIEW_OUTPUT = 2_000, 12_000

TOOL = {
    "type": "function",
    "function": {
        "name": "get_capital",
        "parameters": {
            "type": "object",
            "properties": {"country": {"type": "string"}},
            "required": ["country"],
        },
    },
}


@pytest.fixture(name="google", scope="module")
async def _google() -> AsyncIterator[ScriptedProvider]:
    async with scripted_provider() as provider:
        yield provider


def gemini(google: ScriptedProvider, model: str, **more: object) -> dict[str, object]:
    """Return a `model_list` entry, named as the model, that points at *google*."""
    base = google.url.replace("/v1", "/v1beta")
    params = {"model": f"gemini/{model}", "api_base": base, "api_key": "AIza-operator", **more}
    return {"model_name": model, "litellm_params": params}


@pytest.fixture(name="world", scope="module")
async def _world(
    google: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """Three models at Gemini, each by its own name; a customer may spend 100 dollars."""
    preview = {"input_cost_per_token": 0.000002, "output_cost_per_token": 0.000012}
    config = {
        "model_list": [
            gemini(google, "gemini-2.5-flash"),
            gemini(google, "gemini-2.5-pro"),
            gemini(google, "gemini-3-pro-preview", **preview),
        ],
        **tiers(spend_limits=[{"cents": 10_000, "per": "month"}]),
    }
    folder: Path = tmp_path_factory.mktemp("gemini")
    async with running(folder, config, Simulator()) as world:
        yield world


async def ask(world: World, model: str, **asked: Any) -> Any:
    """Ask with the real client; return the answer, or a stream's chunks."""
    asked = {"messages": MESSAGES, **asked}
    async with world.client() as client:
        if not asked.pop("stream", False):
            return await client.chat.completions.create(model=model, **asked)
        stream = await client.chat.completions.create(model=model, stream=True, **asked)
        return [chunk async for chunk in stream]


def relay_of(answer: Any) -> dict[str, Any]:
    """Return the annotation, its two ways of telling the charge compared."""
    relay: dict[str, Any] = answer.model_extra["relay"]
    assert Decimal(str(answer.model_extra["cost_cents"])) * 10_000_000 == relay["charge_nano_usd"]
    return relay


async def test_text_and_counted_thoughts(world: World, google: ScriptedProvider) -> None:
    """
    Gemini counts 244 thoughts beside 28 tokens of text: 272 of output are charged.
    """
    google.script = recorded("gemini/strawberry.json")

    answer = await ask(world, "gemini-3-pro-preview")

    relay = relay_of(answer)
    assert answer.choices[0].message.content.startswith("There are **3** r's in strawberry.")
    assert answer.choices[0].finish_reason == "stop"
    assert (relay["input_tokens"], relay["output_tokens"]) == (9, 28 + 244)
    assert answer.usage.completion_tokens_details.reasoning_tokens == 244
    assert relay["charge_nano_usd"] == 9 * PREVIEW_INPUT + 272 * PREVIEW_OUTPUT
    assert (relay["provider"], relay["usage_source"]) == ("gemini", "provider")


async def test_the_provider_s_own_path_and_key(world: World, google: ScriptedProvider) -> None:
    """
    The call goes to Google's path for the model, with Google's header for the operator's key.
    """
    google.script = recorded("gemini/strawberry.json")
    await ask(world, "gemini-3-pro-preview")
    google.script = recorded("gemini/count.jsonl")
    await ask(world, "gemini-2.5-flash", stream=True)

    whole, stream = google.received[-2:]
    assert whole.target == "/v1beta/models/gemini-3-pro-preview:generateContent"
    assert stream.target == "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    for request in (whole, stream):
        assert request.headers["x-goog-api-key"] == "AIza-operator"
        assert world.secret not in str(request)


async def test_cached_input_and_input_of_tools(world: World, google: ScriptedProvider) -> None:
    """
    Of 19 tokens 3 come from the cache; 63 that Google's own tools read are input too.
    """
    google.script = recorded("gemini/cached.json")

    answer = await ask(world, "gemini-2.5-flash")

    relay = relay_of(answer)
    assert (relay["input_tokens"], relay["cached_input_tokens"]) == (19 + 63, 3)
    assert relay["output_tokens"] == 4 + 56
    assert relay["charge_nano_usd"] == (
        (16 + 63) * FLASH_INPUT + 3 * FLASH_CACHED + (4 + 56) * FLASH_OUTPUT
    )


async def test_a_stream_is_charged_once(world: World, google: ScriptedProvider) -> None:
    """
    Every event repeats the usage, and grows it: the last one counts, 80 tokens and 35 thoughts.
    """
    google.script = recorded("gemini/count.jsonl")

    chunks = await ask(world, "gemini-2.5-flash", stream=True)

    relay = relay_of(chunks[-1])
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.split("\n") == [str(number) for number in range(1, 31)]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert (relay["input_tokens"], relay["output_tokens"]) == (18, 115)
    assert relay["charge_nano_usd"] == 18 * FLASH_INPUT + 115 * FLASH_OUTPUT


async def test_thoughts_that_are_shown(world: World, google: ScriptedProvider) -> None:
    """
    Thoughts come apart from the text, and are charged as output: 387 tokens and 759 of thoughts.
    """
    google.script = recorded("gemini/street.jsonl")

    chunks = await ask(world, "gemini-2.5-pro", stream=True, reasoning_effort="low")

    deltas = [chunk.choices[0].delta for chunk in chunks]
    thoughts = "".join(getattr(delta, "reasoning_content", "") for delta in deltas)
    text = "".join(delta.content or "" for delta in deltas)
    relay = relay_of(chunks[-1])
    assert thoughts.startswith("**Defining the Goal**")
    assert text.startswith("Here is a step-by-step guide to crossing the street safely")
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == 759
    assert relay["charge_nano_usd"] == 34 * PRO_INPUT + (387 + 759) * PRO_OUTPUT
    sent = json.loads(google.received[-1].body)
    assert sent["generationConfig"]["thinkingConfig"]["includeThoughts"] is True


async def test_a_conversation_with_a_tool(world: World, google: ScriptedProvider) -> None:
    """
    Two calls of a tool and the answer: names, arguments, results and signatures get there and back.
    """
    messages: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
    turns = []
    for turn, result in ((1, "Use La France instead."), (2, "Paris"), (3, None)):
        google.script = recorded(f"gemini/capital-{turn}.json")
        answer = await ask(world, "gemini-2.5-pro", messages=messages, tools=[TOOL])
        turns.append(answer)
        message = answer.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if message.tool_calls:
            call = message.tool_calls[0]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

    calls = [turn.choices[0].message.tool_calls[0].function for turn in turns[:2]]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("get_capital", {"country": "France"}),
        ("get_capital", {"country": "La France"}),
    ]
    assert turns[2].choices[0].message.content == "The capital of France is Paris."
    assert [turn.choices[0].finish_reason for turn in turns] == ["tool_calls", "tool_calls", "stop"]
    assert [relay_of(turn)["charge_nano_usd"] for turn in turns] == [
        57 * PRO_INPUT + (15 + 111) * PRO_OUTPUT,
        109 * PRO_INPUT + (16 + 147) * PRO_OUTPUT,
        142 * PRO_INPUT + (7 + 101) * PRO_OUTPUT,
    ]
    sent = google.received[-1].body.decode()
    for part in ("Ct8DAXLI2nzyZB3noFDSNOb6", "CtUFAXLI2nxgt22EiUCfSwcU", "La France", "Paris"):
        assert part in sent
    assert "__thought__" not in sent


async def test_a_streamed_conversation_with_a_tool(world: World, google: ScriptedProvider) -> None:
    """
    A streamed call of a tool and the answer after it; its last event corrects 55 tokens to 165.
    """
    messages: list[Any] = [{"role": "user", "content": "What is the capital of my country?"}]
    google.script = recorded("gemini/country-1.jsonl")
    first = await ask(world, "gemini-3-pro-preview", stream=True, messages=messages, tools=[TOOL])
    (call,) = [call for chunk in first for call in chunk.choices[0].delta.tool_calls or ()]
    function = {"name": call.function.name, "arguments": call.function.arguments}
    calls = [{"id": call.id, "type": "function", "function": function}]
    messages += [
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": call.id, "content": "Mexico"},
    ]
    google.script = recorded("gemini/country-2.jsonl")
    second = await ask(world, "gemini-3-pro-preview", stream=True, messages=messages, tools=[TOOL])

    assert (function, first[-1].choices[0].finish_reason) == (
        {"name": "get_country", "arguments": "{}"},
        "tool_calls",
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in second)
    assert text == "The capital of Mexico is Mexico City."
    assert "Et8ECtwEAXLI2nyCB1jKZUE4" in google.received[-1].body.decode()
    assert [relay_of(turn[-1])["charge_nano_usd"] for turn in (first, second)] == [
        29 * PREVIEW_INPUT + (10 + 110) * PREVIEW_OUTPUT,
        165 * PREVIEW_INPUT + 8 * PREVIEW_OUTPUT,
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_the_tier_that_was_served(
    world: World, google: ScriptedProvider, *, stream: bool
) -> None:
    """
    Google tells in a header that it served the priority tier, which costs 1.8 times as much.
    """
    name = "gemini/count.jsonl" if stream else "gemini/cached.json"
    google.script = recorded(name, headers="x-gemini-service-tier: priority\r\n")

    told = await ask(world, "gemini-2.5-flash", stream=stream, service_tier="priority")

    charge = relay_of(told[-1] if stream else told)["charge_nano_usd"]
    assert charge == (
        18 * FLASH_PRIORITY_INPUT + 115 * FLASH_PRIORITY_OUTPUT
        if stream
        else 79 * FLASH_PRIORITY_INPUT + 3 * 54 + 60 * FLASH_PRIORITY_OUTPUT
    )
    assert json.loads(google.received[-1].body)["serviceTier"] == "priority"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_pictures_and_json(world: World, google: ScriptedProvider, *, stream: bool) -> None:
    """
    A picture goes out as data, a wish for JSON as Google's own, without a schema too.
    """
    google.script = recorded("gemini/count.jsonl" if stream else "gemini/cached.json")
    url = "data:image/png;base64,iVBORw0KGgo="
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]

    answer = await world.post(
        {
            "model": "gemini-2.5-flash",
            "messages": [{"role": "user", "content": parts}],
            "response_format": {"type": "json_object"},
            "stream": stream,
        }
    )

    sent = json.loads(google.received[-1].body)
    assert answer.status_code == 200
    assert "x-relay-dropped-parameters" not in answer.headers
    assert "iVBORw0KGgo=" in json.dumps(sent["contents"])
    assert sent["generationConfig"]["response_mime_type"] == "application/json"


async def test_separators_do_not_cut_a_stream(world: World, google: ScriptedProvider) -> None:
    """
    U+2028 in a text of Google's is not taken for the end of a line: text and usage come whole.
    """
    google.script = recorded("gemini/count.jsonl", change=('"0"', '"\u2028"'))

    chunks = await ask(world, "gemini-2.5-flash", stream=True)

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.endswith("3\u2028")
    assert relay_of(chunks[-1])["output_tokens"] == 115


async def test_a_refusal_is_the_client_s(world: World, google: ScriptedProvider) -> None:
    """
    Google's 400 is told in its words.
    """
    error = {"code": 400, "message": "Thinking level is not supported.", "status": "INVALID"}
    google.script = [answer({"error": error}, status=400)]

    told = await world.post({"model": "gemini-2.5-flash", "messages": MESSAGES})

    assert (told.status_code, told.json()["error"]["message"]) == (400, error["message"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_one_chain_of_both_wires(
    google: ScriptedProvider, tmp_path: Path, *, stream: bool
) -> None:
    """
    What OpenAI's wire fails at Gemini answers, and the other way round, each at its own price.
    """
    simulator = Simulator()
    simulator.set("live", Behaviour(status=500, fail_first=1, input_tokens=10, output_tokens=6))
    body = "gemini/count.jsonl" if stream else "gemini/cached.json"
    async with simulator.serve() as provider:
        config = {
            "model_list": [deployment(provider), gemini(google, "gemini-2.5-flash")],
            "router_settings": {
                "fallbacks": [{"smart": ["gemini-2.5-flash"]}, {"gemini-2.5-flash": ["smart"]}],
                "cooldown_time": 1,
            },
            **tiers(),
        }
        async with running(tmp_path, config, simulator) as world:
            google.script = recorded(body)
            to_gemini = await ask(world, "smart", stream=stream)
            google.script = recorded("gemini/quota.json", status=429)
            simulator.set("live", Behaviour(input_tokens=10, output_tokens=6))
            to_openai = await ask(world, "gemini-2.5-flash", stream=stream)

    there, back = (relay_of(told[-1] if stream else told) for told in (to_gemini, to_openai))
    assert (there["provider"], there["model"], there["attempts"]) == ("gemini", "smart", 2)
    assert there["charge_nano_usd"] == (
        18 * FLASH_INPUT + 115 * FLASH_OUTPUT
        if stream
        else 79 * FLASH_INPUT + 3 * FLASH_CACHED + 60 * FLASH_OUTPUT
    )
    assert (back["provider"], back["attempts"]) == ("openai", 2)
    # gpt-4o-mini: 5 plain and 5 cached tokens of input, 6 of output.
    assert back["charge_nano_usd"] == 5 * 150 + 5 * 75 + 6 * 600
    assert there.keys() == back.keys()


def growing(levels: int) -> dict[str, object]:
    """A schema whose definitions each point to the next one twice."""
    definitions: dict[str, object] = {
        f"d{level}": {
            "type": "object",
            "properties": {side: {"$ref": f"#/$defs/d{level + 1}"} for side in ("left", "right")},
        }
        for level in range(levels)
    }
    definitions[f"d{levels}"] = {"type": "string"}
    return {"type": "object", "$defs": definitions, "properties": {"x": {"$ref": "#/$defs/d0"}}}


def leading_back() -> dict[str, object]:
    """A schema of three definitions, each of which points to itself and to the next one."""
    definitions = {
        f"d{number}": {
            "type": "object",
            "properties": {
                "own": {"$ref": f"#/definitions/d{number}"},
                "next": {"$ref": f"#/definitions/d{(number + 1) % 3}"},
            },
        }
        for number in range(3)
    }
    properties = {"x": {"$ref": "#/definitions/d0"}}
    return {"type": "object", "definitions": definitions, "properties": properties}


def wide() -> dict[str, object]:
    """A schema of 3,000 definitions and as many objects beside them."""
    return {
        "type": "object",
        "definitions": {f"d{number}": {"type": "string"} for number in range(3_000)},
        "properties": {f"p{number}": {"type": "string"} for number in range(3_000)},
    }


@pytest.mark.parametrize("schema", [growing(24), leading_back(), wide()], ids=["2^24", "3", "wide"])
async def test_schemas_without_end_hold_nobody_up(
    world: World, google: ScriptedProvider, schema: dict[str, object]
) -> None:
    """
    References of 2 KB that LiteLLM would replace by gigabytes are a 400, in a tool and in an
    answer's form; a tool whose definition points to itself is served.
    """
    google.script = recorded("gemini/strawberry.json")
    body = {"model": "gemini-2.5-flash", "messages": MESSAGES}
    function = {"name": "f", "parameters": schema}
    form = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}
    asked = [{"tools": [{"type": "function", "function": function}]}, {"response_format": form}]

    refused = [await world.post({**body, **each}) for each in asked]

    assert [answer.status_code for answer in refused] == [400, 400]
    assert {answer.json()["error"]["code"] for answer in refused} == {"schema_too_large"}
    own = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    tree = {"type": "object", "$defs": {"node": own}, "properties": {"root": {"$ref": "node"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": tree}}]
    served = await world.post({**body, "tools": tools})
    assert served.status_code == 200


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "tool_call_id": "c1", "content": "of a call that is not there"},
        {"role": "wizard", "content": "Hello!"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "no address"}}]},
    ],
    ids=["tool", "role", "picture"],
)
async def test_a_message_that_gemini_has_no_form_for_is_the_client_s(
    world: World, google: ScriptedProvider, message: dict[str, object]
) -> None:
    """
    Five of them are five 400s, though LiteLLM raises no class of its own; the deployment stays in
    use for others, at the first try.
    """
    google.script = recorded("gemini/strawberry.json")
    body = {"model": "gemini-2.5-flash", "messages": [message]}

    answers = [await world.post(body) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [400] * 5
    assert {answer.json()["error"]["code"] for answer in answers} == {"untranslatable"}
    assert relay_of(await ask(world, "gemini-2.5-flash"))["attempts"] == 1
